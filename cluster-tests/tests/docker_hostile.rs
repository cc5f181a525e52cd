//! Whatever is sent to the API's socket is answered: with a reason, at once, and nothing is half done.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cluster_tests::{Cluster, Host};
use serde::Deserialize;
use serde_json::{Value, json};

/// What is not answered by then hangs.
const HANGS: Duration = Duration::from_secs(60);

/// An operation of the API's description, with the types of what it takes (`data/README.md`).
#[derive(Deserialize)]
struct Operation {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    body: BTreeMap<String, String>,
}

fn operations() -> Result<Vec<Operation>> {
    Ok(serde_json::from_str(include_str!("../data/engine-api-inputs.json"))?)
}

/// A body that would be taken, or none: what is sent is that with one thing wrong.
fn taken(path: &str) -> Value {
    match path {
        "/services/create" => {
            json!({"Name": "victim", "TaskTemplate": {"ContainerSpec": {"Image": "testweb:1"}}})
        }
        "/containers/create" => json!({"Image": "testweb:1", "HostConfig": {"NetworkMode": "host"}}),
        "/networks/create" => json!({"Name": "victim", "Driver": "overlay"}),
        "/secrets/create" | "/configs/create" => json!({"Name": "victim", "Data": "YQ=="}),
        "/volumes/create" => json!({"Name": "victim"}),
        _ => json!({}),
    }
}

/// Values of any type but this one. A list for an object is left out.
fn wrong(kind: &str) -> Vec<Value> {
    match kind {
        "string" => vec![json!(7), json!({"a": 1}), json!([1]), json!(true)],
        "integer" | "number" => vec![json!("x"), json!({"a": 1}), json!([1]), json!(1e300)],
        "boolean" => vec![json!("x"), json!(7), json!([1])],
        "array" => vec![json!(7), json!({"a": 1}), json!(true)],
        _ => vec![json!(7), json!("x"), json!(true)],
    }
}

/// Sets what a pointer names, and makes the way there.
fn set(body: &mut Value, pointer: &str, value: Value) {
    let mut at = body;
    for part in pointer.split('/').skip(1) {
        if part == "0" {
            if !at.is_array() {
                *at = json!([null]);
            }
            at = &mut at[0];
        } else {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[part];
        }
    }
    *at = value;
}

/// Status and body of the answer to a request. A stream that goes on is cut off after its head.
fn ask(host: &Host, method: &str, path: &str, body: Option<&str>) -> Result<(u16, String)> {
    let mut stream = host.connect()?;
    stream.set_read_timeout(Some(HANGS))?;
    let fields = body.map_or_else(String::new, |body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    });
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(head.as_bytes())?;
    let _ = stream.write_all(body.unwrap_or_default().as_bytes());
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let n = stream.read(&mut piece).with_context(|| format!("{method} {path} hangs: {body:?}"))?;
        answer.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            ensure!(n != 0, "{method} {path}: no answer to {body:?}");
            continue;
        };
        let status: u16 = head.split(' ').nth(1).context("no status")?.parse()?;
        if n == 0 || status < 300 {
            return Ok((status, rest.to_owned()));
        }
    }
}

/// Why an answer is not one to a mistake of the client's, if it is not.
fn amiss(method: &str, path: &str, (status, body): &(u16, String)) -> Option<String> {
    // Docker's status for what a member of a swarm cannot do once more.
    let member = *status == 503 && body.contains("part of a swarm");
    let said = method == "HEAD"
        || serde_json::from_str::<Value>(body)
            .is_ok_and(|b| b["message"].as_str().is_some_and(|m| !m.is_empty()));
    // A registry that does not answer is nobody's mistake.
    let away = *status == 503 && path.starts_with("/distribution/") && body.contains("cannot be reached");
    let good = (400..500).contains(status) || member || away;
    (!good || !said).then(|| format!("{method} {path}: {status} {}", body.trim()))
}

/// All that there is, as lists tell it.
fn inventory(host: &Host) -> Result<Vec<Vec<String>>> {
    ["/containers/json?all=1", "/networks", "/services", "/secrets", "/configs", "/volumes", "/nodes"]
        .iter()
        .map(|path| {
            let answer: Value = serde_json::from_str(&host.http("GET", path)?.body)?;
            let list = answer.as_array().or(answer["Volumes"].as_array()).cloned().unwrap_or_default();
            let name = |o: &Value| ["Id", "ID", "Name"].iter().find_map(|k| o[k].as_str().map(str::to_owned));
            let mut names: Vec<String> = list.iter().filter_map(name).collect();
            names.sort();
            Ok(names)
        })
        .collect()
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "nosuch").replace("{name}", "nosuch")
}

#[test]
fn wrong_types_in_each_field_are_refused_and_nothing_is_half_done() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let before = inventory(host)?;
    let (mut asked, mut found) = (0, Vec::new());
    for Operation { method, path, body, .. } in operations()? {
        let at = concrete(&path);
        // A file that the client writes for itself: the daemon does not look at it.
        for (pointer, kind) in body.iter().filter(|(p, _)| !p.ends_with("/ContainerIDFile")) {
            for value in wrong(kind) {
                let mut sent = taken(&path);
                set(&mut sent, pointer, value);
                asked += 1;
                let answer = ask(host, &method, &at, Some(&sent.to_string()))?;
                if let Some(why) = amiss(&method, &at, &answer) {
                    found.push(format!("{why}\n    {sent}"));
                }
            }
        }
    }
    println!("{asked} bodies");
    ensure!(found.is_empty(), "{} answers are amiss:\n{}", found.len(), found.join("\n"));
    ensure!(inventory(host)? == before, "something is half done: {:?}", inventory(host)?);
    Ok(())
}

#[test]
fn wrong_queries_paths_and_bodies_are_refused() -> Result<()> {
    let cluster = Cluster::with_image(1)?;
    let host = cluster.manager();
    let before = inventory(host)?;
    let mut found = Vec::new();
    for Operation { method, path, query, body } in operations()? {
        let at = concrete(&path);
        let mut check = |path: &str, body: Option<&str>| -> Result<()> {
            let answer = ask(host, &method, path, body)?;
            // Where something stands in a list's place or is no number, a list that is answered all the same is a find, too.
            found.extend(amiss(&method, path, &answer).map(|why| format!("{why}\n    {body:?}")));
            Ok(())
        };
        let valid = (!body.is_empty()).then(|| "{}".to_owned());
        for (name, kind) in &query {
            let bad: &[&str] = match (name.as_str(), kind.as_str()) {
                ("filters", _) => {
                    &["%7B", "%5B%5D", "7", "%7B%22nosuch%22%3A%5B%22a%22%5D%7D", "%7B%22a%22%3A7%7D"]
                }
                (_, "integer") => &["x", "99999999999999999999999", "1.5.2"],
                _ => &[],
            };
            for value in bad {
                check(&format!("{at}?{name}={value}"), valid.as_deref())?;
            }
        }
        if !body.is_empty() {
            let deep = format!("{}{}", "{\"A\":".repeat(100_000), "1");
            for bad in ["", "{", "[]", "7", "\"x\"", "{\"Name\":\"\u{0}\"", "{} {}", "nul", deep.as_str()] {
                check(&at, Some(bad))?;
            }
        }
        if path != at {
            let long = "a".repeat(5000);
            for key in ["nosuch", "%00", "..%2F..%2Fetc", "%FF%FE", "%20", long.as_str()] {
                check(&path.replace("{id}", key).replace("{name}", key), valid.as_deref())?;
            }
        }
    }
    ensure!(found.is_empty(), "{} answers are amiss:\n{}", found.len(), found.join("\n"));
    ensure!(inventory(host)? == before, "something is half done: {:?}", inventory(host)?);
    Ok(())
}
