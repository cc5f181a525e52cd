//! What is wrong with a compose file.

use std::fmt;

/// What is wrong with a compose file, and with which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {cause}")]
pub struct Error {
    /// The file as the user named it; `stdin` for standard input.
    pub file: String,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// It is no YAML, or more than can be meant.
    #[error("yaml: line {line}: {what}")]
    Yaml {
        /// Where, from 1.
        line: usize,
        /// What.
        what: String,
    },
    /// Something in it, by its path.
    #[error("{path} {what}")]
    At {
        /// `services.web.ports.0`.
        path: String,
        /// Continues a sentence that begins with the path.
        what: String,
    },
    /// It has options that a stack cannot have: option and what to do instead, in the order of their names.
    #[error("compose file contains unsupported options:\n\n{}\n", Listed(.0))]
    Forbidden(Vec<(&'static str, &'static str)>),
    /// What concerns all of it; a whole sentence.
    #[error("{0}")]
    Whole(String),
}

impl Cause {
    pub(crate) fn at(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::At { path: path.into(), what: what.into() }
    }

    /// The same with the file's name.
    pub(crate) fn of(self, file: &str) -> Error {
        Error { file: file.to_owned(), cause: self }
    }
}

/// Options and what is said of each, as Docker lists them.
pub(crate) struct Listed<'a>(pub(crate) &'a [(&'static str, &'static str)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (k, (name, text)) in self.0.iter().enumerate() {
            let separator = if k == 0 { "" } else { "\n\n" };
            write!(f, "{separator}{name}: {text}")?;
        }
        Ok(())
    }
}
