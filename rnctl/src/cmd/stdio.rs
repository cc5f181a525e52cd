//! This terminal, and what is carried between it and a program behind the daemon.

use std::os::fd::AsFd;

use docker_api::{detach_keys::DetachKeys, frames::Output};
use nix::sys::termios::{self, SetArg, Termios};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    signal::unix::{SignalKind, signal},
};

use crate::{
    api::{Client, Pieces},
    exit::Failure,
    output,
};

/// Whose terminal has a size: `containers`, or `exec`; and its id.
#[derive(Debug, Clone)]
pub struct Sized(pub &'static str, pub String);

/// How carrying came to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The program has nothing more to say.
    Output,
    /// The user has left it running.
    Detached,
}

/// Shows what a program writes, until its end.
///
/// # Errors
/// The connection is lost.
pub async fn show<R: AsyncRead + Unpin>(mut pieces: Pieces<R>) -> Result<(), Failure> {
    while let Some((output, data)) = pieces.next().await? {
        // Whoever reads may take long, and signals are passed on meanwhile.
        let _ = tokio::task::spawn_blocking(move || output::bytes(output == Output::Stderr, &data)).await;
    }
    Ok(())
}

/// Carries what is typed to a program until it ends, or until `keys` are typed. Returns in the latter case only.
pub async fn feed(mut input: impl AsyncWrite + Unpin, mut keys: Option<DetachKeys>) {
    let mut stdin = tokio::io::stdin();
    let mut data = vec![0; 32 * 1024];
    while let Ok(n @ 1..) = stdin.read(&mut data).await {
        let typed = data.get(..n).unwrap_or_default();
        let (passed, detach) = match &mut keys {
            Some(keys) => keys.pass(typed),
            None => (typed.to_vec(), false),
        };
        // It may not read any more, and still have something to say.
        let written = input.write_all(&passed).await;
        if detach {
            return;
        }
        if written.is_err() || input.flush().await.is_err() {
            break;
        }
    }
    let _ = input.shutdown().await;
    // What the program says is still to be shown, over the same connection.
    let _input = input;
    std::future::pending::<()>().await;
}

/// Both directions. The terminal is the program's meanwhile, where it has one and reads.
///
/// # Errors
/// The connection is lost.
pub async fn carry<R, W>(
    pieces: Pieces<R>,
    input: Option<W>,
    keys: Option<DetachKeys>,
) -> Result<Ended, Failure>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let fed = async {
        match input {
            Some(input) => feed(input, keys).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        shown = show(pieces) => shown.map(|()| Ended::Output),
        () = fed => Ok(Ended::Detached),
    }
}

/// Tells the daemon how large this terminal is, now and whenever that changes; until it is dropped.
pub async fn follow_size(rn: Client, of: Sized, now: bool) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    let mut first = now;
    loop {
        if !std::mem::take(&mut first) && changes.recv().await.is_none() {
            return;
        }
        let (rows, cols) = window();
        if rows > 0 && cols > 0 {
            let resize = rn.post(&[of.0, &of.1, "resize"]).query("h", rows).query("w", cols);
            // It may have ended meanwhile.
            let _ = resize.done().await;
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

/// The same as the API has it; nothing where there is none.
pub fn console_size(tty: bool) -> Vec<u16> {
    match window() {
        (rows @ 1.., cols @ 1..) if tty => vec![rows, cols],
        _ => Vec::new(),
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
