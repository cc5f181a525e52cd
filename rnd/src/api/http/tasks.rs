//! Tasks.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use docker_api::{
    filters::Filters,
    task::{self, Meant},
};
use proto::{
    error::Kind,
    model::{Service, Task},
    pb,
};

use super::{
    Answer, Api,
    request::{Key, Params},
    respond::{Refusal, all, json},
};

impl Api {
    /// The task that `key` means.
    pub(super) async fn task(&self, key: String) -> Result<Task, Refusal> {
        let reply = self.control().get_task(pb::GetRequest { key }).await?.into_inner();
        Ok(Task::try_from(reply).map_err(tonic::Status::from)?)
    }

    /// All tasks.
    pub(super) async fn tasks(&self) -> Result<Vec<Task>, Refusal> {
        let request = pb::ListTasksRequest { services: Vec::new(), nodes: Vec::new() };
        all(self.control().list_tasks(request).await?.into_inner().tasks)
    }

    /// The ids of what the values of a filter mean, by id, name or the begin of an id. What there is not, no task is of.
    async fn meant<T, F>(
        filters: &Filters,
        name: &str,
        find: impl Fn(String) -> F,
    ) -> Result<Option<BTreeSet<T>>, Refusal>
    where
        T: Ord,
        F: Future<Output = Result<T, Refusal>>,
    {
        if !filters.has(name) {
            return Ok(None);
        }
        let mut ids = BTreeSet::new();
        for value in filters.values(name) {
            match find(value.to_owned()).await {
                Ok(id) => drop(ids.insert(id)),
                Err(Refusal(error)) if error.kind == Kind::NotFound => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(Some(ids))
    }
}

/// `GET /tasks`.
pub async fn list(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&task::FILTERS)?;
    task::check_filters(&filters)?;
    let services = Api::meant(&filters, "service", async |key| Ok(api.service(key).await?.id)).await?;
    let nodes = Api::meant(&filters, "node", async |key| Ok(api.node(key).await?.id)).await?;
    let all: Vec<Service> = api.services().await?.into_iter().map(|(service, _)| service).collect();
    let meant = Meant { services, nodes, all: all.iter().map(|s| (&s.id, s)).collect::<BTreeMap<_, _>>() };
    let (tasks, networks) = (api.tasks().await?, api.networks().await?);
    let wanted = tasks.iter().filter(|t| task::is_wanted(t, &filters, &meant));
    json(&wanted.map(|t| task::task(t, &networks)).collect::<Vec<_>>())
}

/// `GET /tasks/{id}`.
pub async fn inspect(State(api): State<Api>, Key(key): Key) -> Answer {
    let found = api.task(key).await?;
    json(&task::task(&found, &api.networks().await?))
}
