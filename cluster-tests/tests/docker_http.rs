//! The daemon's socket as HTTP: what clients read off every answer, and what hostile ones send.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};

use anyhow::{Result, ensure};
use cluster_tests::{Cluster, registry::Registry, wait};

#[test]
fn a_ping_tells_clients_whom_they_speak_to() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = cluster.manager();
    for method in ["GET", "HEAD"] {
        let ping = host.http(method, "/_ping")?;
        ensure!(ping.status == 200, "{ping:?}");
        for line in [
            "api-version: 1.",
            "ostype: linux",
            "swarm: inactive",
            "builder-version: 1",
            "docker-experimental: false",
            "server: rn/",
            "cache-control: no-cache, no-store, must-revalidate",
        ] {
            ensure!(ping.head.contains(line), "{method} lacks {line:?}: {}", ping.head);
        }
        ensure!(ping.body == if method == "GET" { "OK" } else { "" }, "{ping:?}");
    }
    host.rnctl(&["swarm", "init", "--advertise-addr", "eth0"])?;
    let ping = host.http("HEAD", "/v1.41/_ping")?;
    ensure!(ping.head.contains("swarm: active/manager"), "{}", ping.head);
    Ok(())
}

#[test]
fn versions_paths_and_bodies_that_are_not_there_are_refused_in_dockers_words() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = cluster.manager();
    for (path, status, words) in [
        ("/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1."),
        ("/v1.12/info", 400, "client version 1.12 is too old. Minimum supported API version is 1.24"),
        ("/nothing", 404, "page not found"),
        ("/v1.41/nothing", 404, "page not found"),
        ("/v1.41x/info", 404, "page not found"),
        ("/events?since=soon", 400, "since"),
        ("/events?filters=x", 400, "invalid filter"),
        ("/events?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", 400, "invalid filter 'colour'"),
    ] {
        let answer = host.http("GET", path)?;
        let message = answer.message()?;
        ensure!(answer.status == status && message.contains(words), "{path}: {} {message}", answer.status);
        ensure!(answer.head.contains("api-version: 1."), "{path}: {}", answer.head);
    }
    for (path, words) in [("/build", "buildah"), ("/commit", "docker export"), ("/session", "BuildKit")] {
        let answer = host.http("POST", path)?;
        ensure!(answer.status == 400 && answer.message()?.contains(words), "{path}: {answer:?}");
    }
    ensure!(host.http("DELETE", "/info")?.status == 404, "a method that a path does not have");
    ensure!(host.http("GET", "/v1.30/plugins")?.body == "[]\n");
    for body in ["", "[]", "{", "{\"username\":7}", "nul"] {
        let answer = host.http_json("POST", "/auth", body)?;
        ensure!(answer.status == 400 && answer.message()?.contains("invalid JSON"), "{body}: {answer:?}");
    }
    let form = host.raw(
        b"POST /auth HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
    )?;
    ensure!(
        form.status == 400 && form.message()?.contains("unsupported Content-Type header (text/plain)"),
        "{form:?}"
    );
    Ok(())
}

#[test]
fn neither_a_long_head_nor_a_long_body_nor_many_connections_keep_others_out() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = cluster.manager();
    let mut head = b"GET /info HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    head.resize(100 << 20, b'a');
    let answer = host.raw(&head)?;
    ensure!(answer.status == 431, "{answer:?}");
    let answer = host.http_json("POST", "/auth", &format!("{{\"username\":\"{}\"}}", "a".repeat(8 << 20)))?;
    ensure!(answer.status == 400 && answer.message()?.contains("request body"), "{answer:?}");
    let answer = host.raw(b"\x16\x03\x01 not HTTP at all\r\n\r\n")?;
    ensure!(answer.status == 400, "{answer:?}");

    // Half-sent requests, as many as there is room for.
    let mut half = Vec::new();
    for k in 0..1100 {
        let mut stream = host.connect()?;
        stream.write_all(if k % 2 == 0 { b"GET /inf" } else { b"PR" }).or_else(|_| anyhow::Ok(()))?;
        half.push(stream);
    }
    let mut refused = String::new();
    half.last_mut().unwrap().read_to_string(&mut refused)?;
    ensure!(refused.starts_with("HTTP/1.1 503") && refused.contains("too many connections"), "{refused}");
    drop(half);
    wait::until("others are answered again", wait::SHORT, || {
        ensure!(host.http("GET", "/_ping")?.status == 200);
        Ok(())
    })?;
    host.rnctl(&["version"])?;
    Ok(())
}

#[test]
fn events_come_as_they_happen_and_from_the_past() -> Result<()> {
    let cluster = Cluster::daemons(1)?;
    let host = cluster.manager();
    let mut live = host.connect()?;
    live.write_all(
        b"GET /v1.41/events?filters=%7B%22type%22%3A%7B%22node%22%3Atrue%7D%7D HTTP/1.1\r\nHost: x\r\n\r\n",
    )?;
    // The head is there before anything has happened.
    let mut head = vec![0; 4096];
    let n = live.read(&mut head)?;
    ensure!(head[..n].starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&head[..n]));
    host.rnctl(&["swarm", "init", "--advertise-addr", "eth0"])?;
    let mut text = String::new();
    while !text.contains("\"Type\":\"node\"") {
        let n = live.read(&mut head)?;
        ensure!(n != 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&head[..n]));
    }
    ensure!(text.contains("\"scope\":\"swarm\"") && text.contains("timeNano"), "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() + 1;
    let past = host
        .http("GET", &format!("/events?since=0&until={now}&filters=%7B%22type%22%3A%5B%22node%22%5D%7D"))?;
    ensure!(past.body.contains("\"Type\":\"node\""), "{past:?}");
    ensure!(host.http("GET", "/events?since=2&until=1")?.status == 400);
    Ok(())
}

#[test]
fn what_a_registry_says_of_a_name_is_passed_on() -> Result<()> {
    let cluster = Cluster::daemons_with(1, &["--insecure-registry", "10.77.0.0/24"])?;
    let host = cluster.manager();
    let dir = tempfile::tempdir()?;
    let addr = std::net::SocketAddr::new(cluster.client_port.v4.into(), 5000);
    let registry = Registry::start(&cluster.client, addr, dir.path(), false)?;
    let layer = tar::Builder::new(Vec::new()).into_inner()?;
    let pushed = registry.push("web", "1", &[layer], &serde_json::json!({"Cmd": ["/bin/web"]}))?;
    let answer = host.http("GET", &format!("/v1.41/distribution/{}/json", registry.name("web:1")))?;
    let known: serde_json::Value = serde_json::from_str(&answer.body)?;
    ensure!(known["Descriptor"]["digest"] == pushed.digest.as_str(), "{known:#}");
    ensure!(known["Descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json", "{known:#}");
    ensure!(
        known["Platforms"].as_array().is_some_and(|p| p.iter().any(|p| p["architecture"] == "s390x")),
        "{known:#}"
    );
    let missing = host.http("GET", &format!("/distribution/{}/json", registry.name("nosuch:1")))?;
    ensure!((400..500).contains(&missing.status) && !missing.message()?.is_empty(), "{missing:?}");
    Ok(())
}
