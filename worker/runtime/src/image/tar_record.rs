//! What is needed to give a layer's tar out again, bit by bit: everything in it that is not the content of a file, and which content
//! goes where. Headers of a layer are much alike, so they take little once compressed: about 40 bytes for a file.
//!
//! A record is a zstd stream of parts: `0`, a length, and so many bytes; or `1`, the length of a path, the path (from the layer's root),
//! and offset and length of the content in that file. Numbers have eight bytes, the least first.

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

/// Bytes that are gathered before they are written.
const GATHERED: usize = 64 << 10;
/// A path has no more bytes.
const MAX_PATH: u64 = 4096;
const LEVEL: i32 = 3;

/// A record on its way to the disk.
struct Log {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
    /// Content that was last referred to: whose, from where, how much.
    content: Option<(PathBuf, u64, u64)>,
    /// What is read now is content.
    in_content: bool,
}

impl Log {
    fn flush_raw(&mut self) -> io::Result<()> {
        if !self.raw.is_empty() {
            self.out.write_all(&[0])?;
            self.out.write_all(&length(self.raw.len()))?;
            self.out.write_all(&self.raw)?;
            self.raw.clear();
        }
        Ok(())
    }

    fn flush_content(&mut self) -> io::Result<()> {
        if let Some((path, offset, len)) = self.content.take() {
            let path = path.as_os_str().as_bytes();
            self.out.write_all(&[1])?;
            self.out.write_all(&length(path.len()))?;
            self.out.write_all(path)?;
            self.out.write_all(&offset.to_le_bytes())?;
            self.out.write_all(&len.to_le_bytes())?;
        }
        Ok(())
    }
}

fn length(len: usize) -> [u8; 8] {
    u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes()
}

/// Records a tar while it is read. Cheap to clone: all clones are one record.
#[derive(Clone)]
pub struct Recorder(Rc<RefCell<Log>>);

impl Recorder {
    /// Into a new file.
    pub fn new(file: File) -> io::Result<Self> {
        let out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
        let log = Log { out, raw: Vec::new(), content: None, in_content: false };
        Ok(Self(Rc::new(RefCell::new(log))))
    }

    /// A reader whose bytes are recorded.
    pub fn reader<R>(&self, inner: R) -> Recording<R> {
        Recording { inner, recorder: self.clone() }
    }

    /// Reads content, which is not recorded.
    pub fn content<T>(&self, read: impl FnOnce() -> T) -> T {
        self.0.borrow_mut().in_content = true;
        let result = read();
        self.0.borrow_mut().in_content = false;
        result
    }

    /// What was just read is in this file.
    pub fn refer(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let mut log = self.0.borrow_mut();
        if log.raw.is_empty()
            && let Some((last, from, so_far)) = &mut log.content
            && last == path
            && *from + *so_far == offset
        {
            *so_far += len;
            return Ok(());
        }
        log.flush_content()?;
        log.flush_raw()?;
        log.content = Some((path.to_owned(), offset, len));
        Ok(())
    }

    /// Its end; on the disk once that is synced.
    pub fn finish(self) -> io::Result<()> {
        let Ok(log) = Rc::try_unwrap(self.0) else {
            return Err(io::Error::other("the record of a tar is still being written"));
        };
        let mut log = log.into_inner();
        log.flush_content()?;
        log.flush_raw()?;
        log.out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// See [`Recorder::reader`].
pub struct Recording<R> {
    inner: R,
    recorder: Recorder,
}

impl<R: Read> Read for Recording<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        let mut log = self.recorder.0.borrow_mut();
        if !log.in_content {
            log.flush_content()?;
            log.raw.extend_from_slice(buffer.get(..len).unwrap_or_default());
            if log.raw.len() >= GATHERED {
                log.flush_raw()?;
            }
        }
        Ok(len)
    }
}

/// A layer's tar, put together again.
pub struct Rebuilt {
    record: Box<dyn Read + Send>,
    layer: PathBuf,
    part: Part,
}

enum Part {
    Raw(u64),
    Content(File, u64),
}

impl Rebuilt {
    /// Of a record, and the layer's directory.
    pub fn open(record: &Path, layer: &Path) -> io::Result<Self> {
        let record = zstd::stream::read::Decoder::new(BufReader::new(File::open(record)?))?;
        Ok(Self { record: Box::new(record), layer: layer.to_owned(), part: Part::Raw(0) })
    }

    /// How long a tar is.
    pub fn size(record: &Path) -> io::Result<u64> {
        let mut record = zstd::stream::read::Decoder::new(BufReader::new(File::open(record)?))?;
        let mut size = 0;
        while let Some(kind) = kind(&mut record)? {
            if kind == 0 {
                let len = number(&mut record)?;
                size += io::copy(&mut record.by_ref().take(len), &mut io::sink())?;
            } else {
                let (_, _, len) = content(&mut record)?;
                size += len;
            }
        }
        Ok(size)
    }

    fn next(&mut self) -> io::Result<bool> {
        let Some(kind) = kind(&mut self.record)? else { return Ok(false) };
        self.part = match kind {
            0 => Part::Raw(number(&mut self.record)?),
            _ => {
                let (path, offset, len) = content(&mut self.record)?;
                let path = self.layer.join(path);
                // Layers hold what strangers put there: no link is followed, and nothing is waited for.
                let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
                let mut file = File::options().read(true).custom_flags(flags).open(&path)?;
                file.seek(SeekFrom::Start(offset))?;
                Part::Content(file, len)
            }
        };
        Ok(true)
    }
}

impl Read for Rebuilt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (len, left) = match &mut self.part {
                Part::Raw(0) | Part::Content(_, 0) => {
                    if self.next()? {
                        continue;
                    }
                    return Ok(0);
                }
                Part::Raw(left) => (self.record.by_ref().take(*left).read(buffer)?, left),
                Part::Content(file, left) => (Read::take(file, *left).read(buffer)?, left),
            };
            if len == 0 {
                return Err(io::Error::other("a file of the layer is not what it was"));
            }
            *left -= u64::try_from(len).unwrap_or_default();
            return Ok(len);
        }
    }
}

/// What a part is; none at the record's end.
fn kind(record: &mut impl Read) -> io::Result<Option<u8>> {
    let mut kind = [0];
    match record.read(&mut kind)? {
        0 => Ok(None),
        _ if kind[0] <= 1 => Ok(Some(kind[0])),
        _ => Err(damaged()),
    }
}

fn number(record: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    record.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn content(record: &mut impl Read) -> io::Result<(PathBuf, u64, u64)> {
    let len = number(record)?;
    if len > MAX_PATH {
        return Err(damaged());
    }
    let mut path = Vec::new();
    record.by_ref().take(len).read_to_end(&mut path)?;
    let path = Path::new(OsStr::from_bytes(&path));
    let path = path.strip_prefix("/").unwrap_or(path);
    if !path.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(damaged());
    }
    Ok((path.to_owned(), number(record)?, number(record)?))
}

fn damaged() -> io::Error {
    io::Error::other("the record of the layer's tar is damaged")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn what_was_read_comes_out_again() {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        std::fs::create_dir(dir.path().join("layer")).unwrap();
        std::fs::write(dir.path().join("layer/file"), "0123456789").unwrap();
        let recorder = Recorder::new(File::create(&record).unwrap()).unwrap();
        let whole = b"head0123456789padding89tail";
        let mut reader = recorder.reader(&whole[..]);
        let mut take = |len: usize| {
            let mut bytes = vec![0; len];
            reader.read_exact(&mut bytes).unwrap();
        };
        take(4);
        for (offset, len) in [(0, 4), (4, 6)] {
            recorder.content(|| take(len));
            recorder.refer(Path::new("/file"), offset, len as u64).unwrap();
        }
        take(7);
        recorder.content(|| take(2));
        recorder.refer(Path::new("/file"), 8, 2).unwrap();
        take(4);
        drop(reader);
        recorder.finish().unwrap();
        let mut again = Vec::new();
        Rebuilt::open(&record, &dir.path().join("layer")).unwrap().read_to_end(&mut again).unwrap();
        assert_eq!(again, whole);
        assert_eq!(Rebuilt::size(&record).unwrap(), whole.len() as u64);
        // A file that is shorter by now is noticed.
        std::fs::write(dir.path().join("layer/file"), "0").unwrap();
        let mut rebuilt = Rebuilt::open(&record, &dir.path().join("layer")).unwrap();
        assert!(rebuilt.read_to_end(&mut Vec::new()).is_err());
    }
}
