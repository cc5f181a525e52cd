//! `exec`.

use std::{io::IsTerminal, os::fd::AsFd};

use clap::Args;
use futures::StreamExt;
use nix::sys::termios::{self, SetArg, Termios};
use proto::pb::{self, exec_reply, exec_request};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::mpsc::Sender,
};

use crate::{connect::Daemon, exit::Failure, output, parse::keyval};

/// Flags of `exec`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  rnctl exec -it web.1.abc sh\n\nExits as the command does.")]
pub struct ExecArgs {
    /// Send standard input to the command
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; NAME alone takes the value from here; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Run as this user [default: the container's]
    #[arg(short, long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// Start the command and leave it
    #[arg(short, long)]
    detach: bool,
    /// The container, by name or id, then the command
    #[arg(value_names = ["CONTAINER", "COMMAND"], num_args = 2.., required = true, trailing_var_arg = true,
          allow_hyphen_values = true)]
    container_and_command: Vec<String>,
}

impl ExecArgs {
    fn start(self, size: (u16, u16)) -> Result<exec_request::Start, Failure> {
        let mut words = self.container_and_command.into_iter();
        let container = words.next().unwrap_or_default();
        if container.starts_with('-') {
            return Err(Failure::usage("exec", format!("unknown option {container}")));
        }
        let env = keyval::environment(&self.env, |name| std::env::var(name).ok());
        Ok(exec_request::Start {
            container,
            cmd: words.collect(),
            tty: self.tty,
            stdin: self.interactive,
            env: env.map_err(|e| Failure::usage("exec", e))?,
            user: self.user,
            dir: self.workdir,
            rows: size.0.into(),
            cols: size.1.into(),
            detach: self.detach,
        })
    }
}

/// Runs `exec`.
pub async fn run(rn: &Daemon, args: ExecArgs) -> Result<(), Failure> {
    let (interactive, tty, detach) = (args.interactive, args.tty, args.detach);
    let stdin_is_terminal = std::io::stdin().is_terminal();
    if tty && interactive && !stdin_is_terminal {
        return Err(Failure::local(
            "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
        )
        .with_help("leave -t away"));
    }
    let start = args.start(if tty { window() } else { (0, 0) })?;
    let (sender, requests) = tokio::sync::mpsc::channel(16);
    let request = |kind| pb::ExecRequest { kind: Some(kind) };
    // The channel has room: nothing waits here.
    let _ = sender.send(request(exec_request::Kind::Start(start))).await;
    if !interactive {
        let _ = sender.send(request(exec_request::Kind::CloseStdin(true))).await;
    }
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests).boxed();
    let mut replies = rn.local().exec(requests).await?.into_inner();
    // From here the terminal is the command's; the guard gives it back.
    let _raw = if tty && interactive { RawMode::enter() } else { None };
    if interactive && !detach {
        tokio::spawn(forward_input(sender.clone()));
    }
    if tty && !detach {
        tokio::spawn(forward_size(sender.clone()));
    }
    while let Some(reply) = replies.message().await? {
        match reply.kind {
            Some(exec_reply::Kind::Stdout(data)) => output::bytes(false, &data),
            Some(exec_reply::Kind::Stderr(data)) => output::bytes(true, &data),
            Some(exec_reply::Kind::ExitCode(0)) => return Ok(()),
            Some(exec_reply::Kind::ExitCode(code)) => return Err(Failure::Code(code)),
            None => {}
        }
    }
    if detach {
        return Ok(());
    }
    Err(Failure::local("the daemon ended the connection before the command was done"))
}

async fn forward_input(sender: Sender<pb::ExecRequest>) {
    let mut stdin = tokio::io::stdin();
    let mut data = vec![0; 32 * 1024];
    loop {
        let kind = match stdin.read(&mut data).await {
            Ok(n) if n > 0 => exec_request::Kind::Stdin(data[..n].to_vec()),
            Ok(_) | Err(_) => exec_request::Kind::CloseStdin(true),
        };
        let end = matches!(kind, exec_request::Kind::CloseStdin(_));
        if sender.send(pb::ExecRequest { kind: Some(kind) }).await.is_err() || end {
            return;
        }
    }
}

async fn forward_size(sender: Sender<pb::ExecRequest>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let (rows, cols) = window();
        let resize = exec_request::Resize { rows: rows.into(), cols: cols.into() };
        let kind = Some(exec_request::Kind::Resize(resize));
        if sender.send(pb::ExecRequest { kind }).await.is_err() {
            return;
        }
    }
}

nix::ioctl_read_bad!(get_window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);

/// Rows and columns of the terminal; zeros where there is none.
pub fn window() -> (u16, u16) {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` to the pointer, which is valid for the call.
    match unsafe { get_window_size(nix::libc::STDOUT_FILENO, &raw mut size) } {
        Ok(_) => (size.ws_row, size.ws_col),
        Err(_) => (0, 0),
    }
}

/// The terminal in raw mode, for as long as this lives.
pub struct RawMode(Termios);

impl RawMode {
    /// Switches to it; none where standard input is no terminal.
    pub fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(stdin.as_fd()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}
