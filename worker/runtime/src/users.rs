//! Who a container's program runs as. Pure: over the texts of the image's `/etc/passwd` and `/etc/group`.

use super::{Result, RuntimeError};

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups, sorted.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

fn parse_passwd(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(PasswdEntry { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
    })
}

fn parse_group(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        let members =
            fields.next().unwrap_or_default().split(',').filter(|member| !member.is_empty()).collect();
        Some(GroupEntry { name, gid, members })
    })
}

/// Resolves `user[:group]` (names or numbers; empty = root) and further groups, by Docker's rules: a number needs no entry,
/// a name does; an explicit group switches the user's own further groups off.
pub fn resolve(spec: &str, further: &[String], passwd: &str, group: &str) -> Result<User> {
    let (user, explicit) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let entry = parse_passwd(passwd).find(|entry| entry.name == user).or_else(|| {
        user.parse().ok().and_then(|uid: u32| parse_passwd(passwd).find(|entry| entry.uid == uid))
    });
    let (uid, gid, home, name) = match (&entry, user.parse::<u32>()) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, Some(entry.name)),
        (None, Ok(uid)) => (uid, 0, "", None),
        (None, Err(_)) => {
            return Err(RuntimeError::Invalid(format!(
                "unable to find user {user}: no matching entries in passwd file"
            )));
        }
    };
    let find_group = |wanted: &str| -> Result<u32> {
        parse_group(group)
            .find(|entry| entry.name == wanted)
            .map(|entry| entry.gid)
            .or_else(|| wanted.parse().ok())
            .ok_or_else(|| {
                RuntimeError::Invalid(format!(
                    "unable to find group {wanted}: no matching entries in group file"
                ))
            })
    };
    let (gid, mut groups) = if explicit.is_empty() {
        let own = |entry: &GroupEntry<'_>| name.is_some_and(|name| entry.members.contains(&name));
        (gid, parse_group(group).filter(own).map(|entry| entry.gid).collect::<Vec<_>>())
    } else {
        (find_group(explicit)?, Vec::new())
    };
    for wanted in further {
        groups.push(find_group(wanted)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = match home {
        "" if uid == 0 => "/root",
        "" => "/",
        home => home,
    };
    Ok(User { uid, gid, groups, home: home.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nvideo:x:44:app,other\naudio:x:29:app\n";

    fn user(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(spec, &[], PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    #[test]
    fn users_are_resolved_as_docker_does() {
        assert_eq!(user(""), (0, 0, vec![], "/root".into()));
        assert_eq!(user("app"), (1000, 1001, vec![29, 44], "/home/app".into()));
        assert_eq!(user("1000"), (1000, 1001, vec![29, 44], "/home/app".into()));
        assert_eq!(user("app:video"), (1000, 44, vec![], "/home/app".into()));
        assert_eq!(user("4242:4343"), (4242, 4343, vec![], "/".into()));
        assert_eq!(user("4242"), (4242, 0, vec![], "/".into()));
        assert!(resolve("nobody", &[], PASSWD, GROUP).is_err());
        assert!(resolve("app:nogroup", &[], PASSWD, GROUP).is_err());
        let further = ["video".to_owned(), "77".to_owned()];
        assert_eq!(resolve("0:0", &further, PASSWD, GROUP).unwrap().groups, [44, 77]);
        assert_eq!(resolve("", &[], "", "").unwrap().home, "/root");
    }
}
