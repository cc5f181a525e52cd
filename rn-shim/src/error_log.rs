//! Why libcontainer failed.
//!
//! A container's init is made by libcontainer in processes of its own. Of their errors only the outermost line comes back to us
//! ("failed syscall"); the step that failed and the system's reason are in what libcontainer logs just before. So that log is
//! kept, in memory that the processes share, and asked when something has failed.

use std::{
    error::Error,
    fmt::{Debug, Write as _},
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
};

use nix::{
    errno::Errno,
    sys::memfd::{MFdFlags, memfd_create},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// How much of the log is read, in bytes: what failed first comes first.
const MOST: u64 = 64 << 10;

/// The log of errors of this process and of those that it forks.
pub struct ErrorLog(File);

impl ErrorLog {
    /// Keeps what is logged from now on. None if that is not possible: errors then say less.
    pub fn keep() -> Option<Self> {
        let file = File::from(memfd_create("causes", MFdFlags::MFD_CLOEXEC).ok()?);
        tracing::subscriber::set_global_default(ErrorLogSubscriber(file.try_clone().ok()?)).ok()?;
        Some(Self(file))
    }

    /// The step that failed first, and why.
    fn first(&mut self) -> Option<String> {
        let mut bytes = Vec::new();
        self.0.seek(SeekFrom::Start(0)).ok()?;
        (&mut self.0).take(MOST).read_to_end(&mut bytes).ok()?;
        // It may be cut within a character.
        let text = String::from_utf8_lossy(&bytes);
        // What failed first is logged first. An entry with the system's word on it says most.
        let told = |line: &&str| reason(line).is_some();
        text.lines().find(told).or_else(|| text.lines().next()).map(explain)
    }
}

/// What to say of an error: with the step and the reason that its own text leaves out.
pub fn readable(error: &(dyn Error + 'static), causes: Option<ErrorLog>) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        // Some texts have their cause's in them already.
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        cause = inner.source();
    }
    // What our own code has said of the program stands for itself, without the path that it took through the library.
    if let Some((_, reason)) = text.rsplit_once("exec: ") {
        return format!("exec: {reason}");
    }
    // The library's own way through its processes is of no use to anybody.
    let text = text.rsplit_once("error in executing process : ").map_or(text.as_str(), |(_, last)| last);
    match causes.and_then(|mut causes| causes.first()) {
        Some(detail) if detail.starts_with(text) => detail,
        Some(detail) if !text.contains(&detail) => format!("{text}: {detail}"),
        _ => text.to_owned(),
    }
}

/// Writes each error as a line: its message, then its fields, set apart by tabs.
struct ErrorLogSubscriber(File);

impl Subscriber for ErrorLogSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields).replace(['\n', '\0'], " ");
        let _ = (&self.0).write_all(format!("{text}\n").as_bytes());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "\t{name}={value:?}"),
        };
    }
}

/// A line for people: the message, what it was about, the system's reason.
fn explain(line: &str) -> String {
    let mut fields = line.split('\t');
    let mut text = fields.next().unwrap_or_default().to_owned();
    for field in fields {
        match field.split_once('=') {
            Some(("err" | "ret" | "e", _)) | None => {}
            Some((_, value)) => {
                let _ = write!(text, " {value}");
            }
        }
    }
    match reason(line) {
        Some(reason) if !text.contains(&reason) => format!("{text}: {reason}"),
        Some(_) => text,
        // As the library has it: better than nothing.
        None => match line.split('\t').find_map(|field| field.strip_prefix("err=")) {
            Some(error) => format!("{text}: {error}"),
            None => text,
        },
    }
}

/// The system's reason in an error that was written for programmers: `Nix(EPERM)`, `Os { …, message: "…" }`, `… (os error 1)`.
fn reason(line: &str) -> Option<String> {
    if let Some((_, rest)) = line.split_once("message: \"") {
        return rest.split('"').next().map(str::to_owned);
    }
    if let Some((text, _)) = line.split_once(" (os error") {
        return text.rsplit(": ").next().map(str::to_owned);
    }
    let words = line.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.starts_with('E'));
    let named = |word: &str| (1..=133).map(Errno::from_raw).find(|errno| format!("{errno:?}") == word);
    words.into_iter().find_map(named).map(|errno| errno.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_and_the_reason_are_found() {
        for (line, told) in [
            (
                "failed to chdir\terr=Nix(ENOENT)\tcwd=\"/nope\"",
                "failed to chdir \"/nope\": No such file or directory",
            ),
            (
                "failed to write\terr=Os { code: 22, kind: InvalidInput, message: \"Invalid argument\" }",
                "failed to write: Invalid argument",
            ),
            (
                "failed to set sysctl a=b: Invalid argument (os error 22)",
                "failed to set sysctl a=b: Invalid argument (os error 22)",
            ),
            ("failed to set up tty\terr=Tty(Odd)", "failed to set up tty: Tty(Odd)"),
            ("failed", "failed"),
        ] {
            assert_eq!(explain(line), told);
        }
    }

    #[test]
    fn an_error_is_told_down_to_its_cause() {
        #[derive(Debug)]
        struct Outer(std::io::Error);
        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("failed syscall")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = Outer(std::io::Error::from_raw_os_error(1));
        assert_eq!(readable(&error, None), "failed syscall: Operation not permitted (os error 1)");
    }

    #[test]
    fn a_log_that_is_cut_within_a_character_is_read() {
        for pad in ["", "x", "xx"] {
            let mut file = File::from(memfd_create("causes", MFdFlags::MFD_CLOEXEC).expect("a memfd"));
            write!(file, "failed to mount\terr=Nix(EPERM)\n{pad}{}", "€".repeat(30_000)).expect("memory");
            let told = ErrorLog(file).first();
            assert_eq!(told.as_deref(), Some("failed to mount: Operation not permitted"), "{pad}");
        }
    }

    #[test]
    fn what_is_logged_before_an_error_explains_it() {
        let mut causes = ErrorLog::keep().expect("a memfd");
        tracing::error!(err = ?Errno::EPERM, path = ?"/x", "failed to mount");
        tracing::error!(err = ?"Mount(EPERM)", "failed to prepare rootfs");
        assert_eq!(causes.first().as_deref(), Some("failed to mount \"/x\": Operation not permitted"));
        let error = std::io::Error::other("failed syscall");
        let told = readable(&error, Some(causes));
        assert_eq!(told, "failed syscall: failed to mount \"/x\": Operation not permitted");
        let told = "failed to create container: exec process failed with error error in executing process : failed to x";
        assert_eq!(readable(&std::io::Error::other(told), None), "failed to x");
    }
}
