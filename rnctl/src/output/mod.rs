//! What goes to standard output.

pub mod display;
pub mod filter;
pub mod listing;
pub mod omitted;
pub mod table;
pub mod template;
pub mod time;
pub mod units;

use std::{
    borrow::Cow,
    io::{ErrorKind, IsTerminal, Write},
};

/// Writes to standard output; on a terminal only what is harmless there. When the reader has gone (`rnctl … | head`) there is
/// nothing left to do: the process ends.
pub fn emit(text: &str) {
    let text = if is_terminal() { printable(text) } else { Cow::Borrowed(text) };
    bytes(false, text.as_bytes());
}

/// Text of others (names, labels, what a registry says) as a terminal may be given it: control characters, with which it could
/// be made to do things, are written out. Line breaks and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harmful(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Writes bytes to standard output, or to standard error. Ends the process when the reader has gone.
pub fn bytes(stderr: bool, bytes: &[u8]) {
    let written = if stderr {
        std::io::stderr().lock().write_all(bytes)
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    if written.is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// Writes a line to standard output.
pub fn line(text: &str) {
    emit(&format!("{text}\n"));
}

/// Writes a line to standard error; nothing can be done where that fails.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Whether a person is reading standard output.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// The first twelve characters of an id, as the `ls` commands print; a digest's algorithm is left out.
pub fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// At most `max` characters, the last of them `…` when something was cut.
pub fn ellipsis(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_to_do_nothing() {
        assert_eq!(printable("a\tb\nä…"), "a\tb\nä…");
        assert_eq!(printable("\x1b[2Jweb\r\x07\u{9b}1m"), "\\u{1b}[2Jweb\\r\\u{7}\\u{9b}1m");
    }

    #[test]
    fn long_things_are_cut_as_docker_cuts_them() {
        assert_eq!(ellipsis("No such image: hello:2", 30), "No such image: hello:2");
        assert_eq!(ellipsis("0123456789", 5), "0123…");
        assert_eq!(ellipsis("ääääää", 3), "ää…");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("short"), "short");
    }
}
