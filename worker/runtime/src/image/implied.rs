//! Directories that a layer has without listing them.
//!
//! A layer that lists `tmp/file` alone says nothing about `tmp`, which keeps owner and mode of the layer below. Overlayfs takes both
//! from the topmost layer that has the directory, and layers are unpacked once for all images, so which one lies below is not
//! known then. Hence such directories are remembered by name ([`save`]), and the layer of each container, on top of all, gets
//! them with what the layers below say ([`on_top`]).

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::unpack::Layer;
use crate::{Result, RuntimeError, rootdir};

/// Remembers a layer's, in `dir`: absolute paths with a NUL behind each.
pub fn save(dir: &Path, layer: &Layer) -> Result<()> {
    let path = dir.join(layer.hex());
    let names: Vec<u8> =
        layer.implied.iter().flat_map(|p| p.as_os_str().as_bytes().iter().copied().chain([0])).collect();
    let saved = match names.as_slice() {
        [] => durable::remove(&path),
        names => durable::save(&path, names, durable::PRIVATE),
    };
    saved.map_err(RuntimeError::io("write", &path))
}

fn load(dir: &Path, layer: &Path) -> Result<BTreeSet<PathBuf>> {
    let path = dir.join(layer);
    let parse = |bytes: &[u8]| -> std::result::Result<_, &'static str> {
        let names = bytes.split(|b| *b == 0).filter(|name| !name.is_empty());
        let names = names.map(|name| match name.starts_with(b"/") {
            true => Ok(PathBuf::from(OsStr::from_bytes(name))),
            false => Err("it does not hold paths"),
        });
        names.collect()
    };
    let kept = durable::load_or_set_aside(&path, parse)
        .map_err(|e| RuntimeError::Io { what: "open a layer".to_owned(), cause: e.to_string() })?;
    let told = kept.or_tell(|aside| {
        tracing::warn!("{aside}; directories that the layer does not list look as it was unpacked");
    });
    Ok(told.unwrap_or_default())
}

/// What a layer has under a path.
enum PathKind {
    /// Nothing, and what is below shows.
    Nothing,
    /// Something, or nothing, that hides what is below.
    End,
    /// A directory; whether what is below shows in it.
    Directory { merged: bool },
}

/// Never through a link: the layer is a stranger's.
fn look(layer: &Path, path: &Path) -> io::Result<PathKind> {
    let (mut here, mut merged) = (layer.to_owned(), true);
    for part in path.strip_prefix("/").unwrap_or(path) {
        here.push(part);
        let there = match here.symlink_metadata() {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if merged { PathKind::Nothing } else { PathKind::End });
            }
            Err(error) => return Err(error),
        };
        if !there.is_dir() {
            return Ok(PathKind::End);
        }
        merged &= !rootdir::is_opaque(&here);
    }
    Ok(PathKind::Directory { merged })
}

/// The directories that a container's own layer has to have from the beginning, parents first, each with the directory that it
/// takes its looks from: the root, and what the topmost layer that has it does not list. `layers`: the top one first.
pub fn on_top(dir: &Path, layers_dir: &Path, layers: &[PathBuf]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let implied = layers.iter().map(|layer| load(dir, layer)).collect::<Result<Vec<_>>>()?;
    // The first layer, from above, that lists the directory; else the first that has it. And whether the two differ.
    let looks = |path: &Path| -> Result<Option<(PathBuf, bool)>> {
        let mut first = None;
        for (layer, implied) in layers.iter().zip(&implied) {
            let layer = layers_dir.join(layer);
            let there = look(&layer, path).map_err(RuntimeError::io("look into", &layer))?;
            let own = layer.join(path.strip_prefix("/").unwrap_or(path));
            match there {
                PathKind::Nothing => {}
                PathKind::End => break,
                PathKind::Directory { .. } if !implied.contains(path) => {
                    let differs = first.is_some();
                    return Ok(Some((own, differs)));
                }
                PathKind::Directory { merged } => {
                    first.get_or_insert(own);
                    if !merged {
                        break;
                    }
                }
            }
        }
        Ok(first.map(|own| (own, false)))
    };
    let mut wanted = BTreeSet::from([PathBuf::from("/")]);
    for path in implied.iter().flatten() {
        if looks(path)?.is_some_and(|(_, differs)| differs) {
            wanted.extend(path.ancestors().map(Path::to_owned));
        }
    }
    // In this order a directory comes before what is in it.
    let mut found = Vec::new();
    for path in wanted {
        if let Some((like, _)) = looks(&path)? {
            found.push((path, like));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_a_layer_does_not_list_is_as_the_layer_below_has_it() {
        let root = tempfile::tempdir().unwrap();
        let (dir, layers_dir) = (root.path().join("implied"), root.path().join("layers"));
        fs::create_dir_all(&dir).unwrap();
        let layer = |name: &str, listed: &[&str], implied: &[&str]| {
            for path in listed.iter().chain(implied) {
                fs::create_dir_all(layers_dir.join(name).join(path)).unwrap();
            }
            let layer = Layer {
                diff_id: format!("sha256:{name}"),
                size: 0,
                implied: implied.iter().map(|path| Path::new("/").join(path)).collect(),
            };
            save(&dir, &layer).unwrap();
        };
        layer("base", &["", "tmp", "var", "var/lib", "home"], &["srv"]);
        layer("middle", &["var"], &["", "var/lib", "srv"]);
        layer("top", &[], &["", "tmp", "var", "home/x", "home", "new"]);
        // A link in a layer leads nowhere: it hides what is below.
        fs::remove_dir_all(layers_dir.join("middle/var/lib")).unwrap();
        symlink("/", layers_dir.join("middle/home")).unwrap();
        fs::create_dir_all(layers_dir.join("middle/var/lib")).unwrap();
        let layers = ["top", "middle", "base"].map(PathBuf::from);
        let found = on_top(&dir, &layers_dir, &layers).unwrap();
        let want = [("/", "base"), ("/tmp", "base"), ("/var", "middle"), ("/var/lib", "base")];
        let want = want.map(|(path, layer)| {
            (PathBuf::from(path), layers_dir.join(layer).join(path.trim_start_matches('/')))
        });
        assert_eq!(found, want);
        // With nothing implied only the root is wanted; with no names, the same.
        fs::write(dir.join("top"), [0; 9]).unwrap();
        let found = on_top(&dir, &layers_dir, &layers[..1]).unwrap();
        assert_eq!(found, [(PathBuf::from("/"), layers_dir.join("top"))]);
    }
}
