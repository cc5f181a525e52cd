//! Lines of logs: the node keeps a long one in pieces, users see one.

use std::collections::BTreeMap;

use proto::pb::LogLine;

use super::LogFlags;
use crate::output;

/// A line of which more has come is shown as far as it is, in bytes.
const LIMIT: usize = 16 << 20;

/// A line, or a part of one that is longer than [`LIMIT`].
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The bytes; `partial`: more follows.
    pub line: LogLine,
    /// Nothing of it has been shown yet.
    pub begins: bool,
}

/// Lines that have yet to end, by where they come from.
#[derive(Debug, Default)]
pub struct Lines(BTreeMap<(String, bool), Piece>);

impl Lines {
    /// Takes a piece from `source`; what can be shown now.
    pub fn join(&mut self, source: &str, line: LogLine) -> Option<Piece> {
        let key = (source.to_owned(), line.stderr);
        let piece = match self.0.remove(&key) {
            None => Piece { line, begins: true },
            Some(mut open) => {
                open.line.data.extend(line.data);
                open.line.partial = line.partial;
                open
            }
        };
        if !piece.line.partial {
            return Some(piece);
        }
        if piece.line.data.len() <= LIMIT {
            self.0.insert(key, piece);
            return None;
        }
        let rest = LogLine { data: Vec::new(), ..piece.line.clone() };
        self.0.insert(key, Piece { line: rest, begins: false });
        Some(piece)
    }

    /// Those that end where the log does, with their sources.
    pub fn rest(self) -> impl Iterator<Item = (String, Piece)> {
        self.0.into_iter().map(|((source, _), mut piece)| {
            piece.line.partial = false;
            (source, piece)
        })
    }
}

/// Writes one to standard output or standard error, as it came.
pub fn print(prefix: &str, piece: &Piece, flags: &LogFlags) {
    let mut bytes = if piece.begins { flags.prefix(prefix, &piece.line) } else { Vec::new() };
    bytes.extend_from_slice(&piece.line.data);
    if !piece.line.partial {
        bytes.push(b'\n');
    }
    output::bytes(piece.line.stderr, &bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(data: &str, stderr: bool, partial: bool) -> LogLine {
        LogLine { at_nanos: 1, stderr, data: data.into(), partial }
    }

    #[test]
    fn pieces_are_joined_by_source_and_stream() {
        let mut lines = Lines::default();
        let text = |piece: Option<Piece>| piece.map(|p| String::from_utf8_lossy(&p.line.data).into_owned());
        assert_eq!(text(lines.join("a", line("one ", false, true))), None);
        assert_eq!(text(lines.join("b", line("other", false, false))), Some("other".into()));
        assert_eq!(text(lines.join("a", line("err", true, false))), Some("err".into()));
        assert_eq!(text(lines.join("a", line("two", false, false))), Some("one two".into()));
        assert_eq!(text(lines.join("a", line("cut", false, true))), None);
        let rest: Vec<_> = lines.rest().map(|(source, p)| (source, p.line.partial, p.line.data)).collect();
        assert_eq!(rest, [("a".to_owned(), false, b"cut".to_vec())]);
    }

    #[test]
    fn a_line_without_end_is_shown_as_it_grows() {
        let mut lines = Lines::default();
        let large = "x".repeat(LIMIT);
        assert_eq!(lines.join("a", line(&large, false, true)), None);
        let first = lines.join("a", line("y", false, true));
        assert!(first.is_some_and(|p| p.begins && p.line.partial && p.line.data.len() == LIMIT + 1));
        let last = lines.join("a", line("z", false, false));
        assert!(last.is_some_and(|p| !p.begins && !p.line.partial && p.line.data == b"z"));
    }
}
