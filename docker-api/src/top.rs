//! `GET /containers/{id}/top`.

use proto::error::ApiError;
use serde::Serialize;

/// What `ps` says of a container's processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Top {
    /// Headings.
    pub titles: Vec<String>,
    /// A process each.
    pub processes: Vec<Vec<String>>,
}

/// The lines of `ps` about some processes. The last column may have spaces.
///
/// # Errors
/// There is no column `PID`.
pub fn processes(ps: &str, pids: &[u32]) -> Result<Top, ApiError> {
    let mut lines = ps.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let Some(column) = titles.iter().position(|title| title == "PID") else {
        return Err(ApiError::invalid("Couldn't find PID field in ps output").help("ask ps for it: -o pid,…"));
    };
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (first, rest) = words.split_at_checked(titles.len().saturating_sub(1))?;
        let pid = words.get(column)?.parse().ok()?;
        let cells = first.iter().map(|w| (*w).to_owned()).chain([rest.join(" ")]);
        pids.contains(&pid).then(|| cells.collect::<Vec<_>>())
    };
    Ok(Top { processes: lines.filter_map(row).collect(), titles: titles.clone() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_its_own_processes_are_shown() {
        let ps = "UID   PID CMD\nroot    1 /sbin/init splash\nroot   77 sleep 600\n";
        let top = processes(ps, &[77]).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "CMD"]);
        assert_eq!(top.processes, [["root", "77", "sleep 600"]]);
        assert!(processes("UID CMD\n", &[]).is_err());
    }
}
