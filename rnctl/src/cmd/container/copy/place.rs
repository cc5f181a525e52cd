//! Where `cp` copies from and to. Pure.

/// One end of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A container, and a path in it.
    Container(String, String),
    /// A path of this machine; `-` is standard input or output.
    Local(String),
}

impl Place {
    /// Reads `CONTAINER:PATH` or a path. A path of this machine with a colon in it begins with `/` or `.`.
    pub fn parse(text: &str) -> Self {
        if text.starts_with(['/', '.']) {
            return Self::Local(text.to_owned());
        }
        match text.split_once(':') {
            Some((container, path)) if !container.is_empty() => {
                Self::Container(container.to_owned(), path.to_owned())
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is where something is to be copied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A directory.
    Directory,
    /// Something else.
    File,
    /// Nothing.
    Nothing,
}

/// A directory to unpack in, and the name there; none = what it is called where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The directory.
    pub dir: String,
    /// The name.
    pub name: Option<String>,
}

/// Where a file or directory goes that is copied to a path: into a directory that is there, else under the path's own name.
///
/// # Errors
/// It cannot be copied there (wording as Docker's).
pub fn choose(path: &str, there: Target, source_is_dir: bool) -> Result<Chosen, String> {
    let wants_dir = path.ends_with('/') || path.ends_with("/.") || path == ".";
    match there {
        Target::Directory => Ok(Chosen { dir: path.to_owned(), name: None }),
        Target::File if source_is_dir => Err("cannot copy directory".into()),
        Target::File if wants_dir => Err("not a directory".into()),
        Target::Nothing if wants_dir && !source_is_dir => Err("no such directory".into()),
        Target::File | Target::Nothing => {
            let (dir, name) = split(path);
            Ok(Chosen { dir, name: Some(name) })
        }
    }
}

/// The directory that a path is in, and its name there.
fn split(path: &str) -> (String, String) {
    let path = path.trim_end_matches("/.").trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".into(), name.into()),
        Some((dir, name)) => (dir.into(), name.into()),
        None => (".".into(), path.into()),
    }
}

/// What a copied path is called: `.` for the content of a directory alone.
pub fn top(path: &str) -> String {
    if path == "." || path.ends_with("/.") {
        return ".".into();
    }
    split(path).1
}

/// Paths in containers begin at the root.
pub fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// Where a link at a path leads to.
pub fn resolve(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let (dir, _) = split(path);
    format!("{}/{target}", dir.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths() {
        let of = |c: &str, p: &str| Place::Container(c.into(), p.into());
        assert_eq!(Place::parse("web:/etc"), of("web", "/etc"));
        assert_eq!(Place::parse("web:etc"), of("web", "etc"));
        for local in ["-", "file", "./a:b", "/a:b", ":b", "../x:y"] {
            assert_eq!(Place::parse(local), Place::Local(local.into()));
        }
        assert_eq!((absolute("etc"), resolve("/a/b", "c")), ("/etc".into(), "/a/c".into()));
        assert_eq!((resolve("/b", "c"), resolve("/a", "/x")), ("/c".into(), "/x".into()));
    }

    #[test]
    fn copies_land_where_dockers_do() {
        let chosen = |path: &str, there, is_dir| choose(path, there, is_dir).map(|c| (c.dir, c.name));
        let named = |dir: &str, name: &str| Ok((dir.to_owned(), Some(name.to_owned())));
        assert_eq!(chosen("/d", Target::Directory, true), Ok(("/d".into(), None)));
        assert_eq!(chosen("/d/f", Target::File, false), named("/d", "f"));
        assert_eq!(chosen("f", Target::Nothing, false), named(".", "f"));
        assert_eq!(chosen("/new", Target::Nothing, true), named("/", "new"));
        assert_eq!(chosen("/new/", Target::Nothing, true), named("/", "new"));
        assert!(chosen("/new/", Target::Nothing, false).is_err());
        assert!(chosen("/f", Target::File, true).is_err());
        assert_eq!((top("/a/b"), top("a/."), top("b/")), ("b".into(), ".".into(), "b".into()));
    }
}
