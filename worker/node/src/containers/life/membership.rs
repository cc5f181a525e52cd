//! What becomes of a container when this node joins a swarm, loses it or leaves it.

use std::{sync::Arc, time::Duration};

use proto::model::{HOST_NETWORK, TaskState};
use runtime::Container;
use tokio::time::Instant;

use super::{
    super::{
        Ground, is_alive,
        run::{void, workload},
    },
    Life,
};

/// How long after the beginning of a membership nothing is started by itself.
const SETTLE: Duration = Duration::from_millis(200);

impl Life {
    /// The node's membership has changed.
    pub(super) async fn moved(&mut self) {
        let ground = self.ground.borrow_and_update().clone();
        if self.definition.is_on_host_network() {
            return;
        }
        let alive = self.made().filter(|c| is_alive(&c.state));
        match ground {
            Ground::Here(fabric) => {
                self.again = self.again.map(|at| at.max(Instant::now() + SETTLE));
                if self.arrival.as_ref().is_some_and(|arrival| !Arc::ptr_eq(&arrival.fabric, &fabric)) {
                    self.call_off("lost this node's membership in the swarm");
                }
                if self.run.is_some() || self.arrival.is_some() {
                    return;
                }
                let assigned = fabric.assigned.borrow().clone();
                let place = self.definition.task.as_ref().and_then(|id| assigned.tasks.get(id)).cloned();
                match (alive, place) {
                    (Some(container), Some(place)) => {
                        let mut workload = workload(&self.definition, Some(&place));
                        workload.status.state = TaskState::Running;
                        self.supervise(Arc::new(workload), Some(fabric), Some(container));
                    }
                    (Some(container), None) => self.unplug(Some(container)).await,
                    (None, _) => self.give_back("its container has ended"),
                }
            }
            Ground::Away => {
                self.call_off("lost this node's membership in the swarm");
                if self.run.as_ref().is_some_and(|run| run.fabric.is_some()) {
                    self.run = None;
                }
            }
            Ground::Left => {
                self.call_off("lost the swarm, which this node has left,");
                self.unplug(alive).await;
            }
        }
    }

    /// The container goes on without the swarm's networks.
    async fn unplug(&mut self, alive: Option<Container>) {
        if let Some(run) = self.run.take()
            && let Some((fabric, task)) =
                run.attachment().map(|(fabric, task)| (fabric.clone(), task.clone()))
        {
            let id = run.workload.id.clone();
            drop(run);
            fabric.network.down(&id).await;
            fabric.reports.report(task, void("the swarm has been left"));
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
