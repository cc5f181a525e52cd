//! Volumes of services in their short form: `[source:]target[:options]`.

use crate::document::{BindOptions, ServiceVolume, VolumeOptions};

/// How later mounts are seen on either side.
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

/// Reads a short form. As with Docker: one letter before a colon is a drive of Windows, and options that nobody knows do
/// nothing.
///
/// # Errors
/// What is wrong with it, without the path.
pub(crate) fn short(text: &str) -> Result<ServiceVolume, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".into());
    }
    let mut volume = ServiceVolume { kind: "volume".into(), ..ServiceVolume::default() };
    if text.len() <= 2 {
        volume.target = text.to_owned();
        return Ok(volume);
    }
    let bad = |what: &str| format!("invalid spec: {text}: {what}");
    let parts = parts(text);
    if parts.iter().any(String::is_empty) {
        return Err(bad("empty section between colons"));
    }
    let options = match parts.as_slice() {
        [target] => {
            volume.target.clone_from(target);
            None
        }
        [source, target] => {
            (volume.source, volume.target) = (source.clone(), target.clone());
            None
        }
        [source, target, options] => {
            (volume.source, volume.target) = (source.clone(), target.clone());
            Some(options)
        }
        _ => return Err(bad("too many colons")),
    };
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        match option {
            "ro" => volume.read_only = true,
            "rw" => volume.read_only = false,
            "nocopy" => volume.volume = Some(VolumeOptions { nocopy: true, ..VolumeOptions::default() }),
            word if PROPAGATIONS.contains(&word) => {
                volume.bind = Some(BindOptions { propagation: word.to_owned() });
            }
            _ => {}
        }
    }
    if is_path(&volume.source) {
        volume.kind = "bind".into();
    }
    Ok(volume)
}

/// The parts between the colons; one that follows a single letter belongs to it.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    for c in text.chars() {
        let is_drive = part.chars().count() == 1 && part.chars().all(char::is_alphabetic);
        if c == ':' && !is_drive {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    parts
}

/// Whether a source is a path of the host, or the name of a volume.
fn is_path(source: &str) -> bool {
    let mut chars = source.chars();
    match (chars.next(), chars.next()) {
        (Some('.' | '/' | '~'), _) | (Some('\\'), Some('\\')) => true,
        (Some(letter), Some(':')) => letter.is_alphabetic(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dockers_forms() {
        let read = |text: &str| {
            let v = short(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let options = v.bind.map(|b| b.propagation).or(v.volume.map(|v| format!("nocopy={}", v.nocopy)));
            format!("{} {}>{} {} {}", v.kind, v.source, v.target, v.read_only, options.unwrap_or_default())
        };
        for (text, want) in [
            ("/a", "volume >/a false "),
            ("/data", "volume >/data false "),
            ("data:/data", "volume data>/data false "),
            ("data:/data:ro", "volume data>/data true "),
            ("./a:/b:ro,rslave", "bind ./a>/b true rslave"),
            ("~/a:/b:rw", "bind ~/a>/b false "),
            ("v2:/v:nocopy", "volume v2>/v false nocopy=true"),
            ("c:\\x:/y", "bind c:\\x>/y false "),
            ("v:/x", "volume >v:/x false "),
            ("/a:/b:who,knows", "bind /a>/b false "),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        assert!(short("").is_err());
        assert!(short("/a::/b").unwrap_err().contains("empty section"));
        assert!(short("/a:/b:/c:ro:rw").unwrap_err().contains("too many colons"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_volume_or_refused(text in "[a-c:/.~,\\\\ä]{0,16}") {
            let _ = short(&text);
        }
    }
}
