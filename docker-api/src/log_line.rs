//! Lines of logs.

use proto::pb::LogLine;

use crate::time;

/// What is wanted of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// The time before each line.
    pub timestamps: bool,
    /// Where a line comes from before it.
    pub details: bool,
}

/// Where lines come from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The service.
    pub service: &'a str,
    /// The task.
    pub task: &'a str,
    /// The node.
    pub node: &'a str,
}

/// A line as it goes out: time, origin, text. None where its output is not wanted.
pub fn text(line: &LogLine, origin: &Origin<'_>, shown: Shown) -> Option<Vec<u8>> {
    if !(if line.stderr { shown.stderr } else { shown.stdout }) {
        return None;
    }
    let mut text = Vec::with_capacity(line.data.len() + 32);
    if shown.timestamps {
        text.extend_from_slice(time::stamp(line.at_nanos).as_bytes());
        text.push(b' ');
    }
    if shown.details {
        // Docker's clients find the task by these.
        let Origin { service, task, node } = origin;
        text.extend_from_slice(
            format!("com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},com.docker.swarm.task.id={task} ")
                .as_bytes(),
        );
    }
    text.extend_from_slice(&line.data);
    if !line.partial {
        text.push(b'\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_was_asked_for() {
        let line = LogLine {
            at_nanos: 1_700_000_000_000_000_000,
            stderr: true,
            data: b"hello".to_vec(),
            partial: false,
        };
        let origin = Origin { service: "s", task: "t", node: "n" };
        let all = Shown { stdout: true, stderr: true, timestamps: true, details: true };
        assert_eq!(
            text(&line, &origin, all).map(|t| String::from_utf8_lossy(&t).into_owned()).as_deref(),
            Some(
                "2023-11-14T22:13:20.000000000Z com.docker.swarm.node.id=n,com.docker.swarm.service.id=s,com.docker.swarm.task.id=t hello\n"
            )
        );
        assert_eq!(text(&line, &origin, Shown { stderr: false, ..all }), None);
        let plain = Shown { timestamps: false, details: false, ..all };
        assert_eq!(
            text(&LogLine { partial: true, ..line }, &origin, plain).as_deref(),
            Some(b"hello".as_slice())
        );
    }
}
