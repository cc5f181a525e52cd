//! Secrets and configs.

use axum::{extract::State, response::Response};
use docker_api::{
    file::{self, File, FileCreateResponse, FileSpec},
    filters::Filters,
};
use http::StatusCode;
use proto::{
    model::{self, Config, Secret},
    pb,
};

use super::{
    Answer, Api,
    request::{Json, Key, Params},
    respond::{Refusal, all, done, json, json_with},
};

fn creation(spec: FileSpec) -> Result<pb::CreateFileRequest, Refusal> {
    Ok(pb::CreateFileRequest { spec: Some(model::FileSpec::try_from(spec)?.into()) })
}

fn update(key: String, query: &Params, spec: FileSpec) -> Result<pb::UpdateFileRequest, Refusal> {
    let version = query.version()?;
    Ok(pb::UpdateFileRequest { key, version, spec: Some(model::FileSpec::try_from(spec)?.into()) })
}

fn made(id: String) -> Answer {
    json_with(StatusCode::CREATED, &FileCreateResponse { id })
}

fn listed(files: impl Iterator<Item = File>, filters: &Filters) -> Answer {
    json(&files.filter(|f| file::is_wanted(f, filters)).collect::<Vec<_>>())
}

/// `GET /secrets`.
pub async fn secrets(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&file::FILTERS)?;
    let reply = api.control().list_secrets(pb::ListFilesRequest::default()).await?.into_inner();
    listed(all::<_, Secret>(reply.secrets)?.iter().map(File::from), &filters)
}

/// `POST /secrets/create`.
pub async fn create_secret(State(api): State<Api>, Json(spec): Json<FileSpec>) -> Answer {
    made(api.control().create_secret(creation(spec)?).await?.into_inner().id)
}

/// `GET /secrets/{id}`: all but its content.
pub async fn secret(State(api): State<Api>, Key(key): Key) -> Answer {
    let reply = api.control().get_secret(pb::GetRequest { key }).await?.into_inner();
    json(&File::from(&Secret::try_from(reply).map_err(tonic::Status::from)?))
}

/// `POST /secrets/{id}/update`: its labels.
pub async fn update_secret(
    State(api): State<Api>,
    Key(key): Key,
    query: Params,
    Json(spec): Json<FileSpec>,
) -> Answer {
    api.control().update_secret(update(key, &query, spec)?).await?;
    Ok(Response::default())
}

/// `DELETE /secrets/{id}`.
pub async fn remove_secret(State(api): State<Api>, Key(key): Key) -> Answer {
    api.control().remove_secret(pb::RemoveRequest { key, force: false }).await?;
    done()
}

/// `GET /configs`.
pub async fn configs(State(api): State<Api>, query: Params) -> Answer {
    let filters = query.filters(&file::FILTERS)?;
    let reply = api.control().list_configs(pb::ListFilesRequest::default()).await?.into_inner();
    listed(all::<_, Config>(reply.configs)?.iter().map(File::from), &filters)
}

/// `POST /configs/create`.
pub async fn create_config(State(api): State<Api>, Json(spec): Json<FileSpec>) -> Answer {
    made(api.control().create_config(creation(spec)?).await?.into_inner().id)
}

/// `GET /configs/{id}`, its content with it.
pub async fn config(State(api): State<Api>, Key(key): Key) -> Answer {
    let reply = api.control().get_config(pb::GetRequest { key }).await?.into_inner();
    json(&File::from(&Config::try_from(reply).map_err(tonic::Status::from)?))
}

/// `POST /configs/{id}/update`: its labels.
pub async fn update_config(
    State(api): State<Api>,
    Key(key): Key,
    query: Params,
    Json(spec): Json<FileSpec>,
) -> Answer {
    api.control().update_config(update(key, &query, spec)?).await?;
    Ok(Response::default())
}

/// `DELETE /configs/{id}`.
pub async fn remove_config(State(api): State<Api>, Key(key): Key) -> Answer {
    api.control().remove_config(pb::RemoveRequest { key, force: false }).await?;
    done()
}
