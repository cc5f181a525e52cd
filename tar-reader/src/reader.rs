//! The archive as a stream of entries.

use std::{
    io::{self, Read},
    vec::IntoIter,
};

use crate::{
    BLOCK, Entry, Kind, Limits, TarError, Time,
    header::{Header, is_header, until_nul},
    pax::{Overrides, Pax},
    sparse::{Lines, Map, Part},
};

/// Reads an archive. After an error nothing more comes.
pub struct Reader<R> {
    input: R,
    limits: Limits,
    /// Bytes that were read.
    at: u64,
    headers: u64,
    /// Of global extended headers.
    globals: Overrides,
    /// A block that was read to see what it is.
    ahead: Option<[u8; BLOCK]>,
    body: Body,
    over: bool,
}

/// What is left of the current entry.
#[derive(Default)]
struct Body {
    /// Bytes of content in the archive.
    stored: u64,
    /// Bytes behind it, up to a whole block.
    padding: u64,
    parts: IntoIter<Part>,
    part: Option<Part>,
    /// Bytes of the file, holes included.
    size: u64,
}

/// A piece of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the file. Between chunks, and behind the last one, are holes.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
}

/// What stands before an entry's own header.
#[derive(Default)]
struct Preface {
    pax: Option<Pax>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Nothing is read yet. Blocks of 512 bytes are read: `input` is better buffered.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            input,
            limits,
            at: 0,
            headers: 0,
            globals: Overrides::default(),
            ahead: None,
            body: Body::default(),
            over: false,
        }
    }

    /// Where the archive came from, behind what was read of it.
    pub fn into_inner(self) -> R {
        self.input
    }

    /// Header blocks that were read.
    pub fn headers(&self) -> u64 {
        self.headers
    }

    /// The next entry, whatever is left of the last one's content; none at the end.
    ///
    /// # Errors
    /// The archive is damaged, or beyond the limits.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.over {
            return Ok(None);
        }
        let next = self.advance();
        self.over = !matches!(next, Ok(Some(_)));
        next
    }

    fn advance(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_body()?;
        let mut preface = Preface::default();
        let mut first = true;
        loop {
            let Some(header) = self.header()? else {
                return if first { Ok(None) } else { Err(self.cut_off("an entry")) };
            };
            match header.flag() {
                b'x' | b'X' => {
                    preface.pax = Some(Pax::parse(&self.record(&header, "an extended header")?, header.at)?)
                }
                b'g' => {
                    let pax = Pax::parse(&self.record(&header, "an extended header")?, header.at)?;
                    self.globals = pax.overrides.over(&self.globals);
                    // It may stand alone at the end.
                    continue;
                }
                b'L' => preface.path = Some(until_nul(&self.record(&header, "a long name")?).to_vec()),
                b'K' => preface.link = Some(until_nul(&self.record(&header, "a long name")?).to_vec()),
                // A volume's label; Solaris's access lists.
                b'V' | b'A' => {
                    self.follow(header.size()?, header.size()?);
                    self.skip_body()?;
                    continue;
                }
                b'M' => {
                    let why = "it goes on with a file of another volume";
                    return Err(TarError::Unsupported { at: header.at, why });
                }
                _ => return self.entry(&header, preface).map(Some),
            }
            first = false;
        }
    }

    fn entry(&mut self, header: &Header, preface: Preface) -> Result<Entry, TarError> {
        let mut pax = preface.pax.unwrap_or_default();
        let xattrs = pax.take_xattrs();
        let Pax { overrides, sparse, device, .. } = pax;
        let fields = overrides.over(&self.globals);
        let path = sparse.name.clone().or(preface.path).or(fields.path.flatten());
        let path = path.unwrap_or_else(|| header.path());
        let stored = fields.size.flatten().map_or_else(|| header.size(), Ok)?;
        let mut kind = match header.flag() {
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            flag @ (b'3' | b'4') => {
                let (major, minor) = header.device()?;
                let (major, minor) = (device.0.unwrap_or(major), device.1.unwrap_or(minor));
                if flag == b'3' { Kind::Char(major, minor) } else { Kind::Block(major, minor) }
            }
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            _ => Kind::File,
        };
        match header.flag() {
            // Sizes of these say nothing about the archive.
            b'2'..=b'6' => self.follow(0, 0),
            b'1' => {
                let body = if stored > 0 && self.skip_block_of_body()? { stored } else { 0 };
                self.follow(body.saturating_sub(512), 0);
            }
            b'S' => {
                let mut map = Map::new(self.limits.sparse_parts, header.at);
                let (parts, mut more) = header.sparse();
                map.push_old(parts)?;
                while more {
                    let block = self.block("the map of a sparse file")?;
                    map.push_old(block.get(..504).unwrap_or_default())?;
                    more = block[504] != 0;
                }
                let size = header.real_size()?;
                self.follow_parts(map.finish(size, stored)?, stored, size);
            }
            _ if sparse.major == Some(1) && sparse.minor == Some(0) => {
                let (mut map, mut lines) = (Map::new(self.limits.sparse_parts, header.at), Lines::default());
                let mut left = stored;
                let why = "its map is cut off";
                loop {
                    left = left.checked_sub(512).ok_or(TarError::Sparse { at: header.at, why })?;
                    let block = self.block("the map of a sparse file")?;
                    if lines.take(&block, &mut map)? {
                        break;
                    }
                }
                let size = sparse.size.unwrap_or(left);
                self.follow_parts(map.finish(size, left)?, left, size);
            }
            _ if sparse.mapped => {
                let mut map = Map::new(self.limits.sparse_parts, header.at);
                for part in sparse.map.chunks_exact(2) {
                    if let [offset, len] = part {
                        map.push(*offset, *len)?;
                    }
                }
                let size = sparse.size.unwrap_or(stored);
                self.follow_parts(map.finish(size, stored)?, stored, size);
            }
            _ => self.follow(stored, stored),
        }
        // So BSD's old tar wrote directories.
        if kind == Kind::File && path.ends_with(b"/") {
            kind = Kind::Directory;
        }
        let link = preface.link.or(fields.link.flatten());
        Ok(Entry {
            link: match kind {
                Kind::HardLink | Kind::Symlink => link.unwrap_or_else(|| header.link()),
                _ => Vec::new(),
            },
            size: if kind == Kind::File { self.body.size } else { 0 },
            path,
            kind,
            mode: header.mode()?,
            uid: fields.uid.flatten().map_or_else(|| header.uid(), Ok)?,
            gid: fields.gid.flatten().map_or_else(|| header.gid(), Ok)?,
            mtime: match fields.mtime.flatten() {
                Some(time) => time,
                None => Time { secs: header.mtime()?, nanos: 0 },
            },
            xattrs,
            at: header.at,
        })
    }

    /// The next piece of the current entry's content; none at its end.
    ///
    /// # Errors
    /// The archive is cut off, or its source fails.
    pub fn read_chunk(&mut self, buffer: &mut [u8]) -> Result<Option<Chunk>, TarError> {
        let part = match self.body.part.take().or_else(|| self.body.parts.next()) {
            Some(part) if !buffer.is_empty() => part,
            part => {
                self.body.part = part;
                return Ok(None);
            }
        };
        let wanted = usize::try_from(part.len).unwrap_or(usize::MAX).min(buffer.len());
        let len = self.read_some(buffer.get_mut(..wanted).unwrap_or_default())?;
        if len == 0 {
            return Err(self.cut_off("a file's content"));
        }
        let read = u64::try_from(len).unwrap_or_default();
        self.body.stored = self.body.stored.saturating_sub(read);
        if part.len > read {
            self.body.part = Some(Part { offset: part.offset + read, len: part.len - read });
        }
        Ok(Some(Chunk { offset: part.offset, len }))
    }

    /// The current entry's content from where reading has come to, holes as zeros.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { reader: self, position: 0, chunk: None }
    }

    /// Prepares for content without holes.
    fn follow(&mut self, stored: u64, size: u64) {
        let parts = if size > 0 { vec![Part { offset: 0, len: size }] } else { Vec::new() };
        self.follow_parts(parts, stored, size);
    }

    fn follow_parts(&mut self, parts: Vec<Part>, stored: u64, size: u64) {
        let block = u64::try_from(BLOCK).unwrap_or(512);
        let padding = (block - stored % block) % block;
        self.body = Body { stored, padding, parts: parts.into_iter(), part: None, size };
    }

    fn skip_body(&mut self) -> Result<(), TarError> {
        let body = std::mem::take(&mut self.body);
        self.skip(body.stored, "a file's content", false)?;
        // The last entry's may be missing.
        self.skip(body.padding, "the space behind a file", true)
    }

    fn skip(&mut self, mut left: u64, what: &'static str, may_end: bool) -> Result<(), TarError> {
        let mut waste = [0; 16 << 10];
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(waste.len());
            match self.read_some(waste.get_mut(..len).unwrap_or_default())? {
                0 if may_end => break,
                0 => return Err(self.cut_off(what)),
                len => left -= u64::try_from(len).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// What follows a header that is about the next one.
    fn record(&mut self, header: &Header, what: &'static str) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > self.limits.record {
            return Err(TarError::TooLarge {
                what: if what == "a long name" {
                    "bytes of a long name"
                } else {
                    "bytes of an extended header"
                },
                at: header.at,
                size,
                limit: self.limits.record,
            });
        }
        self.follow(size, size);
        let mut record = Vec::new();
        let mut buffer = [0; 4096];
        // It grows with what is there, not with what was promised.
        while let Some(chunk) = self.read_chunk(&mut buffer)? {
            record.extend_from_slice(buffer.get(..chunk.len).unwrap_or_default());
        }
        self.skip_body()?;
        Ok(record)
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let at = if self.ahead.is_some() { self.at.saturating_sub(512) } else { self.at };
        let Some(block) = self.maybe_block("a header")? else { return Ok(None) };
        let header = Header::new(block, at)?;
        if header.is_some() {
            self.headers += 1;
            if self.headers > self.limits.headers {
                let (size, limit) = (self.headers, self.limits.headers);
                return Err(TarError::TooLarge { what: "headers in the archive", at, size, limit });
            }
        }
        Ok(header)
    }

    /// Some writers give a hard link the size of its file, some the content as well: what looks like a header is one. Whether a
    /// block of content has been skipped.
    fn skip_block_of_body(&mut self) -> Result<bool, TarError> {
        let Some(block) = self.maybe_block("a hard link")? else { return Ok(false) };
        if is_header(&block) || block.iter().all(|b| *b == 0) {
            self.ahead = Some(block);
            return Ok(false);
        }
        Ok(true)
    }

    fn block(&mut self, what: &'static str) -> Result<[u8; BLOCK], TarError> {
        self.maybe_block(what)?.ok_or_else(|| self.cut_off(what))
    }

    /// A block; none if the archive ends before it.
    fn maybe_block(&mut self, what: &'static str) -> Result<Option<[u8; BLOCK]>, TarError> {
        if let Some(block) = self.ahead.take() {
            return Ok(Some(block));
        }
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            match self.read_some(block.get_mut(have..).unwrap_or_default())? {
                0 if have == 0 => return Ok(None),
                0 => return Err(self.cut_off(what)),
                len => have += len,
            }
        }
        Ok(Some(block))
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.input.read(buffer) {
                Ok(len) => {
                    self.at += u64::try_from(len).unwrap_or_default();
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn cut_off(&self, what: &'static str) -> TarError {
        TarError::CutOff { at: self.at, what }
    }
}

/// An entry's content as a reader.
pub struct Content<'a, R> {
    reader: &'a mut Reader<R>,
    /// Of the file.
    position: u64,
    /// Read, and behind the hole that is being filled.
    chunk: Option<(Vec<u8>, u64)>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let hole_to = match &self.chunk {
            Some((_, offset)) => *offset,
            None => match self.reader.read_chunk(buffer)? {
                Some(chunk) if chunk.offset == self.position => {
                    self.position += u64::try_from(chunk.len).unwrap_or_default();
                    return Ok(chunk.len);
                }
                Some(chunk) => {
                    let bytes = buffer.get(..chunk.len).unwrap_or_default().to_vec();
                    self.chunk = Some((bytes, chunk.offset));
                    chunk.offset
                }
                None => self.reader.body.size,
            },
        };
        let hole = usize::try_from(hole_to.saturating_sub(self.position)).unwrap_or(usize::MAX);
        if hole > 0 {
            let len = hole.min(buffer.len());
            buffer.get_mut(..len).unwrap_or_default().fill(0);
            self.position += u64::try_from(len).unwrap_or_default();
            return Ok(len);
        }
        let Some((mut bytes, offset)) = self.chunk.take() else { return Ok(0) };
        let len = bytes.len().min(buffer.len());
        let rest = bytes.split_off(len);
        buffer.get_mut(..len).unwrap_or_default().copy_from_slice(&bytes);
        self.position += u64::try_from(len).unwrap_or_default();
        if !rest.is_empty() {
            self.chunk = Some((rest, offset + u64::try_from(len).unwrap_or_default()));
        }
        Ok(len)
    }
}
