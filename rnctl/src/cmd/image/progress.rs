//! What a daemon says while an image is on its way, as Docker's clients show it.

use std::collections::BTreeMap;

use proto::error::ApiError;
use serde_json::Value;

use crate::{
    exit::Failure,
    output::{self, is_terminal, units::decimal},
};

/// An error may be a line of its own.
///
/// # Errors
/// This one is.
pub fn check(line: &Value) -> Result<(), Failure> {
    let why = line.pointer("/errorDetail/message").or(line.get("error")).and_then(Value::as_str);
    match why {
        Some(why) => {
            let help = line.pointer("/errorDetail/help").and_then(Value::as_str).map(str::to_owned);
            let error = ApiError { help, ..ApiError::internal(why.replace("docker login", "rnctl login")) };
            Err(error.into())
        }
        None => Ok(()),
    }
}

/// The lines of the layers: on a terminal each is rewritten in place, elsewhere each step is a line.
#[derive(Debug)]
pub struct Display {
    terminal: bool,
    order: Vec<String>,
    shown: BTreeMap<String, String>,
}

impl Default for Display {
    fn default() -> Self {
        Self { terminal: is_terminal(), order: Vec::new(), shown: BTreeMap::new() }
    }
}

impl Display {
    /// Shows what a line says.
    pub fn line(&mut self, line: &Value) {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let (id, status) = (text("id"), text("status"));
        if status.is_empty() {
            return;
        }
        // What concerns no layer, or the whole image.
        if id.is_empty() || line.get("progressDetail").is_none() {
            output::line(&if id.is_empty() { status.to_owned() } else { format!("{id}: {status}") });
            return;
        }
        let number = |key: &str| line["progressDetail"][key].as_u64();
        let current = number("current");
        let words = match (current, number("total")) {
            (Some(current), Some(total)) if total > 0 => {
                format!("{status} {}/{}", decimal(current), decimal(total))
            }
            (Some(current), _) => format!("{status} {}", decimal(current)),
            (None, _) => status.to_owned(),
        };
        let known = self.shown.insert(id.to_owned(), words.clone());
        if known.is_none() {
            self.order.push(id.to_owned());
        }
        match (self.terminal, known) {
            (_, Some(known)) if known == words => {}
            (true, Some(_)) => {
                let at = self.order.iter().position(|known| known == id).unwrap_or_default();
                let up = self.order.len() - at;
                let line = format!("\x1b[{up}A\r\x1b[2K{}: {words}\x1b[{up}B\r", output::printable(id));
                output::bytes(false, line.as_bytes());
            }
            // Nobody reads how each byte arrives.
            (false, _) if current.is_some() => {}
            _ => output::line(&format!("{id}: {words}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::check;

    #[test]
    fn errors_are_lines() {
        assert!(check(&json!({"status": "Downloading"})).is_ok());
        let failed = check(&json!({"errorDetail": {"message": "no such"}, "error": "no such"})).err();
        assert_eq!(failed.map(|f| f.to_string()).as_deref(), Some("Error response from daemon: no such"));
    }
}
