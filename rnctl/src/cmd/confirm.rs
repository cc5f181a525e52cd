//! Questions before something is gone for good.

use std::io::{BufRead, Write};

use crate::{exit::Failure, output};

/// Whether the user agrees to what `warning` says, which ends with a period; not asked with `--force`. In Docker's words.
pub fn asked(force: bool, warning: &str) -> Result<bool, Failure> {
    if force {
        return Ok(true);
    }
    output::emit(&format!("{warning}\nAre you sure you want to continue? [y/N] "));
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Failure::local(format!("cannot read the answer: {e}")))?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "y" | "yes"))
}
