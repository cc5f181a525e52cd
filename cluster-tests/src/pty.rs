//! A terminal for a program under test: what a user sits at.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::AsRawFd,
    process::{Child, Command, ExitStatus},
};

use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// A program on a terminal of its own.
pub struct Terminal {
    master: File,
    child: Child,
    seen: String,
}

impl Terminal {
    /// Starts a command of `ns` on a new terminal of that many rows and columns.
    pub fn start(command: Command, rows: u16, cols: u16) -> Result<Self> {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).context("openpty")?;
        // A session of its own, whose terminal this is: otherwise nobody is told that the window has changed.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        wrapped.stdin(pair.slave.try_clone()?).stdout(pair.slave.try_clone()?).stderr(pair.slave);
        let child = wrapped.spawn().context("setsid")?;
        Ok(Self { master: File::from(pair.master), child, seen: String::new() })
    }

    /// Types.
    pub fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, cols: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the pointer is to a live value of the type that the request reads.
        unsafe { ioctl::set_window_size(self.master.as_raw_fd(), &raw const size) }?;
        Ok(())
    }

    /// Reads until the screen has shown `text` since the last such call; what was shown up to there.
    pub fn read_until(&mut self, text: &str) -> Result<String> {
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            let mut chunk = [0; 4096];
            // A terminal that nobody holds any more gives EIO.
            let count = self.master.read(&mut chunk).unwrap_or(0);
            ensure!(count > 0, "the program has ended without showing {text:?}: {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<ExitStatus> {
        let mut chunk = [0; 4096];
        while self.master.read(&mut chunk).unwrap_or(0) > 0 {}
        Ok(self.child.wait()?)
    }
}
