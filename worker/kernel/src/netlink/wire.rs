//! Messages and attributes.

use std::net::IpAddr;

use super::abi::NLA_TYPE_MASK;

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// A message being written. Lengths are put right by [`Message::finish`].
#[derive(Debug, Clone)]
pub(crate) struct Message {
    buf: Vec<u8>,
}

impl Message {
    /// A message of this type, with `NLM_F_*` flags, whose fixed part is `fixed`.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut buf = Vec::with_capacity(256);
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&kind.to_ne_bytes());
        buf.extend_from_slice(&flags.to_ne_bytes());
        buf.extend_from_slice(&[0; 8]);
        buf.extend_from_slice(fixed);
        let mut message = Self { buf };
        message.pad();
        message
    }

    fn pad(&mut self) {
        self.buf.resize(self.buf.len().next_multiple_of(4), 0);
    }

    /// Adds an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a byte.
    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Adds a 16-bit number in network byte order.
    pub(crate) fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a 32-bit number in the machine's byte order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a 32-bit number in network byte order.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text, which ends in NUL on the wire.
    pub(crate) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds an address.
    pub(crate) fn addr(&mut self, kind: u16, addr: IpAddr) -> &mut Self {
        match addr {
            IpAddr::V4(a) => self.bytes(kind, &a.octets()),
            IpAddr::V6(a) => self.bytes(kind, &a.octets()),
        }
    }

    /// Adds an attribute made of what `inside` writes.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.buf.len();
        self.bytes(kind, &[]);
        inside(self);
        let len = u16::try_from(self.buf.len() - start).unwrap_or(u16::MAX);
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// Adds bytes as they are, such as the header of a message in a message.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds flags to the header.
    pub(crate) fn flag(&mut self, flags: u16) {
        let old = u16::from_ne_bytes([self.buf[6], self.buf[7]]);
        self.buf[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// The message as bytes, with its length and sequence number.
    pub(crate) fn finish(&mut self, seq: u32) -> &[u8] {
        let len = u32::try_from(self.buf.len()).unwrap_or(u32::MAX);
        self.buf[0..4].copy_from_slice(&len.to_ne_bytes());
        self.buf[8..12].copy_from_slice(&seq.to_ne_bytes());
        &self.buf
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.buf.len()
    }
}

/// A message that was received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// `NLM_F_*`.
    pub(crate) flags: u16,
    /// Whose answer it is.
    pub(crate) seq: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

/// The messages in a datagram; what is cut short is left out.
pub(crate) fn messages(mut data: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let header = data.get(..HEADER)?;
        let len = usize::try_from(u32_at(header, 0)).ok()?;
        let message = Received {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            seq: u32_at(header, 8),
            payload: data.get(HEADER..len)?,
        };
        data = data.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a payload, after a fixed part of `skip` bytes.
pub(crate) fn attrs(payload: &[u8], skip: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut data = payload.get(skip.next_multiple_of(4)..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header = data.get(..4)?;
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = data.get(4..len)?;
        data = data.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A 32-bit number in the machine's byte order; 0 where there are not four bytes.
pub(crate) fn u32_at(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// A 32-bit number in network byte order; 0 where there are not four bytes.
pub(crate) fn be32(data: &[u8]) -> u32 {
    data.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// A text that ends in NUL.
pub(crate) fn text(data: &[u8]) -> String {
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    String::from_utf8_lossy(&data[..end]).into_owned()
}

/// An address, by its length.
pub(crate) fn addr(data: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(data).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(data).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut m = Message::new(16, 5, &[1, 2, 3, 4, 5]);
        m.text(3, "eth0").nest(18, |m| {
            m.u32(1, 7).be16(2, 80);
        });
        let bytes = m.finish(9).to_vec();
        let got: Vec<_> = messages(&bytes).collect();
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].kind, got[0].flags, got[0].seq), (16, 5, 9));
        let found: Vec<_> = attrs(got[0].payload, 5).collect();
        assert_eq!(text(found[0].1), "eth0");
        let inner: Vec<_> = attrs(found[1].1, 0).collect();
        assert_eq!((inner[0].0, u32_at(inner[0].1, 0)), (1, 7));
        assert_eq!(inner[1], (2, &[0u8, 80][..]));
    }

    #[test]
    fn rubbish_ends_the_reading_and_nothing_worse() {
        assert_eq!(messages(&[1, 2, 3]).count(), 0);
        assert_eq!(messages(&[255; 40]).count(), 0);
        assert_eq!(attrs(&[2, 0, 0, 0, 9, 9], 0).count(), 0);
        assert_eq!(attrs(&[255, 255, 0, 0], 0).count(), 0);
    }
}
