//! `login` and `logout`.

use std::io::{IsTerminal, Read, Write};

use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use proto::pb;

use crate::{
    connect::Daemon,
    credentials::Credentials,
    exit::Failure,
    output::{self, complain},
    parse::image::DEFAULT_REGISTRY,
};

/// Flags of `login`.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The registry, HOST[:PORT] [default: docker.io]
    server: Option<String>,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password; better by --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

/// Flags of `logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry, HOST[:PORT] [default: docker.io]
    server: Option<String>,
}

/// `host[:port]`, without the scheme and the path that some write.
fn server(given: Option<&str>) -> String {
    let text = given.unwrap_or(DEFAULT_REGISTRY);
    let host = text.split_once("://").map_or(text, |(_, rest)| rest);
    match host.split('/').next().unwrap_or(host) {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        host => host.to_owned(),
    }
}

/// Runs `login`: the daemon asks the registry, the credentials are kept here.
pub async fn login(rn: &Daemon, args: LoginArgs) -> Result<(), Failure> {
    if args.password.is_some() {
        complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Failure::local("Must provide --username with --password-stdin"));
    }
    let server = server(args.server.as_deref());
    let mut credentials = Credentials::load()?;
    let known = credentials.get(&server);
    let username = match args.username {
        Some(name) => name,
        None => {
            let before = known.as_ref().map(|k| k.username.clone()).unwrap_or_default();
            let shown = if before.is_empty() { String::new() } else { format!(" ({before})") };
            match ask(&format!("Username{shown}: "), true)? {
                name if name.is_empty() => before,
                name => name,
            }
        }
    };
    let password = match args.password {
        Some(password) => password,
        None if args.password_stdin => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Failure::local(format!("cannot read the password: {e}")))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => ask("Password: ", false)?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Failure::local("Error: Username and password are both required"));
    }
    let auth = pb::RegistryAuth { server, username, password };
    let status = rn.local().login(auth.clone()).await?.into_inner().status;
    credentials.put(&auth)?;
    complain(&format!(
        "WARNING! Your password will be stored unencrypted in {}.",
        credentials.path().display()
    ));
    output::line(&status);
    Ok(())
}

/// Runs `logout`.
pub fn logout(args: &LogoutArgs) -> Result<(), Failure> {
    let server = server(args.server.as_deref());
    if Credentials::load()?.remove(&server)? {
        output::line(&format!("Removing login credentials for {server}"));
    } else {
        output::line(&format!("Not logged in to {server}"));
    }
    Ok(())
}

/// A line from the terminal.
fn ask(prompt: &str, echo: bool) -> Result<String, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::local("Error: Cannot perform an interactive login from a non TTY device")
            .with_help("give -u NAME --password-stdin"));
    }
    let failed = |e: String| Failure::local(format!("cannot read from the terminal: {e}"));
    let _ = write!(std::io::stderr(), "{prompt}");
    let before = tcgetattr(&input).map_err(|e| failed(e.to_string()))?;
    if !echo {
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&input, SetArg::TCSADRAIN, &quiet).map_err(|e| failed(e.to_string()))?;
    }
    let mut line = String::new();
    let read = input.read_line(&mut line);
    if !echo {
        let _ = tcsetattr(&input, SetArg::TCSADRAIN, &before);
        let _ = writeln!(std::io::stderr());
    }
    read.map_err(|e| failed(e.to_string()))?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn servers_are_hosts() {
        for (given, want) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("http://localhost:5000"), "localhost:5000"),
            (Some("reg.example/team"), "reg.example"),
        ] {
            assert_eq!(server(given), want);
        }
    }
}
