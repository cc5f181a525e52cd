//! What happened, for `rnctl events`: the newest are kept, as dockerd does, so that one can look back a little.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::broadcast;

/// Events that are remembered (dockerd keeps 256).
const KEPT: usize = 1024;

/// Something happened to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, ns since the epoch.
    pub at_nanos: u64,
    /// `container`, `image`, `network`, `node`, `service`.
    pub kind: &'static str,
    /// `create`, `start`, …
    pub action: String,
    /// The object's id; of an image, a name where there is one.
    pub id: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
    /// Whether it concerns the whole swarm.
    pub swarm: bool,
}

impl Event {
    /// On this node, now.
    pub fn local(kind: &'static str, action: &str, id: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at_nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            kind,
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: BTreeMap::new(),
            swarm: false,
        }
    }

    /// In the swarm, now.
    pub fn swarm(kind: &'static str, action: &str, id: &str) -> Self {
        Self { swarm: true, ..Self::local(kind, action, id) }
    }

    /// Says more.
    pub fn with(mut self, name: &str, value: impl Display) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }
}

/// The events of this daemon. Publishing never waits: a reader that is too slow misses some.
#[derive(Debug)]
pub struct Events {
    recent: Mutex<VecDeque<Event>>,
    sender: broadcast::Sender<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { recent: Mutex::default(), sender: broadcast::Sender::new(KEPT) }
    }
}

impl Events {
    /// Tells everyone.
    pub fn publish(&self, event: Event) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Under the lock, so that a reader gets each event once. Nobody listening is no error.
        let _ = self.sender.send(event);
    }

    /// The remembered ones from `since_nanos` on, and those to come.
    pub fn subscribe(&self, since_nanos: u64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let past = recent.iter().filter(|event| event.at_nanos >= since_nanos).cloned().collect();
        (past, self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn each_event_comes_once() {
        let events = Events::default();
        for n in 0..KEPT + 5 {
            events.publish(Event { at_nanos: n as u64, ..Event::local("image", "tag", "x") });
        }
        let (past, mut rest) = events.subscribe(1000);
        let past: Vec<u64> = past.iter().map(|e| e.at_nanos).collect();
        assert_eq!(past, (1000..1029).collect::<Vec<_>>());
        events.publish(Event { at_nanos: 5000, ..Event::local("image", "tag", "x") });
        assert_eq!(rest.try_recv().unwrap().at_nanos, 5000);
        assert!(rest.try_recv().is_err());
        assert_eq!(events.subscribe(0).0.len(), KEPT);
    }
}
