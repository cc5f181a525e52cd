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
use shim_wire::{EXIT_FILE, LOG_FILE, LogRecord, Stream};
use tokio::sync::mpsc;

use super::{LogLine, LogOptions, Result, RuntimeError, now_nanos};

/// How often a reader without news looks whether anyone still listens, in ms.
const LISTENER_CHECK: u16 = 500;

/// Reads the log in a container's directory and sends its lines; blocks until the end or until nobody listens.
pub fn read(dir: &Path, options: &LogOptions, lines: &mpsc::Sender<Result<LogLine>>) {
    if let Err(error) = Reader::new(dir, options, lines).and_then(|mut reader| reader.run(options)) {
        // Whoever has deleted the container meanwhile has deleted its log.
        if error.kind() != io::ErrorKind::NotFound && error.kind() != io::ErrorKind::BrokenPipe {
            let _ = lines.blocking_send(Err(RuntimeError::io("read the log in", dir)(error)));
        }
    }
}

struct Reader<'a> {
    dir: &'a Path,
    choice: Choice,
    lines: &'a mpsc::Sender<Result<LogLine>>,
    /// The file being read; none before there is one.
    file: Option<File>,
    /// Read but not yet a whole record.
    rest: Vec<u8>,
}

/// Which lines are wanted: a line that the shim has cut into pieces is judged, and counted, as one.
struct Choice {
    since: u64,
    until: u64,
    /// Whether the line that a stream is in the middle of is wanted.
    open: [Option<bool>; 2],
    /// So many lines are kept, in pieces, until all that is there has been read.
    tail: Option<(usize, VecDeque<LogLine>)>,
    /// Lines among those kept: pieces that end one, and streams that are in the middle of one.
    kept: usize,
}

impl Choice {
    /// Takes a piece; what is to be sent now.
    fn take(&mut self, line: LogLine) -> Option<LogLine> {
        let open = &mut self.open[index(line.stream)];
        let begins = open.is_none();
        let wanted = open.unwrap_or(line.at >= self.since && (self.until == 0 || line.at <= self.until));
        *open = line.partial.then_some(wanted);
        if !wanted {
            return None;
        }
        let Some((count, kept)) = &mut self.tail else { return Some(line) };
        if begins {
            self.kept += 1;
        }
        kept.push_back(line);
        while self.kept > *count {
            self.kept -= 1;
            // What is still to come of it is not wanted either.
            if let Some(stream) = drop_line(kept) {
                self.open[index(stream)] = Some(false);
            }
        }
        None
    }
}

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Stderr)
}

/// Takes the oldest line off: its first piece, and what belongs to it. Its stream, if it has not ended yet.
fn drop_line(kept: &mut VecDeque<LogLine>) -> Option<Stream> {
    let first = kept.pop_front().filter(|first| first.partial)?;
    let mut ended = false;
    // Pieces of the other stream's lines stand between.
    kept.retain(|line| {
        let goes = !ended && line.stream == first.stream;
        ended |= goes && !line.partial;
        !goes
    });
    (!ended).then_some(first.stream)
}

impl<'a> Reader<'a> {
    fn new(
        dir: &'a Path,
        options: &LogOptions,
        lines: &'a mpsc::Sender<Result<LogLine>>,
    ) -> io::Result<Self> {
        let choice = Choice {
            since: options.since,
            until: options.until,
            open: [None; 2],
            tail: options.tail.map(|count| (count, VecDeque::with_capacity(count.min(1024)))),
            kept: 0,
        };
        Ok(Self { dir, choice, lines, file: generations(dir)?.pop(), rest: Vec::new() })
    }

    fn run(&mut self, options: &LogOptions) -> io::Result<()> {
        // Before the first read: what is written after it wakes us.
        let news = options.follow.then(|| watch(self.dir)).transpose()?;
        loop {
            let ended = self.dir.join(EXIT_FILE).try_exists()?;
            let over = options.until != 0 && now_nanos() > options.until;
            self.read_on()?;
            if let Some((_, kept)) = self.choice.tail.take() {
                for line in kept {
                    self.send(line)?;
                }
            }
            match &news {
                Some(news) if !ended && !over => self.wait(news)?,
                _ => return Ok(()),
            }
        }
    }

    /// All that is there, generation by generation.
    fn read_on(&mut self) -> io::Result<()> {
        loop {
            let next = self.next_generation()?;
            self.read_file()?;
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

    fn read_file(&mut self) -> io::Result<()> {
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
                let (at, stream, partial) = (record.at, record.stream, record.partial);
                let line = LogLine { at, stream, data: record.into_bytes(), partial };
                if let Some(line) = self.choice.take(line) {
                    send(self.lines, line)?;
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
                Ok(0) => {
                    self.dir.try_exists()?.then_some(()).ok_or(io::ErrorKind::NotFound)?;
                    if self.choice.until != 0 && now_nanos() > self.choice.until {
                        return Ok(());
                    }
                }
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
    fn a_line_in_pieces_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = File::create(dir.path().join("log.json")).unwrap();
        for (at, stream, text, partial) in [
            (1, Stream::Stdout, "a", false),
            (2, Stream::Stdout, "b1", true),
            (3, Stream::Stderr, "e1", true),
            (4, Stream::Stdout, "b2", true),
            (5, Stream::Stderr, "e2", false),
            (6, Stream::Stdout, "b3", false),
            (7, Stream::Stdout, "c", false),
        ] {
            let record = LogRecord::new(at, stream, text.as_bytes(), partial);
            writeln!(file, "{}", serde_json::to_string(&record).unwrap()).unwrap();
        }
        let with = |tail, since, until| collect(dir.path(), LogOptions { follow: false, tail, since, until });
        assert_eq!(with(Some(0), 0, 0), [0; 0]);
        assert_eq!(with(Some(1), 0, 0), [7]);
        assert_eq!(with(Some(2), 0, 0), [3, 5, 7]);
        assert_eq!(with(Some(3), 0, 0), [2, 3, 4, 5, 6, 7]);
        assert_eq!(with(None, 2, 3), [2, 3, 4, 5, 6], "by the time of a line's beginning");
        assert_eq!(with(None, 3, 0), [3, 5, 7]);
        // Followed up to a time that has passed, it ends by itself.
        let options = LogOptions { follow: true, tail: None, since: 0, until: 1 };
        assert_eq!(collect(dir.path(), options), [1]);
    }

    #[test]
    fn following_survives_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), "log.json", 0..5);
        let (send, mut receive) = mpsc::channel(10_000);
        let path = dir.path().to_owned();
        let follower = std::thread::spawn(move || {
            read(&path, &LogOptions { follow: true, tail: Some(2), ..LogOptions::default() }, &send);
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
