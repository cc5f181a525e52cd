//! The containers and images of the same daemon.

use std::collections::BTreeMap;

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    response::Response,
    routing::{get, post},
};
use docker_api::frames::{Output, frame};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use proto::{error::ApiError, pb::exec_request};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    docker::{Answer, body, json as answer, ok},
    fake::Fake,
};

/// Their paths.
pub fn router() -> Router<Fake> {
    Router::new()
        .route("/containers/json", get(containers))
        .route("/containers/{key}/json", get(async |Path(key): Path<String>| none("container", &key)))
        .route("/containers/{key}/exec", post(make_exec))
        .route("/exec/{id}/start", post(exec))
        .route("/exec/{id}/json", get(async || ok(&json!({"ExitCode": 7, "Running": false}))))
        .route("/images/create", post(import))
        .route("/images/{key}/json", get(async |Path(key): Path<String>| none("image", &key)))
        .route("/volumes/{key}", get(async |Path(key): Path<String>| none("volume", &key)))
}

fn none(kind: &str, key: &str) -> Answer {
    Err(ApiError::not_found(format!("No such {kind}: {key}")).into())
}

async fn containers() -> Answer {
    ok(&json!([{"Id": "c0ffee0123456789", "Names": ["/web.1.task"], "State": "running"}]))
}

async fn make_exec(State(fake): State<Fake>, Path(container): Path<String>, request: Request) -> Answer {
    let wanted: Value = body(request).await?;
    let words = |key: &str| serde_json::from_value(wanted[key].clone()).unwrap_or_default();
    fake.state().exec =
        Some(exec_request::Start { container, cmd: words("Cmd"), env: words("Env"), ..Default::default() });
    Ok(answer(StatusCode::CREATED, &json!({"Id": "e"})))
}

/// Sends back what it gets, then says on its other output that it is done.
async fn exec(request: Request) -> Answer {
    let upgrading = hyper::upgrade::on(request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrading.await.unwrap());
        let mut data = vec![0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut data).await {
            stream.write_all(&frame(Output::Stdout, &data[..n])).await.unwrap();
        }
        stream.write_all(&frame(Output::Stderr, b"done\n")).await.unwrap();
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("tcp"));
    Ok(response)
}

async fn import(State(fake): State<Fake>, request: Request) -> Answer {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let size = axum::body::to_bytes(request.into_body(), 2 << 20).await.unwrap().len();
    let changes = query.get("changes").cloned().into_iter().collect();
    fake.state().imported = Some((query["repo"].clone(), changes, size));
    ok(&json!({"status": "sha256:0123456789abcdef"}))
}
