//! What belongs to one term of leadership, and goes with it.
//!
//! A manager may lead, follow another for a while, and lead again. Whatever it knew of the nodes in its first term (sessions and their
//! deadlines, who listens for questions, reports on their way) is wrong in the next: others have led since. So a term's work owns such
//! things: they are made when it begins and dropped when it ends, and whoever holds on to them finds that their term is over.

use std::{ops::Deref, sync::Arc, time::Duration};

use proto::error::ApiError;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::store::Leadership;

/// How long a request waits for the work of a term to begin in which this manager is known to lead: the one follows the other at once.
const BEGINS: Duration = Duration::from_secs(1);

/// A thing that there is while this manager leads, another one in each term. Clones share one state.
pub struct PerTerm<T> {
    leadership: watch::Receiver<Leadership>,
    current: Arc<watch::Sender<Option<Arc<Term<T>>>>>,
}

impl<T> Clone for PerTerm<T> {
    fn clone(&self) -> Self {
        Self { leadership: self.leadership.clone(), current: self.current.clone() }
    }
}

/// The thing, in one term.
pub struct Term<T> {
    number: u64,
    over: CancellationToken,
    value: T,
}

impl<T> Term<T> {
    /// Cancelled when the term is over.
    pub fn over(&self) -> &CancellationToken {
        &self.over
    }
}

impl<T> Deref for Term<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A term that has begun: it is over when this is dropped.
pub struct TermGuard<T> {
    of: PerTerm<T>,
    term: Arc<Term<T>>,
}

impl<T> TermGuard<T> {
    /// The thing.
    pub fn term(&self) -> &Arc<Term<T>> {
        &self.term
    }
}

impl<T> Drop for TermGuard<T> {
    fn drop(&mut self) {
        self.of.current.send_if_modified(|current| {
            let ours = current.as_ref().is_some_and(|c| Arc::ptr_eq(c, &self.term));
            if ours {
                *current = None;
            }
            ours
        });
        self.term.over.cancel();
    }
}

impl<T> PerTerm<T> {
    /// With no term yet; `leadership` says which one this manager leads in.
    pub fn new(leadership: watch::Receiver<Leadership>) -> Self {
        Self { leadership, current: Arc::new(watch::Sender::new(None)) }
    }

    /// Begins raft's term `number` with what `make` makes; it is told how it hears that the term is over.
    pub fn begin(&self, number: u64, make: impl FnOnce(&CancellationToken) -> T) -> TermGuard<T> {
        let over = CancellationToken::new();
        let value = make(&over);
        let term = Arc::new(Term { number, over, value });
        self.current.send_replace(Some(term.clone()));
        TermGuard { of: self.clone(), term }
    }

    /// The thing of the term in which this manager leads now; none while it does not.
    pub fn now(&self) -> Option<Arc<Term<T>>> {
        self.current.borrow().clone().filter(|term| self.leads_in(term.number))
    }

    /// The same for a request, which may come between an election and the beginning of the term's work.
    ///
    /// # Errors
    /// This manager does not lead, or no longer.
    pub async fn get(&self) -> Result<Arc<Term<T>>, ApiError> {
        if !self.leadership.borrow().is_leader() {
            return Err(no_longer_leads());
        }
        let mut current = self.current.subscribe();
        let begins = async {
            let leads = |term: &Option<Arc<Term<T>>>| term.as_ref().is_some_and(|t| self.leads_in(t.number));
            current.wait_for(leads).await.ok().and_then(|term| term.clone())
        };
        timeout(BEGINS, begins).await.ok().flatten().ok_or_else(no_longer_leads)
    }

    fn leads_in(&self, number: u64) -> bool {
        *self.leadership.borrow() == Leadership::Leader { term: number }
    }
}

/// What is said to who asks for something of a term that is over.
pub(crate) fn no_longer_leads() -> ApiError {
    ApiError::unavailable("this manager no longer leads the swarm")
        .help("try again: another manager leads, or is about to")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[tokio::test]
    async fn nothing_of_a_term_is_there_in_the_next() {
        let lead = watch::Sender::new(Leadership::None);
        let of_term: PerTerm<&str> = PerTerm::new(lead.subscribe());
        assert!(of_term.get().await.is_err(), "it does not lead");

        lead.send_replace(Leadership::Leader { term: 3 });
        let asked = tokio::spawn({
            let of_term = of_term.clone();
            async move { of_term.get().await.map(|term| **term) }
        });
        let first = of_term.begin(3, |_| "first");
        assert_eq!(asked.await.unwrap().unwrap(), "first", "who came early has waited for it");
        let held = of_term.get().await.unwrap();

        // Deposed, and nobody has noticed yet: it is no more all the same.
        lead.send_replace(Leadership::Follower { leader: None });
        assert!(of_term.now().is_none() && of_term.get().await.is_err());
        lead.send_replace(Leadership::Leader { term: 7 });
        assert!(of_term.now().is_none(), "that is another term");
        assert!(!held.over().is_cancelled());
        drop(first);
        assert!(held.over().is_cancelled(), "whoever holds on to it is told");

        let second = of_term.begin(7, |_| "second");
        assert_eq!(**of_term.get().await.unwrap(), "second");
        drop(second);
        assert!(of_term.now().is_none());
    }
}
