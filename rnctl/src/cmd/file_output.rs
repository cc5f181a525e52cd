//! Archives that go into a file or to standard output.

use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;

use crate::{
    api::ByteStream,
    exit::Failure,
    output::{self, is_terminal},
};

/// Where an archive goes.
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is there once it is whole.
    File(PathBuf),
}

impl Target {
    /// As `--output` says.
    ///
    /// # Errors
    /// A terminal is no place for it, or there is no folder for the file.
    pub fn of(file: Option<PathBuf>) -> Result<Self, Failure> {
        match file {
            None if is_terminal() => {
                Err(Failure::local("cowardly refusing to save to a terminal. Use the -o flag or redirect"))
            }
            None => Ok(Self::Stdout),
            Some(file) => {
                let dir = folder(&file);
                if !dir.is_dir() {
                    return Err(Failure::local(format!(
                        "invalid output path: directory {:?} does not exist",
                        dir.display()
                    )));
                }
                Ok(Self::File(file))
            }
        }
    }

    /// Writes all of it. Of a file that was there before, nothing is lost unless the new one is whole.
    ///
    /// # Errors
    /// The connection is lost, or the file cannot be written.
    pub async fn write(self, mut bytes: ByteStream) -> Result<(), Failure> {
        let Self::File(file) = self else {
            while let Some(piece) = bytes.next().await? {
                let _ = tokio::task::spawn_blocking(move || output::bytes(false, &piece)).await;
            }
            return Ok(());
        };
        let failed = |e: std::io::Error| Failure::local(format!("cannot write {}: {e}", file.display()));
        // A device or a pipe is written to as it is.
        if file.exists() && !file.is_file() {
            let opened = tokio::fs::File::options().write(true).open(&file).await.map_err(failed)?;
            return pour(&mut bytes, opened, failed).await;
        }
        let new = tempfile::NamedTempFile::new_in(folder(&file)).map_err(failed)?;
        let opened = tokio::fs::File::from_std(new.reopen().map_err(failed)?);
        pour(&mut bytes, opened, failed).await?;
        durable::rename(new.path(), &file).map_err(|e| failed(std::io::Error::other(e)))?;
        // It has another name now.
        let _ = new.into_temp_path().keep();
        Ok(())
    }
}

async fn pour(
    bytes: &mut ByteStream,
    mut file: tokio::fs::File,
    failed: impl Fn(std::io::Error) -> Failure,
) -> Result<(), Failure> {
    while let Some(piece) = bytes.next().await? {
        file.write_all(&piece).await.map_err(&failed)?;
    }
    file.flush().await.map_err(failed)
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
