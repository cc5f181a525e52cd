//! Reading a container's log while its shim writes and rotates it.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};
use shim_wire::{EXIT_FILE, LOG_FILE, LogRecord};
use tokio::sync::mpsc;

use super::{LogLine, LogOptions, Result, RuntimeError};

/// How often a reader without news looks whether anyone still listens, in ms.
const LISTENER_CHECK: u16 = 500;

/// Reads the log in a container's directory and sends its lines; blocks until the end or until nobody listens.
pub fn read(dir: &Path, options: &LogOptions, lines: &mpsc::Sender<Result<LogLine>>) {
    if let Err(error) = Reader::new(dir, options.since, lines).and_then(|mut reader| reader.run(options)) {
        // Whoever has deleted the container meanwhile has deleted its log.
        if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::BrokenPipe {
            let _ = lines.blocking_send(Err(RuntimeError::io("read the log in", dir)(error)));
        }
    }
}

struct Reader<'a> {
    dir: &'a Path,
    since: u64,
    lines: &'a mpsc::Sender<Result<LogLine>>,
    /// The file being read; none before there is one.
    file: Option<File>,
    /// Read but not yet a whole record.
    rest: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(dir: &'a Path, since: u64, lines: &'a mpsc::Sender<Result<LogLine>>) -> io::Result<Self> {
        Ok(Self { dir, since, lines, file: generations(dir)?.pop(), rest: Vec::new() })
    }

    fn run(&mut self, options: &LogOptions) -> io::Result<()> {
        // Before the first read: what is written after it wakes us.
        let news = options.follow.then(|| watch(self.dir)).transpose()?;
        let mut tail = options.tail.map(|count| (count, VecDeque::with_capacity(count.min(1024))));
        loop {
            let ended = self.dir.join(EXIT_FILE).try_exists()?;
            self.read_on(&mut tail)?;
            if let Some((_, kept)) = tail.take() {
                for line in kept {
                    self.send(line)?;
                }
            }
            match &news {
                Some(news) if !ended => self.wait(news)?,
                _ => return Ok(()),
            }
        }
    }

    /// All that is there, generation by generation.
    fn read_on(&mut self, tail: &mut Option<(usize, VecDeque<LogLine>)>) -> io::Result<()> {
        loop {
            let next = self.next_generation()?;
            self.read_file(tail)?;
            match next {
                Some(file) => {
                    self.rest.clear();
                    self.file = Some(file);
                }
                None => return Ok(()),
            }
        }
    }

    /// The file that follows the one being read. Asked *before* that is read to its end: a file that has a successor grows
    /// no more.
    fn next_generation(&self) -> io::Result<Option<File>> {
        let mut newest_first = generations(self.dir)?;
        // One that has been rotated away altogether is followed by the oldest that is left.
        let Some(at) = self.file.as_ref().and_then(|file| position(&newest_first, file)) else {
            return Ok(newest_first.pop());
        };
        newest_first.truncate(at);
        Ok(newest_first.pop())
    }

    fn read_file(&mut self, tail: &mut Option<(usize, VecDeque<LogLine>)>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut chunk = vec![0; 64 * 1024];
        let mut complete = Vec::new();
        loop {
            let count = file.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            self.rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let later = self.rest.split_off(end + 1);
                complete.clone_from(&self.rest);
                self.rest = later;
            }
            for line in complete.split(|byte| *byte == b'\n') {
                // A line torn by a full disk is no reason to hide the others.
                let Ok(record) = serde_json::from_slice::<LogRecord>(line) else { continue };
                if record.at < self.since {
                    continue;
                }
                let (at, stream, partial) = (record.at, record.stream, record.partial);
                let line = LogLine { at, stream, data: record.into_bytes(), partial };
                match tail {
                    Some((0, _)) => {}
                    Some((count, kept)) => {
                        if kept.len() == *count {
                            kept.pop_front();
                        }
                        kept.push_back(line);
                    }
                    None => send(self.lines, line)?,
                }
            }
            complete.clear();
        }
    }

    fn send(&self, line: LogLine) -> io::Result<()> {
        send(self.lines, line)
    }

    fn wait(&self, news: &OwnedFd) -> io::Result<()> {
        loop {
            let mut ready = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, LISTENER_CHECK) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if self.lines.is_closed() => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(0) => self.dir.try_exists()?.then_some(()).ok_or(io::ErrorKind::NotFound)?,
                Ok(_) => {
                    let mut events = [0; 4096];
                    while nix::unistd::read(news, &mut events).is_ok_and(|count| count == events.len()) {}
                    return Ok(());
                }
            }
        }
    }
}

fn send(lines: &mpsc::Sender<Result<LogLine>>, line: LogLine) -> io::Result<()> {
    lines.blocking_send(Ok(line)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// The log's files, opened, the newest first. None is missed while they are rotated: that renames the oldest first, each to the
/// next number, so that going up meets a file once or twice, and at most one number without a file.
fn generations(dir: &Path) -> io::Result<Vec<File>> {
    let mut found = Vec::new();
    let mut missing = 0;
    let numbered = (1..).map(|n| dir.join(format!("{LOG_FILE}.{n}")));
    for path in std::iter::once(dir.join(LOG_FILE)).chain(numbered) {
        match File::open(path) {
            Ok(file) if position(&found, &file).is_none() => found.push(file),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing > 1 => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Where among these is a file, under whatever name it was opened. What is open keeps its inode to itself.
fn position(files: &[File], file: &File) -> Option<usize> {
    let inode = |file: &File| file.metadata().map(|of| of.ino()).ok();
    let wanted = inode(file)?;
    files.iter().position(|there| inode(there) == Some(wanted))
}

/// A descriptor that becomes readable when something in the directory changes.
fn watch(dir: &Path) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(dir.as_os_str().as_bytes())?;
    // SAFETY: takes flags, makes a descriptor.
    let fd = Errno::result(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let inotify = unsafe { OwnedFd::from_raw_fd(fd) };
    let mask = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_DELETE_SELF;
    // SAFETY: the name is NUL-terminated.
    Errno::result(unsafe { libc::inotify_add_watch(fd, name.as_ptr(), mask) })?;
    fs::metadata(dir)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::io::Write;

    use shim_wire::Stream;

    use super::*;

    fn append(dir: &Path, name: &str, range: std::ops::Range<u64>) {
        let mut file = File::options().create(true).append(true).open(dir.join(name)).unwrap();
        for n in range {
            let record = LogRecord::new(n, Stream::Stdout, format!("line {n}").as_bytes(), false);
            writeln!(file, "{}", serde_json::to_string(&record).unwrap()).unwrap();
        }
    }

    fn collect(dir: &Path, options: LogOptions) -> Vec<u64> {
        let (send, mut receive) = mpsc::channel(10_000);
        read(dir, &options, &send);
        drop(send);
        std::iter::from_fn(|| receive.blocking_recv()).map(|line| line.unwrap().at).collect()
    }

    #[test]
    fn history_spans_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "log.json.2", 0..3);
        append(dir.path(), "log.json.1", 3..6);
        append(dir.path(), "log.json", 6..8);
        assert_eq!(collect(dir.path(), LogOptions::default()), (0..8).collect::<Vec<_>>());
        assert_eq!(collect(dir.path(), LogOptions { tail: Some(4), ..LogOptions::default() }), [4, 5, 6, 7]);
        assert_eq!(collect(dir.path(), LogOptions { since: 7, ..LogOptions::default() }), [7]);
        assert!(collect(dir.path(), LogOptions { tail: Some(0), ..LogOptions::default() }).is_empty());
    }

    #[test]
    fn following_survives_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "log.json", 0..5);
        let (send, mut receive) = mpsc::channel(10_000);
        let path = dir.path().to_owned();
        let follower = std::thread::spawn(move || {
            read(&path, &LogOptions { follow: true, tail: Some(2), since: 0 }, &send);
        });
        let mut next = || receive.blocking_recv().map(|line| line.unwrap().at);
        assert_eq!((next(), next()), (Some(3), Some(4)));
        for round in 1..20u64 {
            append(dir.path(), "log.json", round * 10..round * 10 + 5);
            let _ = fs::rename(dir.path().join("log.json.1"), dir.path().join("log.json.2"));
            fs::rename(dir.path().join("log.json"), dir.path().join("log.json.1")).unwrap();
            append(dir.path(), "log.json", round * 10 + 5..round * 10 + 10);
            for n in round * 10..round * 10 + 10 {
                assert_eq!(next(), Some(n));
            }
        }
        fs::write(dir.path().join(EXIT_FILE), "{}").unwrap();
        assert_eq!(next(), None);
        follower.join().unwrap();
    }
}
