//! A program in the background, ended with the value.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::cores;
use crate::{lan, probe, wait};

/// The program.
pub struct Running(Child);

impl Running {
    /// Starts it, on one core if one is given.
    pub fn start(command: &mut Command, core: Option<usize>) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Self(child.with_context(|| format!("cannot run {command:?}"))?);
        if let Some(core) = core {
            cores::pin(running.pid()?, core)?;
        }
        Ok(running)
    }

    /// The test server in a namespace, on the core of servers; returns when it answers at `addr`.
    pub fn web(netns: &Path, addr: SocketAddr) -> Result<Self> {
        let mut command = lan::command(netns, crate::host::binary("rn-testd")?);
        let mut running = Self::start(command.arg(addr.port().to_string()), Some(cores::SERVER))?;
        running.ready("rn-testd", || probe::get_from(netns, addr, "/").map(drop))?;
        Ok(running)
    }

    /// Its process id.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.0.id())?)
    }

    /// Waits until it does its work.
    pub fn ready(&mut self, what: &str, mut check: impl FnMut() -> Result<()>) -> Result<()> {
        wait::until(&format!("{what} is ready"), wait::SHORT, || {
            if let Some(status) = self.0.try_wait()? {
                bail!("it has ended with {status}");
            }
            check()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
