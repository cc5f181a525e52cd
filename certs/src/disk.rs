//! A node's certificates on disk: `<data-root>/swarm/certificates/{swarm-root-ca.crt,swarm-node.crt,swarm-node.key}`.
//!
//! Key, certificate and roots belong together, but files are replaced one by one. So the new ones are first written beside the old
//! (`*.next`, the certificate last), and then renamed, the certificate last again. A `swarm-node.crt.next` whose key is found means
//! that the new set is complete: [`CertificateDir::load`] finishes the renames. Else it is a torso, and the old set still stands.
//!
//! Each file is a [record](durable::record), which programs that read PEM take as PEM.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use durable::{PRIVATE, PUBLIC, ReadError};
use proto::error::ApiError;

use crate::{CertError, Identity, LockError, UnlockKey, lock};

const ROOT: &str = "swarm-root-ca.crt";
const CERT: &str = "swarm-node.crt";
const KEY: &str = "swarm-node.key";
/// In the order of writing and of renaming: the certificate, last, seals the set.
const FILES: [&str; 3] = [ROOT, KEY, CERT];
const NEXT: &str = ".next";

/// What can go wrong with the files.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// The files are there and unusable.
    #[error("certificates in {}: {source}", dir.display())]
    Unusable {
        /// Where they are.
        dir: PathBuf,
        /// What is wrong.
        source: CertError,
    },
    /// A file cannot be read, or is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Some of the files are missing.
    #[error("certificates in {}: {file} is missing", dir.display())]
    Incomplete {
        /// Where they are.
        dir: PathBuf,
        /// The first missing one.
        file: &'static str,
    },
    /// The key is wrapped.
    #[error(transparent)]
    Locked(#[from] LockError),
}

impl From<DiskError> for ApiError {
    fn from(error: DiskError) -> Self {
        let message = error.to_string();
        match error {
            DiskError::Locked(_) => ApiError::precondition(message),
            // Nobody but this node has its key; what else it was, its swarm still knows.
            DiskError::Read(ReadError::Damaged { .. })
            | DiskError::Unusable { .. }
            | DiskError::Incomplete { .. } => ApiError::internal(message).help(
                "put the file back from a backup and restart rnd, or let the node join anew: rnctl swarm leave --force, then \
                 rnctl swarm join",
            ),
            DiskError::Io { .. } | DiskError::Read(ReadError::Io { .. }) => ApiError::internal(message),
        }
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub struct CertificateDir {
    dir: PathBuf,
    /// Wraps the node's key.
    unlock: Option<UnlockKey>,
}

impl CertificateDir {
    /// The directory under a daemon's data root. Touches nothing.
    pub fn new(data_root: &Path) -> Self {
        Self { dir: data_root.join("swarm/certificates"), unlock: None }
    }

    /// The same, with the node's key wrapped under `unlock`.
    pub fn with_unlock(mut self, unlock: Option<UnlockKey>) -> Self {
        self.unlock = unlock;
        self
    }

    /// What wraps the node's key.
    pub fn unlock(&self) -> Option<&UnlockKey> {
        self.unlock.as_ref()
    }

    fn opened(&self, key: String) -> Result<String, LockError> {
        let key = lock::opened(key.into_bytes(), self.unlock.as_ref())?;
        Ok(String::from_utf8_lossy(&key).into_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The identity kept here; none when the node is in no swarm. Finishes, or clears away, a replacement that was interrupted.
    pub fn load(&self) -> Result<Option<Identity>, DiskError> {
        self.settle()?;
        let mut texts = Vec::with_capacity(FILES.len());
        for file in FILES {
            texts.push(self.read(file)?);
        }
        let missing = FILES.iter().zip(&texts).find(|(_, text)| text.is_none());
        match (texts.as_slice(), missing) {
            // What an interrupted `remove` leaves is no identity either.
            ([_, _, None], _) => Ok(None),
            ([Some(root), Some(key), Some(cert)], _) => Identity::new(root, cert, &self.opened(key.clone())?)
                .map(Some)
                .map_err(|source| DiskError::Unusable { dir: self.dir.clone(), source }),
            (_, missing) => Err(DiskError::Incomplete {
                dir: self.dir.clone(),
                file: missing.map_or(ROOT, |(file, _)| file),
            }),
        }
    }

    /// Keeps `identity`. When this returns it is on the disk; when the machine stops before, the old one is.
    pub fn save(&self, identity: &Identity) -> Result<(), DiskError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|e| self.failed("creating", "", e))?;
        self.stage(identity)?;
        self.commit()
    }

    /// Forgets the identity: `swarm leave`.
    pub fn remove(&self) -> Result<(), DiskError> {
        // The certificate first: without it the rest is no identity.
        for file in FILES.iter().rev() {
            self.delete(&format!("{file}{NEXT}"))?;
            self.delete(file)?;
        }
        Ok(())
    }

    fn stage(&self, identity: &Identity) -> Result<(), DiskError> {
        let key = match &self.unlock {
            Some(unlock) => unlock.wrap(identity.key_pem().as_bytes()),
            None => Ok(identity.key_pem().to_owned()),
        };
        let key = key.map_err(|source| DiskError::Unusable { dir: self.dir.clone(), source })?;
        for (file, text, mode) in [
            (ROOT, identity.root_pem(), PUBLIC),
            (KEY, key.as_str(), PRIVATE),
            (CERT, identity.cert_pem(), PUBLIC),
        ] {
            let name = format!("{file}{NEXT}");
            durable::save(&self.dir.join(&name), text.as_bytes(), mode)
                .map_err(|e| self.failed("writing", &name, e))?;
        }
        Ok(())
    }

    fn commit(&self) -> Result<(), DiskError> {
        for file in FILES {
            let next = self.dir.join(format!("{file}{NEXT}"));
            // Each is on the disk before the next: their order must survive a power loss too.
            match durable::rename(&next, &self.dir.join(file)) {
                Ok(()) => {}
                // Renamed before an interruption.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.failed("replacing", file, e)),
            }
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), DiskError> {
        // One that is damaged was not written to its end.
        let whole = |name: &str| match self.read(name) {
            Err(DiskError::Read(ReadError::Damaged { .. })) => Ok(None),
            other => other,
        };
        let next = |file: &str| whole(&format!("{file}{NEXT}"));
        let staged = |file: &str| match next(file)? {
            Some(text) => Ok::<_, DiskError>(Some(text)),
            None => whole(file),
        };
        if let Some(cert) = next(CERT)? {
            let complete = match (staged(ROOT)?, staged(KEY)?) {
                (Some(root), Some(key)) => Identity::new(&root, &cert, &self.opened(key)?).is_ok(),
                _ => false,
            };
            if complete {
                return self.commit();
            }
        }
        FILES.iter().rev().try_for_each(|file| self.delete(&format!("{file}{NEXT}")))
    }

    fn read(&self, name: &str) -> Result<Option<String>, DiskError> {
        // Garbage is for the PEM parser to name.
        let text = durable::load(&self.dir.join(name))?;
        Ok(text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn delete(&self, name: &str) -> Result<(), DiskError> {
        durable::remove(&self.dir.join(name)).map_err(|e| self.failed("removing", name, e))
    }

    fn failed(&self, action: &'static str, name: &str, source: io::Error) -> DiskError {
        let path = if name.is_empty() { self.dir.clone() } else { self.dir.join(name) };
        DiskError::Io { action, path, source }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::{fs, os::unix::fs::PermissionsExt, time::SystemTime};

    use proto::model::{ClusterId, NodeId, Role};

    use super::*;
    use crate::{
        RootCa, Subject,
        issue::{DEFAULT_VALIDITY, new_csr},
    };

    /// A member of a cluster of its own: each set has another root.
    fn identity() -> Identity {
        let root = RootCa::create(SystemTime::now()).unwrap();
        let subject =
            Subject { node_id: NodeId::random(), role: Role::Worker, cluster_id: ClusterId::random() };
        let (key, csr) = new_csr().unwrap();
        let cert = root.issue(&csr, &subject, DEFAULT_VALIDITY, SystemTime::now()).unwrap();
        Identity::new(root.cert_pem(), &cert, &key).unwrap()
    }

    fn loaded(dir: &CertificateDir) -> Option<NodeId> {
        dir.load().unwrap().map(|identity| identity.node_id().clone())
    }

    #[test]
    fn an_identity_survives_the_disk_and_is_private() {
        let root = tempfile::tempdir().unwrap();
        let dir = CertificateDir::new(root.path());
        assert_eq!(loaded(&dir), None);
        for identity in [identity(), identity()] {
            dir.save(&identity).unwrap();
            assert_eq!(loaded(&dir).as_ref(), Some(identity.node_id()));
        }
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(KEY), mode("")), (0o600, 0o700));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        dir.remove().unwrap();
        assert_eq!(loaded(&dir), None);
        dir.remove().unwrap();
    }

    /// Stops a replacement after every single step, and demands the old identity or the new one, whole.
    #[test]
    fn an_interrupted_replacement_leaves_one_whole_identity() {
        let (old, new) = (identity(), identity());
        for staged in 0..=3 {
            for renamed in 0..=(if staged == 3 { 3 } else { 0 }) {
                let root = tempfile::tempdir().unwrap();
                let dir = CertificateDir::new(root.path());
                dir.save(&old).unwrap();
                let texts = [new.root_pem(), new.key_pem(), new.cert_pem()];
                for (file, text) in FILES.iter().zip(texts).take(staged) {
                    fs::write(dir.path().join(format!("{file}{NEXT}")), text).unwrap();
                }
                for file in FILES.iter().take(renamed) {
                    fs::rename(dir.path().join(format!("{file}{NEXT}")), dir.path().join(file)).unwrap();
                }
                let wanted = if staged == 3 { &new } else { &old };
                assert_eq!(
                    loaded(&dir).as_ref(),
                    Some(wanted.node_id()),
                    "staged {staged}, renamed {renamed}"
                );
                assert_eq!(
                    fs::read_dir(dir.path()).unwrap().count(),
                    3,
                    "staged {staged}, renamed {renamed}"
                );
            }
        }
    }

    #[test]
    fn a_half_written_certificate_is_a_torso() {
        let (old, new) = (identity(), identity());
        let root = tempfile::tempdir().unwrap();
        let dir = CertificateDir::new(root.path());
        dir.save(&old).unwrap();
        dir.stage(&new).unwrap();
        let half = &new.cert_pem()[..new.cert_pem().len() / 2];
        fs::write(dir.path().join(format!("{CERT}{NEXT}")), half).unwrap();
        assert_eq!(loaded(&dir).as_ref(), Some(old.node_id()));
    }

    #[test]
    fn missing_and_damaged_files_are_named() {
        let root = tempfile::tempdir().unwrap();
        let dir = CertificateDir::new(root.path());
        dir.save(&identity()).unwrap();
        for file in FILES {
            let whole = fs::read(dir.path().join(file)).unwrap();
            let cut = &whole[..whole.len() / 2];
            for (bytes, words) in [
                (&b""[..], "it is empty"),
                (&vec![0; whole.len()], "nothing but zeros"),
                (cut, "cut off after"),
            ] {
                fs::write(dir.path().join(file), bytes).unwrap();
                let error = ApiError::from(dir.load().expect_err("damaged"));
                assert!(error.message.contains(file) && error.message.contains(words), "{error}");
                assert!(format!("{error:?}").contains("swarm leave --force"), "{error:?}");
            }
            fs::write(dir.path().join(file), whole).unwrap();
        }
        dir.load().unwrap();
        // PEM that another program has put there is taken as it is.
        for file in FILES {
            let text = String::from_utf8(durable::load(&dir.path().join(file)).unwrap().unwrap()).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        }
        dir.load().unwrap();
        fs::write(dir.path().join(ROOT), [0xff, 0xfe]).unwrap();
        assert!(matches!(dir.load(), Err(DiskError::Unusable { .. })));
        fs::remove_file(dir.path().join(KEY)).unwrap();
        let error = dir.load().expect_err("incomplete").to_string();
        assert!(error.contains("swarm-node.key is missing"), "{error}");
    }
}
