//! What a worker keeps on disk, so that it serves after a reboot while no manager answers: its assignments, the managers'
//! addresses and the gossip keys, and the number of its starts. All under `<data-root>/worker`, mode 0700; files 0600, each
//! replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prost::Message;
use proto::pb;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
};

use super::assignments::Assigned;
use crate::gossip::Generation;

const ASSIGNED: &str = "assigned.pb";
const SESSION: &str = "session.pb";
const GENERATION: &str = "generation";

/// How long kept assignments wait for their way to the disk: what arrives in between goes along.
const PAUSE: Duration = Duration::from_millis(200);

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}: {source}", path.display())]
pub struct PersistError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// When a file has to be on the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Now,
    Later,
}

/// The directory.
#[derive(Debug, Clone)]
pub struct WorkerDir {
    dir: PathBuf,
}

impl WorkerDir {
    /// Opens, or makes, the directory under a daemon's data root.
    pub fn open(data_root: &Path) -> Result<Self, PersistError> {
        let dir = data_root.join("worker");
        let failed = |source| PersistError { verb: "creating", path: dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        Ok(Self { dir })
    }

    /// Forgets everything but the number of starts: `swarm leave`.
    pub fn clear(&self) -> Result<(), PersistError> {
        for name in [ASSIGNED, SESSION] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(PersistError { verb: "removing", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The number of this start: milliseconds since the epoch, but more than any before even if the clock was set back.
    /// Kept before it is returned.
    pub fn next_generation(&self) -> Result<Generation, PersistError> {
        let last =
            self.read(GENERATION)?.and_then(|b| String::from_utf8(b).ok()?.trim().parse::<Generation>().ok());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = Generation::try_from(since.as_millis()).unwrap_or(Generation::MAX);
        let next = clock.max(last.map_or(0, |l| l + 1));
        self.write(GENERATION, next.to_string().as_bytes(), Sync::Now)?;
        Ok(next)
    }

    /// The last assignments, if any that can be read. A damaged file is as good as none: the managers have the truth.
    pub fn assigned(&self) -> Result<Option<Assigned>, PersistError> {
        let Some(bytes) = self.read(ASSIGNED)? else { return Ok(None) };
        let assigned = pb::AssignmentsMessage::decode(&*bytes).map_err(|e| e.to_string());
        match assigned.and_then(|m| Assigned::try_from(m).map_err(|e| e.to_string())) {
            Ok(assigned) => Ok(Some(assigned)),
            Err(error) => {
                tracing::warn!(%error, file = %self.dir.join(ASSIGNED).display(), "kept assignments ignored");
                Ok(None)
            }
        }
    }

    /// Keeps the assignments: safe from the death of this process at once, from a power loss a moment later
    /// ([`WorkerDir::sync_assigned`]), when the containers they are about will be gone too.
    pub fn save_assigned(&self, assigned: &Assigned) -> Result<(), PersistError> {
        self.write(ASSIGNED, &pb::AssignmentsMessage::from(assigned).encode_to_vec(), Sync::Later)
    }

    /// Brings what was kept to the disk.
    pub fn sync_assigned(&self) -> Result<(), PersistError> {
        let path = self.dir.join(ASSIGNED);
        let sync = || File::open(&path)?.sync_all().and_then(|()| File::open(&self.dir)?.sync_all());
        sync().map_err(|source| PersistError { verb: "syncing", path: path.clone(), source })
    }

    /// What the last session said: managers, seeds, keys.
    pub fn session(&self) -> Result<Option<pb::SessionMessage>, PersistError> {
        let Some(bytes) = self.read(SESSION)? else { return Ok(None) };
        Ok(pb::SessionMessage::decode(&*bytes).ok())
    }

    /// Keeps what the session says.
    pub fn save_session(&self, session: &pb::SessionMessage) -> Result<(), PersistError> {
        self.write(SESSION, &session.encode_to_vec(), Sync::Now)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PersistError> {
        let path = self.dir.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PersistError { verb: "reading", path, source }),
        }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, bytes: &[u8], sync: Sync) -> Result<(), PersistError> {
        let (path, next) = (self.dir.join(name), self.dir.join(format!("{name}.next")));
        let replace = || -> io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
            file.write_all(bytes)?;
            if sync == Sync::Now {
                file.sync_all()?;
            }
            fs::rename(&next, &path)?;
            if sync == Sync::Now { File::open(&self.dir)?.sync_all() } else { Ok(()) }
        };
        replace().map_err(|source| PersistError { verb: "writing", path, source })
    }
}

/// Brings the assignments that were kept to the disk's platters, a moment after they have changed. Ends with the sender.
pub(super) async fn flush(dir: WorkerDir, mut assigned: watch::Receiver<Arc<Assigned>>) {
    while assigned.changed().await.is_ok() {
        tokio::time::sleep(PAUSE).await;
        assigned.mark_unchanged();
        let synced = match Handle::current().runtime_flavor() {
            // Nobody is held up by it there, and the simulation's replays need one order of things.
            RuntimeFlavor::CurrentThread => dir.sync_assigned(),
            _ => {
                let dir = dir.clone();
                tokio::task::spawn_blocking(move || dir.sync_assigned()).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = synced {
            tracing::warn!(%error, "the assignments may not survive a power loss");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDir::open(root.path()).unwrap();
        assert!(dir.assigned().unwrap().is_none() && dir.session().unwrap().is_none());
        let assigned = crate::fixture::World::new().assigned;
        dir.save_assigned(&assigned).unwrap();
        assert_eq!(dir.assigned().unwrap().unwrap(), assigned);
        let session = pb::SessionMessage {
            session_id: "s".into(),
            network_keys: vec![pb::NetworkKey { subsystem: "gossip".into(), lamport: 3, key: vec![1; 16] }],
            ..Default::default()
        };
        dir.save_session(&session).unwrap();
        assert_eq!(dir.session().unwrap().unwrap(), session);
        let mode = fs::metadata(root.path().join("worker/session.pb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        dir.clear().unwrap();
        assert!(dir.session().unwrap().is_none());
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDir::open(root.path()).unwrap();
        fs::write(root.path().join("worker/assigned.pb"), b"\xff\xff\xff").unwrap();
        assert!(dir.assigned().unwrap().is_none());
    }

    #[test]
    fn generations_rise_even_if_the_clock_does_not() {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDir::open(root.path()).unwrap();
        let first = dir.next_generation().unwrap();
        let future = first + 1_000_000_000;
        fs::write(root.path().join("worker/generation"), future.to_string()).unwrap();
        assert_eq!(dir.next_generation().unwrap(), future + 1);
        assert_eq!(dir.next_generation().unwrap(), future + 2);
    }
}
