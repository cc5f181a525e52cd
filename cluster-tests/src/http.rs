//! HTTP on a daemon's socket, byte by byte.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result};

use crate::host::Host;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All fields, in lower case, `name: value` a line.
    pub head: String,
    /// The body as it came.
    pub body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .with_context(|| format!("no status: {head:?}"))?;
        Ok(Self { status, head: head.to_lowercase(), body: body.to_owned() })
    }

    /// The message of an error.
    pub fn message(&self) -> Result<String> {
        let json: serde_json::Value =
            serde_json::from_str(&self.body).with_context(|| format!("no JSON: {:?}", self.body))?;
        Ok(json["message"].as_str().with_context(|| format!("no message: {json}"))?.to_owned())
    }
}

impl Host {
    /// A connection to the daemon's socket.
    pub fn connect(&self) -> Result<UnixStream> {
        let path = self.socket();
        Ok(UnixStream::connect(path.strip_prefix("unix://").unwrap_or(&path))?)
    }

    /// Sends these bytes and reads until the daemon closes.
    pub fn raw(&self, request: &[u8]) -> Result<Answer> {
        let mut stream = self.connect()?;
        // A daemon that has read enough answers and closes while there is still something to send.
        let sent = stream.write_all(request);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if answer.is_empty() => return Err(error.into()),
            Err(_) => {}
        }
        if answer.is_empty() {
            sent?;
        }
        Answer::read(&answer)
    }

    /// A request without a body.
    pub fn http(&self, method: &str, path: &str) -> Result<Answer> {
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// A request with a body of JSON, or of what is to be taken for it.
    pub fn http_json(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes())
    }
}
