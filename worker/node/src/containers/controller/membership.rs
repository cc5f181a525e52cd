//! What becomes of a container when this node joins a swarm, loses it or leaves it.

use std::{sync::Arc, time::Duration};

use proto::model::{HOST_NETWORK, TaskState};
use runtime::Container;
use tokio::time::Instant;

use super::{
    super::{
        SwarmAccess, is_alive,
        run::{void, workload},
    },
    ContainerController,
};

/// How long after the beginning of a membership nothing is started by itself.
const SETTLE: Duration = Duration::from_millis(200);

impl ContainerController {
    /// The node's membership has changed.
    pub(super) async fn moved(&mut self) {
        let access = self.access.borrow_and_update().clone();
        if self.definition.needs_no_swarm() {
            return;
        }
        let alive = self.made().filter(|c| is_alive(&c.state));
        match access {
            SwarmAccess::Member(swarm) => {
                self.again = self.again.map(|at| at.max(Instant::now() + SETTLE));
                if self.attaching.as_ref().is_some_and(|attaching| !Arc::ptr_eq(&attaching.swarm, &swarm)) {
                    self.call_off("lost this node's membership in the swarm");
                }
                if self.run.is_some() || self.attaching.is_some() {
                    return;
                }
                let assigned = swarm.assigned.borrow().clone();
                let place = self.definition.task.as_ref().and_then(|id| assigned.tasks.get(id)).cloned();
                match (alive, place) {
                    (Some(container), Some(place)) => {
                        let mut workload = workload(&self.definition, Some(&place));
                        workload.status.state = TaskState::Running;
                        self.supervise(Arc::new(workload), Some(swarm), Some(container));
                    }
                    (Some(container), None) => self.unplug(Some(container)).await,
                    (None, _) => self.give_back("its container has ended"),
                }
            }
            SwarmAccess::Detached => {
                self.call_off("lost this node's membership in the swarm");
                if self.run.as_ref().is_some_and(|run| run.swarm.is_some()) {
                    self.run = None;
                }
            }
            SwarmAccess::Left => {
                self.call_off("lost the swarm, which this node has left,");
                self.unplug(alive).await;
            }
        }
    }

    /// The container goes on without the swarm's networks.
    async fn unplug(&mut self, alive: Option<Container>) {
        if let Some(run) = self.run.take()
            && let Some((swarm, task)) = run.attachment().map(|(swarm, task)| (swarm.clone(), task.clone()))
        {
            let id = run.workload.id.clone();
            drop(run);
            swarm.network.down(&id).await;
            swarm.reports.report(task, void("the swarm has been left"));
        }
        self.definition.task = None;
        self.definition.networks.retain(|n| n.network == HOST_NETWORK);
        self.keep();
        match alive {
            Some(container) => self.adopt_here(container),
            None => self.again = None,
        }
    }
}
