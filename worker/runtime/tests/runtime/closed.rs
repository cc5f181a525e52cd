//! Nobody but root reaches what containers and images are made of.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use runtime::{Runtime, ShimRuntime};

use crate::{
    lab::{Lab, skip},
    mount,
};

/// What a user of the machine gets who asks for a file: the kernel's answer, or none if the file opens.
fn as_nobody(path: &Path) -> Option<String> {
    let output =
        Command::new("/bin/cat").arg(path).uid(65534).gid(65534).env("LC_ALL", "C").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(text)
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_containers_and_volumes_are_closed_to_other_users() {
    if skip() {
        return;
    }
    let lab = Lab::new().await;
    let mut container = lab.sh("id -u; cat /data/seed; echo mine >> /data/seed; tail -n 1 /data/seed; cat /vol/file; exec sleep 1000");
    container.spec.user = "1000".to_owned();
    container.spec.mounts = vec![mount("volume", "shared", "/vol")];
    let volume = lab.config.data_root.join("volumes/shared/_data");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("file"), "of the volume\n").unwrap();
    let id = lab.run(container).await;
    // A program that is not root works in it all the same.
    let wanted = "1000\nfrom the image\nmine\nof the volume\n";
    lab.until_logged(&id, "of the volume").await;
    assert_eq!(lab.log(&id).await, wanted);

    let image = lab.runtime.images().resolve("busybox").unwrap();
    let layer = lab.runtime.images().layers_dir().join(&image.layers[0]);
    let upper = lab.config.data_root.join("containers").join(id.as_str()).join("upper");
    let secrets: Vec<PathBuf> =
        vec![layer.join("bin/suid"), layer.join("bin/busybox"), upper.join("data/seed"), volume.join("file")];
    let run_dir = lab.config.exec_root.join("containers").join(id.as_str());
    // The way down to both roots is open here: what is closed is ours.
    let deep = lab.config.data_root.parent().unwrap().to_owned();
    for dir in [lab.root.path(), deep.as_path(), &lab.config.data_root, &lab.config.exec_root] {
        open(dir, 0o755);
    }
    fs::write(deep.join("seen"), "x").unwrap();
    assert_eq!(as_nobody(&deep.join("seen")), None, "the test itself is in the way");
    let closed = || {
        for path in secrets.iter().chain([&run_dir.join("shim.sock")]) {
            let answer = as_nobody(path);
            let denied = answer.as_ref().is_some_and(|text| text.contains("Permission denied"));
            assert!(denied, "{}: {answer:?}", path.display());
        }
    };
    closed();

    // What an older daemon left open is closed at the next start.
    for dir in ["containers", "volumes", "images", "images/layers"] {
        open(&lab.config.data_root.join(dir), 0o755);
    }
    open(&lab.config.exec_root.join("containers"), 0o755);
    assert_eq!(as_nobody(&layer.join("bin/busybox")).as_deref(), None, "as it was");
    let again = ShimRuntime::open(lab.config.clone()).await.unwrap();
    closed();
    assert!(again.list().iter().any(|c| c.record.id == id));
}
