//! A daemon on another machine, over ssh: `rnctl system dial-stdio` there joins its standard input and output to the socket.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `[user@]host`.
    login: String,
    /// The port; none = as ssh's own settings say.
    port: Option<u16>,
    /// The socket there; none = the usual one.
    socket: Option<String>,
}

impl Target {
    /// Reads what follows `ssh://`: `[user@]host[:port][/socket]`.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (login, path) = text.split_once('/').map_or((text, ""), |(login, path)| (login, path));
        let (user, address) = login.rsplit_once('@').map_or((None, login), |(user, host)| (Some(user), host));
        if user.is_some_and(|user| user.contains(':')) {
            return Err("passwords are not taken here: use a key".into());
        }
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => address.rsplit_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map(str::parse).transpose().map_err(|_| format!("{address:?} has no valid port"))?;
        // What begins with a dash would be an option of ssh.
        if host.is_empty()
            || host.starts_with('-')
            || user.is_some_and(|u| u.is_empty() || u.starts_with('-'))
        {
            return Err("no host specified".into());
        }
        let login = user.map_or(host.to_owned(), |user| format!("{user}@{host}"));
        Ok(Self { login, port, socket: (!path.is_empty()).then(|| format!("/{path}")) })
    }

    /// The arguments of ssh.
    fn arguments(&self) -> Vec<String> {
        // The keys are those of ssh's own settings; nobody is asked for a password in the middle of an output.
        let mut arguments: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.login.clone(), "rnctl".to_owned()]);
        if let Some(socket) = &self.socket {
            // The shell there reads it.
            let quoted = socket.replace('\'', "'\\''");
            arguments.extend(["-H".to_owned(), format!("'unix://{quoted}'")]);
        }
        arguments.extend(["system", "dial-stdio"].map(str::to_owned));
        arguments
    }

    /// Connects. What ssh has to say goes to standard error.
    pub fn connect(&self) -> io::Result<Connection> {
        let mut command = Command::new("ssh");
        command.args(self.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => io::Error::other("there is no ssh on this machine"),
            _ => e,
        })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Connection { input: Some(input), output, child }),
            _ => Err(io::Error::other("ssh has neither input nor output")),
        }
    }
}

/// A connection over ssh, which ends with it.
pub struct Connection {
    /// None once it is shut down.
    input: Option<ChildStdin>,
    output: ChildStdout,
    /// Killed when this is dropped.
    #[allow(dead_code, reason = "kept for its drop")]
    child: Child,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Its drop closes the pipe; that is how the other side sees the end.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<String, String> {
        Target::parse(text).map(|target| target.arguments().join(" "))
    }

    #[test]
    fn what_ssh_is_told() {
        let start = "-o ConnectTimeout=30 -T";
        for (text, want) in [
            ("host", format!("{start} -- host rnctl system dial-stdio")),
            ("me@host", format!("{start} -- me@host rnctl system dial-stdio")),
            ("me@host:2222", format!("{start} -p 2222 -- me@host rnctl system dial-stdio")),
            ("me@[fd00::1]:22", format!("{start} -p 22 -- me@fd00::1 rnctl system dial-stdio")),
            ("h/run/x's", format!("{start} -- h rnctl -H 'unix:///run/x'\\''s' system dial-stdio")),
        ] {
            assert_eq!(line(text), Ok(want), "{text}");
        }
        for bad in
            ["", "@host", "me@", "-oProxyCommand=x", "me@-x", "-x@h", "me:pw@host", "host:x", "host:99999"]
        {
            assert!(line(bad).is_err(), "{bad}");
        }
    }
}
