//! Contexts as archives, as Docker's client writes and reads them: `meta.json`, and certificates in `tls/docker/`.

use std::io::{self, Read, Write};

use super::{Context, TLS_FILES};

/// Bytes that an archive may have. Three certificates have some kilobytes.
const MAX: u64 = 1 << 20;

const META: &str = "meta.json";
const TLS: &str = "tls/docker/";

/// Writes an archive.
pub fn write(context: &Context, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        header.set_mode(0o600);
        archive.append_data(&mut header, name, bytes)
    };
    let meta = Context { tls: Default::default(), ..context.clone() };
    put(META, &serde_json::to_vec(&meta)?)?;
    for (name, text) in &context.tls {
        put(&format!("{TLS}{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

/// Reads an archive.
///
/// # Errors
/// A sentence.
pub fn read(from: impl Read) -> Result<Context, String> {
    let mut bytes = Vec::new();
    from.take(MAX + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX {
        return Err(format!("is larger than {} KiB", MAX >> 10));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Err("is a zip archive: unpack it, and pack it again with tar".into());
    }
    let mut archive = tar::Archive::new(bytes.as_slice());
    let (mut context, mut tls) = (None, std::collections::BTreeMap::new());
    let bad = |e: io::Error| format!("is no archive of a context: {e}");
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path().map_err(bad)?.to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(bad)?;
        match name.strip_prefix(TLS) {
            None if name == META => {
                let meta: Context = serde_json::from_str(&text).map_err(|e| format!("{META}: {e}"))?;
                context = Some(meta);
            }
            Some(file) if TLS_FILES.contains(&file) => {
                tls.insert(file.to_owned(), text);
            }
            _ => return Err(format!("has a file {name:?}, which belongs to no context")),
        }
    }
    let mut context = context.ok_or(format!("has no {META}"))?;
    context.tls = tls;
    Ok(context)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut context = Context { name: "prod".into(), ..Context::default() };
        context.endpoints.docker.host = "tcp://h:1".into();
        context.tls = [("ca.pem".to_owned(), "ca".to_owned())].into();
        let mut bytes = Vec::new();
        write(&context, &mut bytes).unwrap();
        assert_eq!(read(bytes.as_slice()), Ok(context));
        assert!(read(&b"PK\x03\x04"[..]).unwrap_err().contains("zip"));
        assert!(read(&b""[..]).unwrap_err().contains("meta.json"));
        assert!(read(&[7; 600][..]).is_err());
        assert!(read(io::repeat(0)).unwrap_err().contains("larger"));
    }
}
