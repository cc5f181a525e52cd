//! Images from archives: layers stacked, shared and collected.

use std::{fs, io::Write, os::unix::fs::MetadataExt};

use runtime::{Platform, PruneFilter, Runtime, RuntimeError};

use crate::{
    lab::{Lab, busybox_tar, chunks, skip},
    words,
};

/// `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// An entry of a layer.
enum Entry<'a> {
    Dir(&'a str),
    File(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}

fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_000_000_000);
        match entry {
            Entry::Dir(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                header.set_size(0);
                tar.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            Entry::File(path, text) => {
                header.set_mode(0o644);
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, path, text.as_bytes()).unwrap();
            }
            Entry::Hardlink(path, to) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, path, to).unwrap();
            }
        }
    }
    tar.into_inner().unwrap()
}

pub fn config(layers: &[&[u8]], cmd: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    serde_json::json!({
        "architecture": Platform::own().architecture, "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": {"Cmd": ["sh", "-c", cmd], "Env": ["PATH=/bin"], "Labels": {"tier": cmd}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes()
}

pub fn archive(files: &[(String, Vec<u8>)], links: &[(String, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // As it is: the library would refuse a path that leads out.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    for (path, to) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, path, to).unwrap();
    }
    tar.into_inner().unwrap()
}

/// The classic layout of `docker save`: each layer in a directory of its own, those that come twice as links.
fn docker_archive(base: &[u8], top: &[u8]) -> Vec<u8> {
    let one = config(&[base, top], "echo one; cat /app/name");
    let two = config(&[base], "echo two");
    let manifest = serde_json::json!([
        {"Config": "one.json", "RepoTags": ["one:1", "docker.io/library/one:latest"], "Layers": ["aa/layer.tar", "bb/layer.tar"]},
        {"Config": "two.json", "RepoTags": null, "Layers": ["cc/layer.tar"]},
    ]);
    archive(
        &[
            ("one.json".into(), one),
            ("two.json".into(), two),
            ("aa/layer.tar".into(), base.to_vec()),
            ("bb/layer.tar".into(), top.to_vec()),
            ("manifest.json".into(), manifest.to_string().into_bytes()),
        ],
        &[("cc/layer.tar".into(), "../aa/layer.tar".into())],
    )
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// An OCI layout whose image comes for two platforms, its layers compressed in both usual ways.
fn oci_archive(base: &[u8], top: &[u8], name: &str) -> (Vec<u8>, String) {
    let mut files: Vec<(String, Vec<u8>)> =
        vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut blob = |bytes: Vec<u8>| {
        let (digest, size) = (digest(&bytes), bytes.len());
        files.push((format!("blobs/{}", digest.replace(':', "/")), bytes));
        (digest, size)
    };
    let config = blob(config(&[base, top], "echo oci; cat /app/name"));
    let layers = [blob(gzip(base)), blob(zstd::encode_all(top, 3).unwrap())];
    let describe = |(digest, size): &(String, usize)| serde_json::json!({"digest": digest, "size": size, "mediaType": "x"});
    let manifest = serde_json::json!({
        "schemaVersion": 2, "config": describe(&config), "layers": layers.iter().map(describe).collect::<Vec<_>>(),
    });
    let mut ours = describe(&blob(manifest.to_string().into_bytes()));
    ours["platform"] = serde_json::json!({"os": "linux", "architecture": Platform::own().architecture});
    let mut theirs = describe(&blob(b"not a manifest at all".to_vec()));
    theirs["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [theirs, ours]});
    let index = blob(index.to_string().into_bytes());
    let mut top = describe(&index);
    top["annotations"] =
        serde_json::json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "1"});
    let index_json = serde_json::json!({"schemaVersion": 2, "manifests": [top]});
    files.push(("index.json".into(), index_json.to_string().into_bytes()));
    (archive(&files, &[]), index.0)
}

pub fn top_layer() -> Vec<u8> {
    use Entry::*;
    layer(&[
        Dir("app"),
        File("app/name", "stacked\n"),
        Hardlink("app/same", "app/name"),
        // Of the base: one file goes, one directory is emptied, one is replaced by another of the same name.
        File("data/.wh.seed", ""),
        File("etc/.wh..wh..opq", ""),
        File("etc/only", "this\n"),
        File(".wh.home", ""),
        File("home/new", "here\n"),
        File(".wh..wh.plnk", ""),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_an_archive_share_their_layers() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (images, layers) = (lab.runtime.images(), lab.runtime.images().layers_dir());
    let count = || fs::read_dir(&layers).unwrap().count();
    let (base, top) = (busybox_tar(), top_layer());
    let loaded = lab.runtime.load(chunks(gzip(&docker_archive(&base, &top))), Platform::own()).await.unwrap();
    assert_eq!(loaded.len(), 2);
    assert_eq!(loaded[0].tags, words(&["one:1", "one:latest"]));
    assert!(loaded[1].tags.is_empty());
    assert_eq!(count(), 2, "the base is shared, with the imported image too");
    let one = images.resolve("one:1").unwrap();
    assert_eq!(
        (one.id.as_str(), one.layers.len(), one.created_at),
        (loaded[0].id.as_str(), 2, 1_714_979_289_000)
    );
    assert!(one.size > images.resolve(&loaded[1].id).unwrap().size);

    // Stacked as the archive says.
    let mut container = lab.sh("");
    (container.spec.image, container.spec.command) = ("one:1".into(), vec![]);
    assert_eq!(lab.output(container).await, (0, "one\nstacked\n".to_owned()));
    let mut container = lab.sh(
        "ls /data /etc /home | tr '\\n' ' '; stat -c %h /app/name; stat -c %a /bin/suid; cat /home/new; ls -a / | grep -c wh",
    );
    container.spec.image = "one:1".into();
    let (_, output) = lab.output(container).await;
    // `hosts` and the like are mounted over what the image has.
    for expected in ["/data: ", "only", "/home: new", "2\n4755\nhere\n0\n"] {
        assert!(output.contains(expected), "{expected:?} in {output:?}");
    }
    for hidden in ["seed", "passwd"] {
        assert!(!output.contains(hidden), "{hidden} in {output:?}");
    }
    let name = layers.join(&one.layers[0]).join("app/name");
    assert_eq!(fs::metadata(name).unwrap().nlink(), 2);

    // The same again changes nothing; a name that moves says what it left.
    let again = lab.runtime.load(chunks(docker_archive(&base, &top)), Platform::own()).await.unwrap();
    assert_eq!((again[0].id.as_str(), again[0].renamed.len(), count()), (loaded[0].id.as_str(), 0, 2));
    let (oci, index) = oci_archive(&base, &top, "docker.io/library/one:1");
    let oci = lab.runtime.load(chunks(oci), Platform::own()).await.unwrap();
    assert_eq!(
        (oci[0].tags.clone(), oci[0].renamed.clone()),
        (words(&["one:1"]), vec![]),
        "one:latest is left"
    );
    let pinned = images.resolve(&format!("one:1@{index}")).unwrap();
    assert_eq!((pinned.id.as_str(), count()), (oci[0].id.as_str(), 2));
    assert!(images.resolve(&format!("one@{}", digest(b"other"))).is_err(), "a digest is not a tag");
    let wrong = lab
        .runtime
        .load(chunks(oci_archive(&base, &top, "x").0), Platform::parse("linux/mips").unwrap())
        .await;
    assert!(wrong.unwrap_err().to_string().contains("no matching manifest for linux/mips"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_stays() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let (images, layers) = (lab.runtime.images(), lab.runtime.images().layers_dir());
    let (base, top) = (busybox_tar(), top_layer());
    lab.runtime.load(chunks(docker_archive(&base, &top)), Platform::own()).await.unwrap();
    let one = images.resolve("one:1").unwrap();
    let mut container = lab.sh("exec sleep 1000");
    container.spec.image = "one:1".into();
    let id = lab.run(container).await;
    let short = id.short();

    let says = |result: runtime::Result<runtime::Removed>, words: &[&str]| {
        let error = result.unwrap_err();
        assert!(matches!(error, RuntimeError::Conflict(_)), "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} in {error}");
        }
    };
    let removed = lab.runtime.remove_image("one:latest", false).await.unwrap();
    assert_eq!((removed.untagged, removed.deleted), (words(&["one:latest"]), vec![]));
    says(
        lab.runtime.remove_image("one:1", false).await,
        &["conflict: unable to remove repository reference \"one:1\" (must force)", short, &one.id[7..19]],
    );
    says(
        lab.runtime.remove_image(&one.id, true).await,
        &[
            "conflict: unable to delete",
            "(cannot be forced) - image is being used by running container",
            short,
        ],
    );
    // Two images have no name; one of them runs nothing.
    let forced = lab.runtime.remove_image("one:1", true).await.unwrap();
    assert_eq!((forced.untagged, forced.deleted), (words(&["one:1"]), vec![]));
    let pruned = lab.runtime.prune_images(PruneFilter::default()).await.unwrap();
    assert_eq!((pruned.images.len(), fs::read_dir(&layers).unwrap().count()), (1, 2), "{pruned:?}");
    assert_eq!(
        lab.exec(&id, runtime::ExecConfig { args: words(&["cat", "/app/name"]), ..Default::default() })
            .await
            .1,
        "stacked\n"
    );

    // A container that has ended can be overruled, and its label, its age and its name can spare an image.
    lab.runtime.stop(&id, 9, std::time::Duration::ZERO).await.unwrap();
    says(lab.runtime.remove_image(&one.id, false).await, &["(must be forced)", "stopped container", short]);
    lab.runtime.delete(&id, false).await.unwrap();
    let labels = |text: &str| vec![(text.to_owned(), None)];
    for spared in [
        PruneFilter { labels: labels("nosuch"), ..PruneFilter::default() },
        PruneFilter { not_labels: labels("tier"), ..PruneFilter::default() },
        PruneFilter { until: Some(1), ..PruneFilter::default() },
    ] {
        assert!(lab.runtime.prune_images(spared).await.unwrap().images.is_empty());
    }
    let pruned = lab
        .runtime
        .prune_images(PruneFilter { labels: labels("tier"), ..PruneFilter::default() })
        .await
        .unwrap();
    assert_eq!(pruned.images, [one.id]);
    assert!(pruned.reclaimed > 0);
    assert_eq!(images.list().len(), 1, "busybox has a name");
    let all = lab.runtime.prune_images(PruneFilter { all: true, ..PruneFilter::default() }).await.unwrap();
    assert_eq!((all.untagged, fs::read_dir(&layers).unwrap().count()), (words(&["busybox:latest"]), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_archives_leave_nothing() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    lab.runtime.remove_image("busybox", true).await.unwrap();
    let good = layer(&[Entry::File("a", "b")]);
    let with = |manifest: &str, config: Vec<u8>, content: &[u8]| {
        archive(
            &[
                ("c.json".into(), config),
                ("l.tar".into(), content.to_vec()),
                ("manifest.json".into(), manifest.into()),
            ],
            &[],
        )
    };
    let manifest = r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#;
    let (mut damaged, _) = oci_archive(&good, &good, "x:1");
    let at = damaged.windows(15).position(|w| w == b"not a manifest ").unwrap();
    damaged[at] = b'N';
    let outside = archive(&[("../../etc/x".into(), vec![])], &[]);
    let deep = r#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["../../../l.tar"]}]"#;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"not a tar at all".repeat(100), "not a tar, but text"),
        (gzip(&b"not a tar at all".repeat(100)), "not a tar, but text"),
        (b"\xfd7zXZ\0".repeat(100), "xz -d"),
        (b"\x7fELF\x02\x01".repeat(100), "a program (ELF)"),
        (Vec::new(), "empty"),
        (archive(&[("root/file".into(), b"x".to_vec())], &[]), "rnctl import"),
        (with(manifest, config(&[b"other"], "x"), &good), "the image's configuration says"),
        (with(manifest, config(&[&good, &good], "x"), &good), "has 1 layers, its configuration names 2"),
        (with(manifest, b"{}".to_vec(), &good), "no layers"),
        (with(r#"[{"Config":"none.json","Layers":[]}]"#, vec![], &good), "it lacks none.json"),
        (
            with(r#"[{"Config":"c.json","RepoTags":["X"],"Layers":[]}]"#, vec![], &good),
            "invalid reference format",
        ),
        (with(deep, config(&[&good], "x"), &good), "it lacks ../../../l.tar"),
        (outside, "leads out"),
    ];
    for (bytes, words) in cases {
        let error = lab.runtime.load(chunks(bytes), Platform::own()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} in {error:?}");
    }
    // What is not ours to read may be as it likes.
    assert_eq!(lab.runtime.load(chunks(damaged), Platform::own()).await.unwrap().len(), 1);
    lab.runtime.remove_image("x:1", true).await.unwrap();
    let images = lab.config.data_root.join("images");
    for name in ["layers", "images", "new"] {
        assert_eq!(fs::read_dir(images.join(name)).unwrap().count(), 0, "{name}");
    }
}
