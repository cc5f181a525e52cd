//! The records of an extended header: `<length> <key>=<value>\n`, where the length counts everything, its own digits too.
//!
//! A value is whatever the length says: it may hold line feeds and NULs.

use std::collections::BTreeMap;

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::{TarError, Time};

/// With or without `=` at the end.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A field that a record sets, or sets back to what the header has.
pub(crate) type Field<T> = Option<Option<T>>;

/// What records say instead of a header, for one entry or for all that follow.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub path: Field<Vec<u8>>,
    pub link: Field<Vec<u8>>,
    pub size: Field<u64>,
    pub uid: Field<u64>,
    pub gid: Field<u64>,
    pub mtime: Field<Time>,
}

impl Overrides {
    /// These, where they say something, before `below`.
    pub fn over(self, below: &Self) -> Self {
        Self {
            path: self.path.or_else(|| below.path.clone()),
            link: self.link.or_else(|| below.link.clone()),
            size: self.size.or(below.size),
            uid: self.uid.or(below.uid),
            gid: self.gid.or(below.gid),
            mtime: self.mtime.or(below.mtime),
        }
    }
}

/// The records of one extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pax {
    pub overrides: Overrides,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same, of libarchive's own form: for those that have no other.
    more_xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub sparse: Sparse,
    pub device: (Option<u32>, Option<u32>),
}

/// What the records say of a sparse file (GNU's formats 0.0, 0.1 and 1.0).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// With its holes.
    pub size: Option<u64>,
    /// Offset, length, offset, length, …
    pub map: Vec<u64>,
    pub mapped: bool,
}

impl Pax {
    /// Reads all records of the extended header whose own header is at `at`.
    pub fn parse(bytes: &[u8], at: u64) -> Result<Self, TarError> {
        let mut pax = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            // Some writers fill up with zeros.
            if rest.iter().all(|b| *b == 0) {
                break;
            }
            let (key, value, next) =
                record(rest).ok_or(TarError::Pax { at, why: "a record is malformed" })?;
            pax.take(key, value).map_err(|why| TarError::Pax { at, why })?;
            rest = next;
        }
        if pax.sparse.map.len() % 2 != 0 {
            return Err(TarError::Pax { at, why: "the map of a sparse file is incomplete" });
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let fields = &mut self.overrides;
        match key {
            b"path" => fields.path = Some(name(value, "a name holds a NUL")?),
            b"linkpath" => fields.link = Some(name(value, "a link's target holds a NUL")?),
            b"size" => fields.size = Some(decimal(value, "a size is not a number")?),
            b"uid" => fields.uid = Some(decimal(value, "an owner is not a number")?),
            b"gid" => fields.gid = Some(decimal(value, "a group is not a number")?),
            b"mtime" => fields.mtime = Some(time(value)?),
            b"SCHILY.devmajor" => self.device.0 = narrow(value)?,
            b"SCHILY.devminor" => self.device.1 = narrow(value)?,
            b"GNU.sparse.major" => {
                self.sparse.major = decimal(value, "a sparse file's version is not a number")?
            }
            b"GNU.sparse.minor" => {
                self.sparse.minor = decimal(value, "a sparse file's version is not a number")?
            }
            b"GNU.sparse.name" => self.sparse.name = name(value, "a name holds a NUL")?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.size = decimal(value, "a sparse file's size is not a number")?;
            }
            b"GNU.sparse.offset" => self.part(value, 0)?,
            b"GNU.sparse.numbytes" => self.part(value, 1)?,
            b"GNU.sparse.map" => {
                self.sparse.mapped = true;
                self.sparse.map.clear();
                for number in value.split(|b| *b == b',').filter(|number| !number.is_empty()) {
                    let number = decimal(number, "the map of a sparse file is malformed")?;
                    self.sparse.map.extend(number);
                }
            }
            // The count of parts is the map's own to say.
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.insert(unescape(name, b"%="), value.to_vec());
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| "an attribute is not in base 64")?;
                    self.more_xattrs.insert(unescape(name, &[]), value);
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, value: &[u8], place: usize) -> Result<(), &'static str> {
        let why = "the map of a sparse file is malformed";
        if self.sparse.map.len() % 2 != place {
            return Err(why);
        }
        self.sparse.mapped = true;
        self.sparse.map.push(decimal(value, why)?.ok_or(why)?);
        Ok(())
    }

    /// All attributes, each once.
    pub fn take_xattrs(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = std::mem::take(&mut self.more_xattrs);
        all.append(&mut self.xattrs);
        all.retain(|name, _| !name.is_empty() && !name.contains(&0));
        all.into_iter().collect()
    }
}

/// Key and value of the first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let len = bytes.get(..space)?;
    if len.is_empty() || !len.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let len: usize = std::str::from_utf8(len).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(len)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (equals > 0).then_some(())?;
    Some((body.get(..equals)?, body.get(equals + 1..)?, rest))
}

/// An empty value sets a field back.
fn name(value: &[u8], why: &'static str) -> Result<Option<Vec<u8>>, &'static str> {
    match value {
        b"" => Ok(None),
        value if value.contains(&0) => Err(why),
        value => Ok(Some(value.to_vec())),
    }
}

pub(crate) fn decimal(value: &[u8], why: &'static str) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value).ok_or(why)?;
    let number: u64 = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(why)?;
    // So that sums and roundings need no thought.
    if number > i64::MAX.cast_unsigned() { Err(why) } else { Ok(Some(number)) }
}

fn narrow(value: &[u8]) -> Result<Option<u32>, &'static str> {
    let why = "a device's number is out of range";
    decimal(value, why)?.map(|n| u32::try_from(n).map_err(|_| why)).transpose()
}

/// Seconds, perhaps below zero, perhaps with a fraction.
fn time(value: &[u8]) -> Result<Option<Time>, &'static str> {
    let why = "a time is not a number";
    if value.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(value).map_err(|_| why)?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return Err(why);
    }
    let secs: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| why)? };
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Ok(Some(match (negative, nanos) {
        (false, nanos) => Time { secs, nanos },
        (true, 0) => Time { secs: -secs, nanos },
        // Rounded down.
        (true, nanos) => Time { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    }))
}

/// `%XX` in an attribute's name: of `only` these characters, or of any.
fn unescape(name: &[u8], only: &[u8]) -> Vec<u8> {
    let hex =
        |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match (first, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                Some(high * 16 + low).filter(|b| only.is_empty() || only.contains(b))
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn line(key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = [b" ", key, b"=", value, b"\n"].concat();
        let mut len = body.len() + 1;
        while len.to_string().len() + body.len() != len {
            len = len.to_string().len() + body.len();
        }
        [len.to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn a_value_may_hold_anything() {
        let value = b"one\n17 path=/etc/passwd\nand \0 more";
        let all = [line(b"SCHILY.xattr.user.a", value), line(b"path", b"\xff\xfe")].concat();
        let mut pax = Pax::parse(&all, 0).unwrap();
        assert_eq!(pax.overrides.path, Some(Some(b"\xff\xfe".to_vec())));
        assert_eq!(pax.take_xattrs(), [(b"user.a".to_vec(), value.to_vec())]);
    }

    #[test]
    fn attributes_come_in_two_forms() {
        let all = [
            line(b"LIBARCHIVE.xattr.user.b%20c", b"aGVsbG8"),
            line(b"LIBARCHIVE.xattr.user.a", b"eA=="),
            line(b"SCHILY.xattr.user.a", b"y"),
            line(b"SCHILY.xattr.user.d%3De%20", b"z"),
        ];
        let found = Pax::parse(&all.concat(), 0).unwrap().take_xattrs();
        let want = [("user.a", "y"), ("user.b c", "hello"), ("user.d=e%20", "z")];
        assert_eq!(found, want.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
    }

    #[test]
    fn times_have_fractions_and_signs() {
        let time = |text: &str| time(text.as_bytes());
        assert_eq!(time("1.5"), Ok(Some(Time { secs: 1, nanos: 500_000_000 })));
        assert_eq!(time("-1.25"), Ok(Some(Time { secs: -2, nanos: 750_000_000 })));
        assert_eq!(time("-3"), Ok(Some(Time { secs: -3, nanos: 0 })));
        assert_eq!(time("12.0000000019"), Ok(Some(Time { secs: 12, nanos: 1 })));
        assert_eq!(time(""), Ok(None));
        for bad in [".", "-", "x", "1.x", "99999999999999999999"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"4 a=\n"[..],
            b"6 a=b",
            b"x path=a\n",
            b"99 path=a\n",
            b"0 path=a\n",
            b"9 path=a\nrest",
            b"9 patha\n ",
            b"9 size=x\n",
            b"11 size=xy\n",
            b"18446744073709551616 a=b\n",
        ] {
            assert!(Pax::parse(bad, 0).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert!(Pax::parse(b"9 path=a\n\0\0\0", 0).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records: Vec<(String, Vec<u8>)>) {
            let mut want = BTreeMap::new();
            let mut all = Vec::new();
            for (name, value) in records {
                let name = format!("n{}", name.replace(['=', '%', '\0'], ""));
                all.extend(line(format!("SCHILY.xattr.{name}").as_bytes(), &value));
                want.insert(name.into_bytes(), value);
            }
            prop_assert_eq!(Pax::parse(&all, 0).unwrap().take_xattrs(), want.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn garbage_does_no_harm(bytes: Vec<u8>) {
            let _ = Pax::parse(&bytes, 0);
        }
    }
}
