//! Exit codes of containers whose program was never started. As Docker finds them: by the words of the reason.

/// The program is there and cannot be run.
pub const CANNOT_RUN: i32 = 126;
/// There is no such program.
pub const NOT_FOUND: i32 = 127;
/// The container's own where its program is not the reason. (The client's for the same is 125.)
pub const NOT_STARTED: i32 = 128;

/// What the reason is to the program: [`CANNOT_RUN`] or [`NOT_FOUND`]; none if it is something else.
pub fn of_program(reason: &str) -> Option<i32> {
    let reason = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
    if says(&["executable file not found", "no such file or directory"]) {
        Some(NOT_FOUND)
    } else if says(&["permission denied", "is a directory", "exec format error"]) {
        Some(CANNOT_RUN)
    } else {
        None
    }
}

/// What a container's exit code is that did not start for this reason.
pub fn not_started(reason: &str) -> i32 {
    of_program(reason).unwrap_or(NOT_STARTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_told_by_its_words() {
        for (reason, code) in [
            ("exec: \"x\": executable file not found in $PATH", Some(NOT_FOUND)),
            ("exec: \"/x\": no such file or directory", Some(NOT_FOUND)),
            ("exec: \"/etc/passwd\": permission denied", Some(CANNOT_RUN)),
            ("exec: \"/etc\": is a directory", Some(CANNOT_RUN)),
            ("exec: \"/x\": exec format error", Some(CANNOT_RUN)),
            ("failed to chdir \"/x\": Not a directory", None),
            ("network app not found", None),
        ] {
            assert_eq!(of_program(reason), code, "{reason}");
            assert_eq!(not_started(reason), code.unwrap_or(NOT_STARTED), "{reason}");
        }
    }
}
