//! A container's way to its place on the swarm's networks. It may take as long as the managers take to answer, and orders, the
//! membership and the user's mind may change meanwhile: so it runs beside the container's other work, and can be cancelled.

use std::{sync::Arc, time::Duration};

use network::assigned::Assigned;
use proto::{
    error::ApiError,
    model::{Task, TaskId},
};
use tokio::{sync::oneshot, time::timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{Definition, SwarmServices, networks, run::void};
use crate::managers::AttachmentRequest;

/// How long the assignment of a place may take once the managers have given it.
const ARRIVAL: Duration = Duration::from_secs(20);

/// What has been reached.
pub(super) enum AttachProgress {
    /// The managers have given it a place, which is this task: to be written down.
    Place(TaskId),
    /// The place is assigned to this node, with its networks.
    Assigned(Arc<Task>),
}

enum AttachStage {
    Asked(oneshot::Receiver<Result<TaskId, ApiError>>),
    Given(AbortOnDropHandle<Result<Arc<Task>, ApiError>>),
}

/// On its way.
pub(super) struct NetworkAttach {
    /// Where it is going.
    pub(super) swarm: Arc<SwarmServices>,
    stage: AttachStage,
}

impl NetworkAttach {
    /// Asks the managers.
    pub(super) fn begin(swarm: Arc<SwarmServices>, definition: &Definition) -> Self {
        let request = AttachmentRequest {
            container: definition.id.clone(),
            name: definition.name.clone(),
            networks: definition.networks.clone(),
            ports: definition.ports.clone(),
        };
        let (answer, asked) = oneshot::channel();
        let with = swarm.clone();
        tokio::spawn(async move {
            let place = with.attachments.attach(request).await;
            if let Err(Ok(id)) = answer.send(place) {
                give_back(&with, id);
            }
        });
        Self { swarm, stage: AttachStage::Asked(asked) }
    }

    /// The next thing that is reached, or why it is not. May be dropped and asked again.
    pub(super) async fn next(&mut self) -> Result<AttachProgress, ApiError> {
        match &mut self.stage {
            AttachStage::Asked(asked) => {
                let gone = |_| ApiError::internal("attaching to the networks was broken off");
                let id = asked.await.map_err(gone)??;
                let assigned = tokio::spawn(assignment(self.swarm.clone(), id.clone()));
                self.stage = AttachStage::Given(AbortOnDropHandle::new(assigned));
                Ok(AttachProgress::Place(id))
            }
            AttachStage::Given(assigned) => {
                let gone = |e| ApiError::internal(format!("attaching to the networks was broken off: {e}"));
                assigned.await.map_err(gone)?.map(AttachProgress::Assigned)
            }
        }
    }

    /// It is not wanted any more. A place that was reached is the caller's to give back; one that is still to come is given back
    /// then.
    pub(super) fn call_off(self) {
        if let AttachStage::Asked(mut asked) = self.stage {
            asked.close();
            if let Ok(Ok(id)) = asked.try_recv() {
                give_back(&self.swarm, id);
            }
        }
    }
}

fn give_back(swarm: &SwarmServices, id: TaskId) {
    swarm.reports.report(id, void("its container does not start"));
}

async fn assignment(swarm: Arc<SwarmServices>, id: TaskId) -> Result<Arc<Task>, ApiError> {
    let mut assigned = swarm.assigned.clone();
    let place =
        |a: &Assigned| a.tasks.get(&id).filter(|t| networks(t).all(|n| a.networks.contains_key(n))).cloned();
    let come = timeout(ARRIVAL, assigned.wait_for(|a| place(a).is_some())).await;
    let come = come.ok().and_then(Result::ok).and_then(|a| place(&a));
    come.ok_or_else(|| {
        ApiError::timeout(format!(
            "attaching to the networks failed: the managers' assignment did not come in {} s",
            ARRIVAL.as_secs()
        ))
    })
}
