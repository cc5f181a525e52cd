//! What a worker keeps on disk, so that it serves after a reboot while no manager answers: its assignments, the managers'
//! addresses and the gossip keys, and the number of its starts. All under `<data-root>/worker`, mode 0700; files 0600, each
//! a record replaced as a whole.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use durable::{Loaded, PRIVATE, ReadError};
use gossip::Generation;
use network::assigned::Assigned;
use prost::Message;
use proto::pb;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
};

use super::assignments::{from_message, to_message};

const ASSIGNED: &str = "assigned.pb";
const SESSION: &str = "session.pb";
const GENERATION: &str = "generation";

/// How long kept assignments wait for their way to the disk: what arrives in between goes along.
const PAUSE: Duration = Duration::from_millis(200);

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// The file system failed.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// It cannot be read, or not be put out of the way.
    #[error(transparent)]
    Read(#[from] ReadError),
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
        let failed = |source| PersistError::Io { verb: "creating", path: dir.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        durable::sweep(&dir).map_err(failed)?;
        Ok(Self { dir })
    }

    /// Forgets everything but the number of starts: `swarm leave`.
    pub fn clear(&self) -> Result<(), PersistError> {
        let assigned = self.dir.join(ASSIGNED);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PersistError::Io { verb: "removing", path, source }
        };
        durable::discard_drafts(&assigned).map_err(failed(&assigned))?;
        for path in [assigned, self.dir.join(SESSION)] {
            durable::remove(&path).map_err(failed(&path))?;
        }
        Ok(())
    }

    /// The number of this start: milliseconds since the epoch, but more than any before even if the clock was set back.
    /// Kept before it is returned. If the last one is lost, the clock has to do.
    pub fn next_generation(&self) -> Result<Generation, PersistError> {
        let parse = |b: &[u8]| String::from_utf8_lossy(b).trim().parse::<Generation>();
        let last =
            told(durable::load_or_set_aside(&self.dir.join(GENERATION), parse)?, "the clock has to do");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = Generation::try_from(since.as_millis()).unwrap_or(Generation::MAX);
        let next = clock.max(last.map_or(0, |l| l.saturating_add(1)));
        self.save(GENERATION, next.to_string().as_bytes())?;
        Ok(next)
    }

    /// The last assignments, if any that can be read. A damaged file is as good as none: the managers have the truth.
    pub fn assigned(&self) -> Result<Option<Assigned>, PersistError> {
        let parse = |bytes: &[u8]| {
            let message = pb::AssignmentsMessage::decode(bytes).map_err(|e| e.to_string())?;
            from_message(message).map_err(|e| e.to_string())
        };
        let kept = durable::load_latest_or_set_aside(&self.dir.join(ASSIGNED), parse)?;
        Ok(told(kept, "the managers are asked for the assignments"))
    }

    /// Keeps the assignments: safe from the death of this process at once, from a power loss a moment later
    /// ([`WorkerDir::sync_assigned`]); until then a power loss leaves the ones before.
    pub fn save_assigned(&self, assigned: &Assigned) -> Result<(), PersistError> {
        let (path, bytes) = (self.dir.join(ASSIGNED), to_message(assigned).encode_to_vec());
        durable::draft(&path, &bytes, PRIVATE).map_err(|source| PersistError::Io {
            verb: "writing",
            path,
            source,
        })
    }

    /// Brings what was kept to the disk.
    pub fn sync_assigned(&self) -> Result<(), PersistError> {
        let path = self.dir.join(ASSIGNED);
        let settled = durable::settle(&path);
        settled.map(drop).map_err(|source| PersistError::Io { verb: "syncing", path, source })
    }

    /// What the last session said: managers, seeds, keys. A damaged file is as good as none.
    pub fn session(&self) -> Result<Option<pb::SessionMessage>, PersistError> {
        let kept = durable::load_or_set_aside(&self.dir.join(SESSION), |b| pb::SessionMessage::decode(b))?;
        Ok(told(kept, "the managers that were named at init or join are asked"))
    }

    /// Keeps what the session says.
    pub fn save_session(&self, session: &pb::SessionMessage) -> Result<(), PersistError> {
        self.save(SESSION, &session.encode_to_vec())
    }

    fn save(&self, name: &str, bytes: &[u8]) -> Result<(), PersistError> {
        let path = self.dir.join(name);
        durable::save(&path, bytes, PRIVATE).map_err(|source| PersistError::Io {
            verb: "writing",
            path,
            source,
        })
    }
}

/// What was whole; a damaged file is told of, with what happens instead.
fn told<T>(kept: Loaded<T>, instead: &str) -> Option<T> {
    kept.or_tell(|aside| tracing::warn!("{aside}; {instead}"))
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
        let assigned = network::fixture::World::new().assigned;
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
        let assigned = network::fixture::World::new().assigned;
        // Zeros are valid protobuf of another message.
        for damage in [&b"\xff\xff\xff"[..], &[0; 4096], b""] {
            dir.save_assigned(&assigned).unwrap();
            dir.sync_assigned().unwrap();
            assert_eq!(dir.assigned().unwrap().as_ref(), Some(&assigned));
            for name in [ASSIGNED, SESSION, GENERATION] {
                fs::write(root.path().join("worker").join(name), damage).unwrap();
            }
            assert!(dir.assigned().unwrap().is_none() && dir.session().unwrap().is_none());
            dir.next_generation().unwrap();
            for name in [ASSIGNED, SESSION, GENERATION] {
                let aside = root.path().join("worker").join(format!("{name}.damaged"));
                assert_eq!(fs::read(aside).unwrap(), damage, "what was there stays to be looked at");
            }
        }
    }

    #[test]
    fn a_power_cut_before_the_sync_leaves_the_assignments_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = WorkerDir::open(root.path()).unwrap();
        let assigned = network::fixture::World::new().assigned;
        dir.save_assigned(&assigned).unwrap();
        dir.sync_assigned().unwrap();
        dir.save_assigned(&Assigned { generation: assigned.generation + 1, ..assigned.clone() }).unwrap();
        let draft = root.path().join("worker/assigned.pb.draft");
        let len = fs::metadata(&draft).unwrap().len();
        fs::write(&draft, vec![0; usize::try_from(len).unwrap()]).unwrap();
        assert_eq!(dir.assigned().unwrap().unwrap(), assigned);
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
