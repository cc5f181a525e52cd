//! What an entry changed: the one feed for the disk, for watchers and for events.

use std::sync::Arc;

pub use super::kind::list::Change;

/// One object before and after. At least one side is present: no `old` = created, no `new` = removed.
#[derive(Debug, PartialEq)]
pub struct Edit<T> {
    /// Before.
    pub old: Option<Arc<T>>,
    /// After.
    pub new: Option<Arc<T>>,
}

impl<T> Clone for Edit<T> {
    fn clone(&self) -> Self {
        Self { old: self.old.clone(), new: self.new.clone() }
    }
}

impl<T> Edit<T> {
    /// The object after, or before when it is gone: for what never changes, such as its id.
    pub fn either(&self) -> Option<&Arc<T>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}
