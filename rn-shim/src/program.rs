//! The last step into a container: from our code to the user's program.

use std::{
    collections::HashMap,
    ffi::CString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::{
    errno::Errno,
    sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    unistd::execve,
};

/// Exit code for a program that is there but cannot be run, as in every shell.
pub const CANNOT_RUN: u8 = 126;
/// Exit code for a program that is not there.
pub const NOT_FOUND: u8 = 127;

/// Why a program cannot be run; the texts are Docker's.
#[derive(Debug)]
pub struct ProgramError {
    /// What to exit with.
    pub code: u8,
    text: String,
}

impl std::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for ProgramError {}

/// libcontainer's own way to run the program keeps our ignored signals, asks for more than execute permission and loses the
/// environment's order. This one does not.
#[derive(Clone)]
pub struct Program;

impl Executor for Program {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let (args, env) = process(spec);
        locate(args, env)
            .map(drop)
            .map_err(|error| ExecutorValidationError::ArgValidationError(error.to_string()))
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let (args, env) = process(spec);
        let error = become_program(args, env);
        // Too late to tell whoever created the container: its log is the place where people will look.
        eprintln!("{error}");
        // SAFETY: ends this process without running what belongs to its parent (buffers, destructors).
        unsafe { libc::_exit(i32::from(error.code)) }
    }
}

fn process(spec: &Spec) -> (&[String], &[String]) {
    let process = spec.process().as_ref();
    let args = process.and_then(|process| process.args().as_deref()).unwrap_or_default();
    let env = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    (args, env)
}

/// Runs a program in place of this process; returns only if that fails.
pub fn become_program(args: &[String], env: &[String]) -> ProgramError {
    let path = match locate(args, env) {
        Ok(path) => path,
        Err(error) => return error,
    };
    let strings =
        |list: &[String]| list.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>();
    let (Ok(path), Ok(argv), Ok(envp)) =
        (CString::new(path.as_os_str().as_encoded_bytes()), strings(args), strings(env))
    else {
        return failed(args, &io::Error::from(Errno::EINVAL));
    };
    // Ignored signals and the signal mask would be inherited.
    for number in 1..32 {
        if let Ok(number) = Signal::try_from(number)
            && !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)
        {
            // SAFETY: SIG_DFL runs no code of ours.
            let _ = unsafe { signal(number, SigHandler::SigDfl) };
        }
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    match execve(&path, &argv, &envp) {
        Ok(never) => match never {},
        Err(error) => failed(args, &error.into()),
    }
}

/// Where the program is, as `execvp` would find it.
fn locate(args: &[String], env: &[String]) -> Result<PathBuf, ProgramError> {
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return Err(ProgramError { code: NOT_FOUND, text: "no command specified".to_owned() });
    };
    if name.contains('/') {
        return check(Path::new(name)).map_err(|error| failed(args, &error)).map(|()| PathBuf::from(name));
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut forbidden = None;
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => forbidden = Some(error),
            Err(_) => {}
        }
    }
    Err(match forbidden {
        Some(error) => failed(args, &error),
        None => ProgramError {
            code: NOT_FOUND,
            text: format!("exec: {name:?}: executable file not found in $PATH"),
        },
    })
}

fn check(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        Err(io::Error::from(Errno::EISDIR))
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err(io::Error::from(Errno::EACCES))
    } else {
        Ok(())
    }
}

fn failed(args: &[String], error: &io::Error) -> ProgramError {
    let name = args.first().map(String::as_str).unwrap_or_default();
    let (code, reason) = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => (NOT_FOUND, "no such file or directory".to_owned()),
        Some(Errno::EACCES) => (CANNOT_RUN, "permission denied".to_owned()),
        Some(Errno::EISDIR) => (CANNOT_RUN, "is a directory".to_owned()),
        Some(Errno::ENOEXEC) => (CANNOT_RUN, "exec format error".to_owned()),
        _ => (CANNOT_RUN, error.to_string()),
    };
    ProgramError { code, text: format!("exec: {name:?}: {reason}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let env = list(&["A=b", "PATH=/nowhere:/bin:/usr/bin"]);
        assert!(locate(&list(&["sh"]), &env).unwrap().ends_with("sh"));
        let missing = locate(&list(&["no-such-program"]), &env).unwrap_err();
        assert_eq!(missing.code, NOT_FOUND);
        assert_eq!(missing.to_string(), "exec: \"no-such-program\": executable file not found in $PATH");
        let plain = locate(&list(&["/etc/passwd"]), &env).unwrap_err();
        assert_eq!(
            (plain.code, plain.to_string()),
            (CANNOT_RUN, "exec: \"/etc/passwd\": permission denied".to_owned())
        );
        assert_eq!(locate(&list(&["/etc"]), &env).unwrap_err().code, CANNOT_RUN);
        assert_eq!(locate(&[], &env).unwrap_err().code, NOT_FOUND);
    }
}
