//! Pulls from a registry that misbehaves.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use runtime::{LayerStep, Platform, Progress, Reference, RuntimeError};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

use crate::{
    archives::{config, digest, gzip, top_layer},
    lab::{Lab, busybox_tar, skip},
    words,
};

/// How a blob is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// As asked for.
    Fair,
    /// So many times the connection breaks off after half of what is left.
    Breaks(usize),
    /// So many times something else of the same length is sent.
    Lies(usize),
}

#[derive(Default)]
struct Served {
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    moods: BTreeMap<String, Mood>,
    /// Blob requests: digest, and from which byte on.
    asked: Vec<(String, usize)>,
}

/// Serves one image at `/v2/web`; the registry's `host:port`.
async fn serve(served: Arc<Mutex<Served>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let served = served.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                // A TLS greeting: there is none of that here.
                if stream.fill_buf().await.is_ok_and(|bytes| bytes.first() == Some(&0x16)) {
                    return;
                }
                let (mut first, mut from) = (String::new(), None);
                stream.read_line(&mut first).await.unwrap_or_default();
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).await.unwrap_or_default() <= 2 {
                        break;
                    }
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        from = range.trim_end().trim_end_matches('-').parse::<usize>().ok();
                    }
                }
                let (head, body) = answer(&mut served.lock().unwrap(), &first, from);
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&body).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    addr
}

fn answer(served: &mut Served, first: &str, from: Option<usize>) -> (String, Vec<u8>) {
    let path = first.split(' ').nth(1).unwrap_or_default();
    if !first.starts_with("GET ") {
        return (String::new(), Vec::new());
    }
    let head = |status: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
    };
    if path == "/v2/" {
        return (head("200 OK", 2), b"{}".to_vec());
    }
    if path.starts_with("/v2/web/manifests/") {
        return (head("200 OK", served.manifest.len()), served.manifest.clone());
    }
    let wanted = path.strip_prefix("/v2/web/blobs/").unwrap_or_default().to_owned();
    let Some(blob) = served.blobs.get(&wanted) else { return (head("404 Not Found", 0), Vec::new()) };
    let start = from.unwrap_or(0);
    served.asked.push((wanted.clone(), start));
    let (status, rest) =
        (if from.is_some() { "206 Partial Content" } else { "200 OK" }, blob[start..].to_vec());
    let length = rest.len();
    let mood = served.moods.entry(wanted).or_insert(Mood::Fair);
    let body = match *mood {
        Mood::Breaks(n) if n > 0 => {
            *mood = Mood::Breaks(n - 1);
            rest[..length / 2].to_vec()
        }
        Mood::Lies(n) if n > 0 => {
            *mood = Mood::Lies(n - 1);
            vec![0; length]
        }
        _ => rest,
    };
    (head(status, length), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_survives_what_registries_do() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (base, top) = (busybox_tar(), top_layer());
    let config = config(&[&base, &top], "cat /app/name");
    // The base is here already: the image of the lab is made of it.
    let blobs = [config.clone(), gzip(&base), gzip(&top)].map(|bytes| (digest(&bytes), bytes));
    let describe = |(digest, bytes): &(String, Vec<u8>)| serde_json::json!({"digest": digest, "size": bytes.len(), "mediaType": "x"});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(&blobs[0]), "layers": [describe(&blobs[1]), describe(&blobs[2])],
    })
    .to_string()
    .into_bytes();
    let top_digest = blobs[2].0.clone();
    let served = Arc::new(Mutex::new(Served {
        manifest: manifest.clone(),
        blobs: blobs.clone().into(),
        moods: BTreeMap::from([(top_digest.clone(), Mood::Breaks(2))]),
        ..Served::default()
    }));
    let addr = serve(served.clone()).await;
    let name: Reference = format!("{addr}/web:1").parse().unwrap();
    let (registries, images) = (lab.runtime.registries(), lab.runtime.images());
    let steps = Mutex::new(Vec::new());
    let hear = |progress| steps.lock().unwrap().push(progress);

    let resolved = registries.resolve(&name, None).await.unwrap();
    assert_eq!(resolved.digest, digest(&manifest));
    let pulled = registries.pull(&name, None, &Platform::own(), &hear).await.unwrap();
    assert_eq!(
        (pulled.id.clone(), pulled.digest.clone(), pulled.newer),
        (digest(&config), digest(&manifest), true)
    );
    let asked = |blob: &str| -> Vec<usize> {
        served.lock().unwrap().asked.iter().filter(|(d, _)| d == blob).map(|(_, from)| *from).collect()
    };
    let length = blobs[2].1.len();
    let half = length / 2;
    assert_eq!(asked(&top_digest), [0, half, half + (length - half) / 2], "taken up where it broke off");
    assert!(asked(&blobs[1].0).is_empty(), "what is here is not fetched");
    let said = std::mem::take(&mut *steps.lock().unwrap());
    let step = |digest: &str, step| Progress::Layer { id: digest[7..19].to_owned(), step };
    assert!(
        said.contains(&step(&blobs[1].0, LayerStep::Exists))
            && said.contains(&step(&top_digest, LayerStep::Complete))
    );
    let image = images.resolve(&format!("{addr}/web@{}", pulled.digest)).unwrap();
    assert_eq!((image.tags, image.id), (words(&[&format!("{addr}/web:1")]), pulled.id));
    assert!(!registries.pull(&name, None, &Platform::own(), &hear).await.unwrap().newer);

    // Lies are found out; a liar who comes to reason is believed, another is not.
    for (lies, fine) in [(1, true), (9, false)] {
        lab.runtime.remove_image(&format!("{addr}/web:1"), true).await.unwrap();
        served.lock().unwrap().moods.insert(top_digest.clone(), Mood::Lies(lies));
        let result = registries.pull(&name, None, &Platform::own(), &hear).await;
        assert_eq!(result.is_ok(), fine, "{result:?}");
        if let Err(error) = result {
            assert!(error.to_string().contains("its content has digest sha256:"), "{error}");
        } else {
            continue;
        }
        assert!(matches!(images.resolve(&name.to_string()), Err(RuntimeError::NoSuchImage { .. })));
    }
    // One blob cannot be two layers: the image would lack one of them.
    served.lock().unwrap().manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(&blobs[0]), "layers": [describe(&blobs[1]), describe(&blobs[1])],
    })
    .to_string()
    .into_bytes();
    let error = registries.pull(&name, None, &Platform::own(), &hear).await.unwrap_err().to_string();
    assert!(error.contains("the image's configuration says"), "{error}");
    assert!(matches!(images.resolve(&name.to_string()), Err(RuntimeError::NoSuchImage { .. })));
    for dir in ["partial", "new"] {
        let left = fs::read_dir(lab.config.data_root.join("images").join(dir)).unwrap().count();
        assert_eq!(left, 0, "{dir}");
    }

    // What nobody serves is named.
    let dead: Reference = "127.0.0.1:1/web:1".parse().unwrap();
    let error = registries.pull(&dead, None, &Platform::own(), &hear).await.unwrap_err().to_string();
    assert!(error.contains("registry 127.0.0.1:1 cannot be reached") && error.contains("refused"), "{error}");
}
