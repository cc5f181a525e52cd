//! A container's output on disk: one JSON record a line, rotated by size.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use shim_wire::{LogLimits, LogRecord, Stream};

/// A longer line is cut into several records, as Docker does.
const MAX_LINE: usize = 16 * 1024;

/// The time, ns since the epoch.
pub fn now_nanos() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Cuts a stream into lines. Pure: what it cannot finish it keeps for the next call.
pub struct Lines {
    stream: Stream,
    rest: Vec<u8>,
}

impl Lines {
    /// Nothing read yet.
    pub fn new(stream: Stream) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// The records that these bytes complete.
    pub fn push(&mut self, at: u64, mut bytes: &[u8], mut emit: impl FnMut(LogRecord)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, more) = bytes.split_at(end);
            self.extend(at, line, &mut emit);
            emit(LogRecord::new(at, self.stream, &self.rest, false));
            self.rest.clear();
            bytes = more.get(1..).unwrap_or_default();
        }
        self.extend(at, bytes, &mut emit);
    }

    /// The last line, if it had no newline.
    pub fn finish(&mut self, at: u64, mut emit: impl FnMut(LogRecord)) {
        if !self.rest.is_empty() {
            emit(LogRecord::new(at, self.stream, &self.rest, false));
            self.rest = Vec::new();
        }
    }

    fn extend(&mut self, at: u64, mut bytes: &[u8], emit: &mut impl FnMut(LogRecord)) {
        while self.rest.len() + bytes.len() > MAX_LINE {
            let (head, tail) = bytes.split_at(MAX_LINE - self.rest.len());
            self.rest.extend_from_slice(head);
            let cut = char_boundary(&self.rest);
            let carry = self.rest.split_off(cut);
            emit(LogRecord::new(at, self.stream, &self.rest, true));
            self.rest = carry;
            bytes = tail;
        }
        self.rest.extend_from_slice(bytes);
    }
}

/// Where to cut these bytes so that no UTF-8 character is torn; their end if they are not UTF-8.
fn char_boundary(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// The file that records go to, and its older fellows.
pub struct LogFile {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    written: u64,
    pending: Vec<u8>,
}

impl LogFile {
    /// Opens it to append.
    pub fn open(path: PathBuf, limits: LogLimits) -> io::Result<Self> {
        let file = append(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, limits, file, written, pending: Vec::new() })
    }

    /// Takes a record; it is on disk after [`LogFile::flush`].
    pub fn record(&mut self, record: &LogRecord) {
        if serde_json::to_writer(&mut self.pending, record).is_ok() {
            self.pending.push(b'\n');
        }
        // Records are larger than the lines in them: a rotation must not wait for the end of a long read.
        if self.pending.len() > MAX_LINE {
            self.flush();
        }
    }

    /// Writes what was taken. A disk that is full costs lines, never the container: it must not wait for its log.
    pub fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if self.file.write_all(&self.pending).is_ok() {
            self.written += self.pending.len() as u64;
        }
        self.pending.clear();
        // A burst must not set the size of the buffer for the rest of the container's life.
        self.pending.shrink_to(MAX_LINE);
        if self.written > self.limits.max_bytes {
            let _ = self.rotate();
        }
    }

    // A log is written line by line, and power may take its end.
    #[allow(clippy::disallowed_methods)]
    fn rotate(&mut self) -> io::Result<()> {
        let older = |n: u32| numbered(&self.path, n);
        let last = self.limits.max_files.saturating_sub(1);
        for n in (1..last).rev() {
            if older(n).exists() {
                std::fs::rename(older(n), older(n + 1))?;
            }
        }
        if last == 0 {
            std::fs::remove_file(&self.path)?;
        } else {
            std::fs::rename(&self.path, older(1))?;
        }
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn texts(chunks: &[&[u8]]) -> Vec<(String, bool)> {
        let mut lines = Lines::new(Stream::Stdout);
        let mut out = Vec::new();
        let mut emit = |record: LogRecord| {
            let partial = record.partial;
            out.push((String::from_utf8_lossy(&record.into_bytes()).into_owned(), partial));
        };
        for chunk in chunks {
            lines.push(1, chunk, &mut emit);
        }
        lines.finish(1, &mut emit);
        out
    }

    #[test]
    fn lines_do_not_depend_on_how_they_were_read() {
        let want = vec![("one".to_owned(), false), (String::new(), false), ("two".to_owned(), false)];
        assert_eq!(texts(&[b"one\n\ntwo"]), want);
        assert_eq!(texts(&[b"o", b"ne", b"\n", b"\nt", b"wo"]), want);
        assert_eq!(texts(&[b"one\n\ntwo\n"]), want);
    }

    #[test]
    fn a_long_line_is_cut_between_characters_and_loses_nothing() {
        let line = "\u{fc}".repeat(20_000);
        let cut = texts(&[format!("x{line}\nend\n").as_bytes()]);
        assert_eq!(cut.iter().map(|(_, partial)| *partial).collect::<Vec<_>>(), [true, true, false, false]);
        let whole: String = cut.iter().take(3).map(|(text, _)| text.as_str()).collect();
        assert_eq!(whole, format!("x{line}"));
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let dir = std::env::temp_dir().join(format!("rn-shim-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log.json");
        let mut log = LogFile::open(path.clone(), LogLimits { max_bytes: 100, max_files: 3 }).unwrap();
        for n in 0..50u64 {
            log.record(&LogRecord::new(n, Stream::Stdout, b"some text", false));
            log.flush();
        }
        let mut names: Vec<_> = std::fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["log.json", "log.json.1", "log.json.2"]);
        let first = |name: &str| {
            let text = std::fs::read_to_string(dir.join(name)).unwrap();
            text.lines().next().map(|line| serde_json::from_str::<LogRecord>(line).unwrap().at)
        };
        assert!(first("log.json.2") < first("log.json.1"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
