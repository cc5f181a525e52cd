//! Placement constraints: `key==value` and `key!=value` (swarmkit `manager/constraint`).

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use proto::model::{Node, Role};

/// One constraint, readable and checked for syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    key: Key,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Id,
    Hostname,
    Ip,
    Role,
    Os,
    Arch,
    NodeLabel(String),
    EngineLabel(String),
    /// Never matches, whatever the operator: a newer client may know more keys than this manager.
    Unknown(String),
}

impl Key {
    // Keys are compared without case, label names with it.
    fn parse(text: &str) -> Self {
        let label = |prefix: &str| {
            let (head, name) = text.split_at_checked(prefix.len())?;
            (head.eq_ignore_ascii_case(prefix) && !name.is_empty()).then(|| name.to_owned())
        };
        match text.to_ascii_lowercase().as_str() {
            "node.id" => Key::Id,
            "node.hostname" => Key::Hostname,
            "node.ip" => Key::Ip,
            "node.role" => Key::Role,
            "node.platform.os" => Key::Os,
            "node.platform.arch" => Key::Arch,
            _ => label("node.labels.")
                .map(Key::NodeLabel)
                .or_else(|| label("engine.labels.").map(Key::EngineLabel))
                .unwrap_or_else(|| Key::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.equal { "==" } else { "!=" };
        match &self.key {
            Key::Id => f.write_str("node.id"),
            Key::Hostname => f.write_str("node.hostname"),
            Key::Ip => f.write_str("node.ip"),
            Key::Role => f.write_str("node.role"),
            Key::Os => f.write_str("node.platform.os"),
            Key::Arch => f.write_str("node.platform.arch"),
            Key::NodeLabel(name) => write!(f, "node.labels.{name}"),
            Key::EngineLabel(name) => write!(f, "engine.labels.{name}"),
            Key::Unknown(key) => f.write_str(key),
        }?;
        write!(f, "{operator}{}", self.value)
    }
}

/// Reads one constraint.
///
/// # Errors
/// A sentence for the user when there is no operator, or key or value has a character that is not allowed.
pub fn parse(text: &str) -> Result<Constraint, String> {
    let split = |operator: &str| text.split_once(operator);
    let (key, value, equal) = match (split("=="), split("!=")) {
        // The operator that comes first is the operator; the other one belongs to the value.
        (Some((key, value)), Some((other, _))) if key.len() < other.len() => (key, value, true),
        (_, Some((key, value))) => (key, value, false),
        (Some((key, value)), None) => (key, value, true),
        (None, None) => {
            return Err(format!("constraint {text:?} expected one operator from ==, !="));
        }
    };
    let (key, value) = (key.trim(), value.trim());
    let mut letters = key.chars();
    let starts = letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !starts || key.len() < 2 || !letters.all(goes_on) {
        return Err(format!("constraint {text:?}: key {key:?} is invalid"));
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || r":-_.*()?+[]\^$|/".contains(c);
    if value.is_empty() || !value.chars().all(allowed) {
        return Err(format!("constraint {text:?}: value {value:?} is invalid"));
    }
    Ok(Constraint { key: Key::parse(key), equal, value: value.to_owned() })
}

impl Constraint {
    /// Whether a node satisfies it. A label that the node lacks has the empty value.
    pub fn matches(&self, node: &Node) -> bool {
        let description = node.description.as_ref();
        let compare = |actual: &str| actual.eq_ignore_ascii_case(&self.value) == self.equal;
        match &self.key {
            Key::Id => compare(node.id.as_str()),
            Key::Hostname => compare(node.hostname()),
            Key::Ip => self.matches_ip(node),
            Key::Role => compare(node.role.as_str()),
            Key::Os => compare(description.map_or("", |d| &d.os)),
            Key::Arch => compare(description.map_or("", |d| &d.arch)),
            Key::NodeLabel(name) => compare(node.spec.labels.get(name).map_or("", String::as_str)),
            Key::EngineLabel(name) => {
                compare(description.and_then(|d| d.engine_labels.get(name)).map_or("", String::as_str))
            }
            Key::Unknown(_) => false,
        }
    }

    fn matches_ip(&self, node: &Node) -> bool {
        let Some(addr) = node.status.addr.or_else(|| node.description.as_ref()?.advertise_addr) else {
            return false;
        };
        let within = match self.value.parse::<IpAddr>() {
            Ok(wanted) => wanted == addr,
            Err(_) => match self.value.parse::<IpNet>() {
                Ok(net) => net.contains(&addr),
                Err(_) => return false,
            },
        };
        within == self.equal
    }
}

/// The first of them that a node does not satisfy. One that cannot be read is satisfied by no node; the API refuses those.
pub fn unmet<'a>(constraints: &'a [String], node: &Node) -> Option<&'a str> {
    constraints.iter().find(|text| !parse(text).is_ok_and(|c| c.matches(node))).map(String::as_str)
}

/// Whether a node satisfies all of them.
pub fn all_match(constraints: &[String], node: &Node) -> bool {
    unmet(constraints, node).is_none()
}

/// The keys that there are.
const KEYS: &str = "node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, node.labels.NAME and \
                    engine.labels.NAME";

/// Reads one constraint that a user types: one that no node could ever satisfy, or every one would, is a mistake.
///
/// # Errors
/// Two sentences: what is wrong, and the way out.
pub fn check(text: &str) -> Result<Constraint, (String, String)> {
    let usage = || "write KEY==VALUE or KEY!=VALUE, e.g. node.labels.zone==a".to_owned();
    let constraint = parse(text).map_err(|why| (why, usage()))?;
    let Constraint { key, value, .. } = &constraint;
    match key {
        Key::Unknown(key) => {
            Err((format!("constraint {text:?}: there is no key {key}"), format!("the keys are {KEYS}")))
        }
        Key::Ip if value.parse::<IpAddr>().is_err() && value.parse::<IpNet>().is_err() => Err((
            format!("constraint {text:?}: {value} is neither an address nor a network"),
            "for instance node.ip==10.1.2.3 or node.ip!=10.1.0.0/16".to_owned(),
        )),
        Key::Role
            if ![Role::Manager, Role::Worker].iter().any(|r| r.as_str().eq_ignore_ascii_case(value)) =>
        {
            Err((
                format!("constraint {text:?}: there is no role {value}"),
                "the roles are manager and worker".to_owned(),
            ))
        }
        _ => Ok(constraint),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tests::fixture;

    fn holds(text: &str, node: &Node) -> bool {
        parse(text).unwrap().matches(node)
    }

    #[test]
    fn syntax() {
        assert_eq!(parse(" node.role == manager ").unwrap().to_string(), "node.role==manager");
        assert_eq!(parse("node.labels.a!=b").unwrap().to_string(), "node.labels.a!=b");
        for bad in
            ["", "node.role", "node.role=manager", "==x", "1key==v", "a b==v", "node.id==", "k==a=b", "k==ü"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("node.role=manager").unwrap_err().contains("expected one operator from ==, !="));
    }

    #[test]
    fn what_no_node_could_satisfy_is_a_mistake() {
        for good in [
            "node.ID==a",
            "NODE.ROLE!=Worker",
            "node.ip==10.0.0.0/8",
            "engine.labels.x==y",
            "node.labels.X!=y",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        let refused = |text: &str| check(text).unwrap_err();
        let (what, way_out) = refused("node.foo==x");
        assert!(
            what.contains("there is no key node.foo") && way_out.contains("node.labels.NAME"),
            "{what} {way_out}"
        );
        for bad in
            ["node.labels==x", "node.labels.==x", "labels.zone==x", "node.platform==linux", "hostname!=a"]
        {
            assert!(refused(bad).0.contains("there is no key"), "{bad}");
        }
        assert!(refused("node.role==boss").1.contains("manager and worker"));
        assert!(refused("node.ip==here").0.contains("neither an address nor a network"));
        assert!(refused("node.role=manager").1.contains("KEY==VALUE"));
    }

    #[test]
    fn values_without_case_labels_with_it() {
        let mut node = fixture::node("n1");
        node.spec.labels = [("Zone".to_owned(), "East".to_owned())].into();
        node.role = Role::Manager;
        assert!(holds("node.role==MANAGER", &node));
        assert!(holds("NODE.Hostname==N1", &node));
        assert!(holds("node.labels.Zone==east", &node));
        assert!(!holds("node.labels.zone==east", &node), "another label");
        assert!(holds("node.labels.zone!=east", &node), "a missing label differs from every value");
        assert!(!holds("node.platform.arch==amd64", &node), "architecture names are not translated here");
        assert!(holds("node.platform.arch==x86_64", &node));
        assert!(
            !holds("node.colour==red", &node) && !holds("node.colour!=red", &node),
            "unknown keys never match"
        );
    }

    #[test]
    fn addresses_and_networks() {
        let mut node = fixture::node("n1");
        node.status.addr = Some("fd00::7".parse().unwrap());
        assert!(holds("node.ip==fd00::7", &node));
        assert!(holds("node.ip==fd00::/64", &node));
        assert!(!holds("node.ip==10.0.0.0/8", &node));
        assert!(holds("node.ip!=10.0.0.0/8", &node));
        assert!(!holds("node.ip==here", &node) && !holds("node.ip!=here", &node));
    }
}
