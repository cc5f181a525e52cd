//! Where layers and archives come from, on their way to the disk.

use std::io::{self, BufReader, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

/// What arrives from a channel, as a reader.
pub struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl From<mpsc::Receiver<io::Result<Bytes>>> for Chunks {
    fn from(chunks: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { chunks, rest: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.rest = chunk?,
            }
        }
        let count = buffer.len().min(self.rest.len());
        let taken = self.rest.split_to(count);
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(&taken);
        Ok(count)
    }
}

/// Digests what passes through.
pub struct Digesting<R> {
    inner: R,
    digest: ring::digest::Context,
    passed: u64,
}

impl<R> Digesting<R> {
    /// Nothing has passed yet.
    pub fn new(inner: R) -> Self {
        Self { inner, digest: ring::digest::Context::new(&ring::digest::SHA256), passed: 0 }
    }

    /// Bytes that have passed.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// `sha256:…` of what has passed so far.
    pub fn digest(&self) -> String {
        format!("sha256:{}", super::hex(self.digest.clone().finish().as_ref()))
    }

    /// `sha256:…` of what has passed.
    pub fn finish(self) -> String {
        format!("sha256:{}", super::hex(self.digest.finish().as_ref()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.passed += u64::try_from(count).unwrap_or_default();
        self.digest.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The content of what may be compressed: by gzip, zstd, or not at all.
pub fn decompressed<'a>(mut input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    // pzstd begins with a frame that is to be skipped.
    let zstd = matches!(magic.as_slice(), [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let input = BufReader::with_capacity(64 << 10, io::Cursor::new(magic).chain(input));
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(flate2::read::MultiGzDecoder::new(input)),
        (_, true) => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        _ => Box::new(input),
    })
}

/// The same for what must be a tar. What is something else is named, and nothing of it shown.
pub fn decompressed_tar<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = decompressed(input)?;
    let mut head = Vec::new();
    input.by_ref().take(tar_reader::BLOCK as u64).read_to_end(&mut head)?;
    let may_be_tar = match head.first_chunk::<{ tar_reader::BLOCK }>() {
        Some(block) => tar_reader::is_header(block) || block.iter().all(|byte| *byte == 0),
        // Of the end of a tar whoever reads it has more to say.
        None => head.iter().all(|byte| *byte == 0),
    };
    if !may_be_tar {
        return Err(io::Error::other(format!("not a tar, but {}", super::kind::describe(&head))));
    }
    Ok(Box::new(io::Cursor::new(head).chain(input)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_compressed_is_seen_by_its_first_bytes() {
        let content = b"some content".repeat(1000);
        let zstd = zstd::encode_all(content.as_slice(), 1).unwrap();
        // As pzstd writes: a frame of four bytes to be skipped, which say how long the next is.
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], &[9; 4]].concat();
        let parallel = [skipped.as_slice(), &zstd, &skipped, &zstd].concat();
        let twice = content.repeat(2);
        for (bytes, want) in [(&content, &content), (&zstd, &content), (&parallel, &twice)] {
            let mut got = Vec::new();
            decompressed(bytes.as_slice()).unwrap().read_to_end(&mut got).unwrap();
            assert!(got == *want);
        }
    }
}
