//! A further process in a running container, as closely confined as the first one.
//!
//! Three processes: this one waits and hands on the exit code; a helper joins the container's cgroups and namespaces; the
//! program's own process is then cloned by the helper as *our* child, since entering a pid namespace takes a fork.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use anyhow::{Context, Result, anyhow, bail};
use libcontainer::{
    capabilities, oci_spec::runtime::Spec, seccomp::initialize_seccomp, syscall::syscall::create_syscall,
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns},
    sys::{
        prctl,
        signal::Signal,
        socket::{ControlMessage, MsgFlags, sendmsg},
        statfs::fstatfs,
        wait::{WaitStatus, waitpid},
    },
    unistd::{
        ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setgroups,
        setresgid, setresuid, setsid,
    },
};
use shim_wire::ExecSpec;

use crate::{cgroup, program};

/// Magic number of the file system that terminals are on (`linux/magic.h`).
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// Runs a program in a container; its exit code.
pub fn exec(request: &Path) -> Result<u8> {
    let text = fs::read(request).with_context(|| format!("read {}", request.display()))?;
    let _ = fs::remove_file(request);
    let exec: ExecSpec = serde_json::from_slice(&text).context("exec: not a valid request")?;
    let bundle = exec.bundle.join("config.json");
    let spec = Spec::load(&bundle).with_context(|| format!("read {}", bundle.display()))?;
    let console = exec.console.as_deref().map(connect).transpose()?;

    // From here on nobody inside may look into this process through /proc: it is still the host's.
    prctl::set_dumpable(false).context("become undumpable")?;
    let target = pidfd(exec.pid)?;
    let (pid_out, pid_in) = pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            drop(pid_out);
            let code = match enter(&exec, &target, pid_in) {
                Ok(Role::Helper) => 0,
                Ok(Role::Program) => match confine(&exec, &spec, console.as_ref()) {
                    Ok(()) => {
                        let error = program::become_program(&exec.args, &exec.env);
                        eprintln!("{error}");
                        i32::from(error.code)
                    }
                    Err(error) => complain(&error),
                },
                Err(error) => complain(&error),
            };
            // SAFETY: ends this process without running what belongs to the parent (buffers, destructors).
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => {
            drop((pid_in, console));
            let mut text = String::new();
            File::from(pid_out).read_to_string(&mut text).context("read the process id")?;
            let helper = code_of(child)?;
            match text.parse() {
                Ok(pid) => code_of(Pid::from_raw(pid)),
                Err(_) => Ok(helper),
            }
        }
    }
}

fn complain(error: &anyhow::Error) -> i32 {
    eprintln!("exec: {error:#}");
    i32::from(program::CANNOT_RUN)
}

fn code_of(pid: Pid) -> Result<u8> {
    loop {
        let code = match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("wait for the program"),
        };
        return Ok(u8::try_from(code).unwrap_or(u8::MAX));
    }
}

fn pidfd(pid: i32) -> Result<OwnedFd> {
    // SAFETY: takes two numbers and makes a descriptor.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = Errno::result(fd).map_err(|_| anyhow!("the container is not running"))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Connects to a socket whose path may be longer than a socket's address can hold.
fn connect(path: &Path) -> Result<UnixStream> {
    let what = || format!("connect to {}", path.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{}: not a socket", path.display())
    };
    let dir = File::open(parent).with_context(what)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
        .with_context(what)
}

enum Role {
    Helper,
    Program,
}

/// Goes into the container and forks: returns twice.
fn enter(exec: &ExecSpec, target: &OwnedFd, pid_in: OwnedFd) -> Result<Role> {
    cgroup::join(&exec.cgroup, Pid::this())?;
    // A cgroup namespace is that of the joiner's own groups: after joining, and with the rest in one call.
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    setns(target, all).context("enter the container's namespaces")?;
    // SAFETY: like fork, but the child's parent is ours; one thread, no memory passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    match Errno::result(pid).context("fork into the container")? {
        0 => Ok(Role::Program),
        pid => {
            File::from(pid_in).write_all(pid.to_string().as_bytes()).context("report the process id")?;
            Ok(Role::Helper)
        }
    }
}

/// All that stands between our process and the user's program, in the order in which each step is still allowed.
fn confine(exec: &ExecSpec, spec: &Spec, console: Option<&UnixStream>) -> Result<()> {
    let process = spec.process().as_ref().ok_or_else(|| anyhow!("the container has no process"))?;
    let syscall = create_syscall();
    setsid().context("setsid")?;
    for limit in process.rlimits().iter().flatten() {
        syscall.set_rlimit(limit).context("set resource limits")?;
    }
    chdir(&exec.cwd).map_err(|error| anyhow!("chdir to {}: {}", exec.cwd.display(), error.desc()))?;
    // From here on, complaints go to the user's screen.
    if let Some(console) = console {
        make_terminal(exec, console)?;
    }
    let groups: Vec<Gid> = exec.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).context("set groups")?;
    prctl::set_keepcaps(true).context("keep capabilities")?;
    let (uid, gid) = (Uid::from_raw(exec.uid), Gid::from_raw(exec.gid));
    setresgid(gid, gid, gid).context("set the group")?;
    setresuid(uid, uid, uid).context("set the user")?;
    capabilities::reset_effective(syscall.as_ref()).context("regain capabilities")?;
    let _ = prctl::set_keepcaps(false);
    // SAFETY: marks descriptors, touches no memory.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) };

    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let no_new_privileges = process.no_new_privileges() == Some(true);
    if no_new_privileges {
        prctl::set_no_new_privs().context("set no_new_privs")?;
    }
    if let Some(filter) = filter {
        initialize_seccomp(filter).context("install the system call filter")?;
    }
    if let Some(mut caps) = process.capabilities().clone() {
        // By who runs this program, whoever runs the container's first one: root has what is not bounded, others nothing.
        let held = if uid.is_root() { caps.bounding().clone() } else { None };
        let held = held.unwrap_or_default();
        caps.set_effective(Some(held.clone())).set_permitted(Some(held));
        caps.set_inheritable(None).set_ambient(None);
        capabilities::drop_privileges(&caps, syscall.as_ref()).context("drop capabilities")?;
    }
    // Who is killed for taking too long takes this program along. Here, since a change of user forgets it.
    prctl::set_pdeathsig(Signal::SIGKILL).context("set the signal at the parent's death")
}

/// A new terminal of the container's own: its slave becomes our standard streams, its master goes to the daemon.
fn make_terminal(exec: &ExecSpec, console: &UnixStream) -> Result<()> {
    let master: OwnedFd =
        File::options().read(true).write(true).open("/dev/pts/ptmx").context("open /dev/pts/ptmx")?.into();
    if fstatfs(&master).context("statfs /dev/pts/ptmx")?.filesystem_type().0 != DEVPTS_MAGIC {
        bail!("/dev/pts is not a file system of terminals");
    }
    let (rows, cols) = exec.size;
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    let unlock: libc::c_int = 0;
    // SAFETY: each pointer is to a live value of the type that its request reads.
    let slave = unsafe {
        Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock))
            .context("unlock the terminal")?;
        Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size))
            .context("size the terminal")?;
        // By the master, not by name: the name is the container's to lie about.
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = Errno::result(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))
            .context("open the terminal")?;
        OwnedFd::from_raw_fd(slave)
    };
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) })
        .context("take the terminal")?;
    let _ = nix::unistd::fchown(&slave, Some(Uid::from_raw(exec.uid)), None);
    dup2_stdin(&slave).context("dup2")?;
    dup2_stdout(&slave).context("dup2")?;
    dup2_stderr(&slave).context("dup2")?;
    let rights = [master.as_raw_fd()];
    let message = [std::io::IoSlice::new(b"pty")];
    sendmsg::<()>(
        console.as_raw_fd(),
        &message,
        &[ControlMessage::ScmRights(&rights)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .context("hand over the terminal")?;
    Ok(())
}
