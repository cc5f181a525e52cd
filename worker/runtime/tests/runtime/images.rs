//! The image store, through the runtime.

use std::fs;

use runtime::{ExecConfig, ImportOptions, PruneFilter, Runtime, RuntimeError, ShimRuntime};

use crate::{
    lab::{Lab, busybox_tar, chunks, skip},
    words,
};

#[tokio::test(flavor = "multi_thread")]
async fn images_come_and_go() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let image = lab.runtime.resolve_image("docker.io/library/busybox:latest").await.unwrap();
    assert_eq!(
        (image.tags.as_slice(), image.document.config.cmd.as_slice()),
        (&words(&["busybox:latest"])[..], &words(&["sh"])[..])
    );
    assert_eq!(lab.runtime.resolve_image(&image.id[7..19]).await.unwrap().id, image.id);

    // The same layer under another configuration is kept once.
    let options = ImportOptions {
        reference: "other:1".to_owned(),
        changes: words(&["CMD [\"echo\",\"hi\"]"]),
        ..Default::default()
    };
    let other = lab.runtime.import(chunks(busybox_tar()), options).await.unwrap();
    assert_ne!(other, image.id);
    assert_eq!(fs::read_dir(lab.runtime.images().layers_dir()).unwrap().count(), 1);
    let mut config = lab.sh("");
    (config.spec.image, config.spec.command) = ("other:1".to_owned(), vec![]);
    let id = config.id.clone();
    lab.run(config).await;
    lab.runtime.wait(&id).await.unwrap();
    assert_eq!(lab.log(&id).await, "hi\n");

    assert!(matches!(lab.runtime.remove_image("other:1", false).await, Err(RuntimeError::Conflict(_))));
    lab.runtime.delete(&id, false).await.unwrap();
    let removed = lab.runtime.remove_image("other:1", false).await.unwrap();
    assert_eq!((removed.untagged, removed.deleted), (words(&["other:1"]), vec![other]));
    let removed = lab.runtime.remove_image("busybox", false).await.unwrap();
    assert_eq!(removed.deleted.len(), 2, "the image and its layer");
    assert_eq!(fs::read_dir(lab.runtime.images().layers_dir()).unwrap().count(), 0);

    // Archives that are none, lead out, or stop in the middle leave nothing behind.
    let mut evil = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    evil.append_link(&mut header, "way-out", "/../../../../../..").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    evil.append_data(&mut header, "way-out/tmp/rn-escaped", &b"boo\n"[..]).unwrap();
    lab.runtime.import(chunks(evil.into_inner().unwrap()), ImportOptions::default()).await.unwrap();
    assert!(!std::path::Path::new("/tmp/rn-escaped").exists(), "the archive led out");
    let evil = lab.runtime.images().list();
    lab.runtime.remove_image(&evil[0].id, false).await.unwrap();
    let mut cut = busybox_tar();
    cut.truncate(700_000);
    for bytes in [b"not a tar at all".repeat(100), Vec::new(), cut] {
        let error = lab.runtime.import(chunks(bytes), ImportOptions::default()).await.unwrap_err();
        assert!(matches!(error, RuntimeError::BadArchive(_)), "{error}");
    }
    let images = lab.config.data_root.join("images");
    for name in ["layers", "images", "new"] {
        assert_eq!(fs::read_dir(images.join(name)).unwrap().count(), 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_container_runs_on_stays_though_its_image_is_damaged() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let id = lab.run(lab.sh("exec sleep 1000")).await;
    let image = lab.runtime.resolve_image("busybox").await.unwrap();
    let hex = image.id.strip_prefix("sha256:").unwrap();
    fs::write(lab.config.data_root.join(format!("images/images/{hex}.json")), "half of it").unwrap();
    let layers = || fs::read_dir(lab.runtime.images().layers_dir()).unwrap().count();
    // The first start sets the file aside; from then on there is nothing that is damaged.
    for _ in 0..2 {
        let again = ShimRuntime::open(lab.config.clone()).await.unwrap();
        assert!(again.images().list().is_empty());
        again.prune_images(PruneFilter::default()).await.unwrap();
        assert_eq!(layers(), 1);
    }
    let config = ExecConfig { args: words(&["cat", "/data/seed"]), ..Default::default() };
    assert_eq!(lab.exec(&id, config).await.1, "from the image\n");
    lab.runtime.stop(&id, 9, std::time::Duration::ZERO).await.unwrap();
    lab.runtime.delete(&id, false).await.unwrap();
    ShimRuntime::open(lab.config.clone()).await.unwrap();
    assert_eq!(layers(), 0, "nobody needs it any more");
}
