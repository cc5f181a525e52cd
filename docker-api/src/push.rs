//! What goes on while an image is pushed, a line each.

use serde_json::{Value, json};

/// What becomes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is looked for.
    Preparing,
    /// The registry has it.
    Exists,
    /// It is sent.
    Pushing {
        /// Bytes that have been sent.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it now.
    Pushed,
}

/// The first line.
pub fn refers_to(repository: &str) -> Value {
    json!({"status": format!("The push refers to repository [{repository}]")})
}

/// A layer's.
pub fn layer(id: &str, step: Step) -> Value {
    let (words, detail) = match step {
        Step::Preparing => ("Preparing", json!({})),
        Step::Exists => ("Layer already exists", json!({})),
        Step::Pushing { current, total } => ("Pushing", json!({"current": current, "total": total})),
        Step::Pushed => ("Pushed", json!({})),
    };
    json!({"status": words, "progressDetail": detail, "id": id})
}

/// The last ones: what people read, and what programs do.
pub fn done(tag: &str, digest: &str, size: u64) -> Vec<Value> {
    vec![
        json!({"status": format!("{tag}: digest: {digest} size: {size}")}),
        json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_dockers() {
        assert_eq!(refers_to("reg/x")["status"], "The push refers to repository [reg/x]");
        let line = layer("abc", Step::Pushing { current: 1, total: 2 });
        assert_eq!((&line["id"], &line["progressDetail"]["total"]), (&json!("abc"), &json!(2)));
        let lines = done("1", "sha256:d", 7);
        assert_eq!(lines[0]["status"], "1: digest: sha256:d size: 7");
        assert_eq!(lines[1]["aux"]["Tag"], "1");
    }
}
