//! The line in front of a record: what it is, its length and its checksum.
//!
//! ```text
//! RNFILE1 0000000123 89abcdef\n<123 bytes>
//! ```
//! It is text, so that JSON and PEM stay readable (programs that read PEM skip what stands before the first `-----BEGIN`).
//! Files without it are taken as they are: they are older, or an administrator has put them there.

use crate::Damage;

const MAGIC: &[u8; 8] = b"RNFILE1 ";
/// Magic, ten digits, a space, eight digits, a line feed.
const HEADER: usize = 28;
/// A file whose first bytes agree with [`MAGIC`] in as many places was a record once: one flipped bit does not make it another kind.
const KIN: usize = 5;

/// The line for a content.
pub fn header(content: &[u8]) -> Vec<u8> {
    format!("RNFILE1 {:010} {:08x}\n", content.len(), crc32fast::hash(content)).into_bytes()
}

/// A record with its line.
pub fn seal(content: &[u8]) -> Vec<u8> {
    let mut all = header(content);
    all.extend_from_slice(content);
    all
}

/// The content of a file's bytes.
///
/// # Errors
/// It is damaged.
pub fn open(mut bytes: Vec<u8>) -> Result<Vec<u8>, Damage> {
    if bytes.is_empty() {
        return Err(Damage::Empty);
    }
    if bytes.iter().all(|b| *b == 0) {
        return Err(Damage::Zeros { len: bytes.len() });
    }
    let written = bytes.len() - bytes.iter().rev().take_while(|b| **b == 0).count();
    if written < MAGIC.len() && bytes.iter().zip(MAGIC).take(written).all(|(have, want)| have == want) {
        return Err(Damage::CutOff { have: written, want: HEADER });
    }
    let same = bytes.iter().zip(MAGIC).filter(|(have, want)| have == want).count();
    if same < KIN {
        return Ok(bytes);
    }
    let Some((line, content)) = bytes.split_at_checked(HEADER) else {
        return Err(Damage::CutOff { have: bytes.len(), want: HEADER });
    };
    let (want, sum) = fields(line).ok_or(Damage::Header)?;
    match content.len() {
        have if have < want => return Err(Damage::CutOff { have: HEADER + have, want: HEADER + want }),
        have if have > want => return Err(Damage::TooLong { have: HEADER + have, want: HEADER + want }),
        _ if crc32fast::hash(content) != sum => return Err(Damage::Checksum),
        _ => {}
    }
    bytes.drain(..HEADER);
    Ok(bytes)
}

fn fields(line: &[u8]) -> Option<(usize, u32)> {
    let line = std::str::from_utf8(line.strip_prefix(MAGIC)?).ok()?.strip_suffix('\n')?;
    let (len, sum) = line.split_once(' ')?;
    let digits = len.bytes().all(|b| b.is_ascii_digit())
        && sum.len() == 8
        && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    digits.then_some(())?;
    Some((len.parse().ok()?, u32::from_str_radix(sum, 16).ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_written_before_there_was_a_line_is_read_as_it_is() {
        for old in [&b"{\"a\":1}"[..], b"0123456789abcdef", b"-----BEGIN CERTIFICATE-----", &[0xff; 32]] {
            assert_eq!(open(old.to_vec()).unwrap(), old);
        }
    }

    #[test]
    fn nothing_and_zeros_are_damage() {
        assert_eq!(open(vec![]), Err(Damage::Empty));
        assert_eq!(open(vec![0; 300]), Err(Damage::Zeros { len: 300 }));
        assert_eq!(open(seal(b"")).unwrap(), b"", "but an empty content is one");
    }

    proptest! {
        #[test]
        fn a_content_comes_back(content: Vec<u8>) {
            prop_assert_eq!(open(seal(&content)).unwrap(), content);
        }

        #[test]
        fn no_cut_and_no_flipped_bit_goes_unseen(content: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let whole = seal(&content);
            let at = at.index(whole.len());
            prop_assert!(open(whole[..at].to_vec()).is_err());
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            prop_assert!(open(flipped).is_err());
            let mut zeroed = whole.clone();
            zeroed[at..].fill(0);
            prop_assert!(zeroed == whole || open(zeroed).is_err());
        }
    }
}
