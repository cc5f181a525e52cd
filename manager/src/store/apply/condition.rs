//! Why an object is not what its user asked for.

use proto::model::{Condition, Network, Node, Service, Task};

use super::Applying;
use crate::store::command::{ObjectId, Outcome};

impl Applying<'_> {
    pub(super) fn set_condition(&mut self, object: &ObjectId, condition: &Condition) -> Outcome {
        match object {
            ObjectId::Node(id) => {
                let node = self.found::<Node>(id)?;
                self.update(node, |n| replace(&mut n.conditions, condition));
            }
            ObjectId::Network(id) => {
                let network = self.found::<Network>(id)?;
                self.update(network, |n| replace(&mut n.conditions, condition));
            }
            ObjectId::Service(id) => {
                let service = self.found::<Service>(id)?;
                self.update(service, |s| replace(&mut s.conditions, condition));
            }
            ObjectId::Task(id) => {
                let task = self.found::<Task>(id)?;
                self.update(task, |t| replace(&mut t.conditions, condition));
            }
        }
        Ok(())
    }
}

/// One of each kind. Said again, it keeps its time.
fn replace(conditions: &mut Vec<Condition>, new: &Condition) {
    match conditions.iter_mut().find(|c| c.kind == new.kind) {
        Some(_) if new.message.is_empty() => conditions.retain(|c| c.kind != new.kind),
        Some(old) if old.message == new.message => {}
        Some(old) => *old = new.clone(),
        None if new.message.is_empty() => {}
        None => conditions.push(new.clone()),
    }
}
