//! Other people's forward chains: which of them drop, and the rules by which ours may pass.
//!
//! An accept in one base chain overrides no drop in another, so where a chain drops what it does not know, the only way past it
//! is a rule in it. Ours are plain (`iifname NAME counter accept`), since `iptables` gives up on a table with anything that it
//! would not have written itself, and bear a comment by which they are found again.

use std::collections::BTreeMap;

use super::super::{
    error::Cause,
    linux::Namespace,
    netlink::{
        abi::*,
        socket::nfgen,
        wire::{Message, attrs, be32, text},
    },
    observed::{BaseChain, FORWARD, Table},
    ruleset::Family,
};

/// What the comments of our rules start with.
const COMMENT_PREFIX: &str = "rn:";
/// Type of a comment in a rule's user data (`NFTNL_UDATA_RULE_COMMENT` of libnftnl).
const UDATA_COMMENT: u8 = 0;

/// What matters here of a rule.
struct Rule {
    handle: [u8; 8],
    comment: Option<String>,
    /// Whatever reaches it is dropped or rejected.
    drops_all: bool,
}

/// Looks into the filter chains on the forward hook, but those of our own tables.
pub(in super::super) fn look(
    ns: &Namespace,
    tables: &mut BTreeMap<(Family, String), Table>,
) -> Result<(), Cause> {
    for ((family, name), table) in tables.iter_mut().filter(|(_, table)| table.digest.is_none()) {
        let forward = |chain: &&mut BaseChain| chain.hook == FORWARD && chain.kind == "filter";
        for chain in table.base_chains.iter_mut().filter(forward) {
            let rules = rules(ns, *family, name, &chain.name)?;
            chain.drops |= rules.last().is_some_and(|rule| rule.drops_all);
            for mark in rules.into_iter().filter_map(|rule| rule.comment) {
                *chain.marks.entry(mark).or_default() += 1;
            }
        }
    }
    Ok(())
}

/// Lets everything through that comes from or goes to these links, by rules at the head of a chain.
pub(in super::super) fn open(
    ns: &Namespace,
    (family, table, chain): (Family, &str, &str),
    links: &[String],
    mark: &str,
) -> Result<(), Cause> {
    super::run(ns, &script((family, table, chain), links, mark))
}

/// The rules as nft takes them.
pub(in super::super) fn script(
    (family, table, chain): (Family, &str, &str),
    links: &[String],
    mark: &str,
) -> String {
    let rule = |(link, side): (&String, &str)| {
        format!("insert rule {family} {table} {chain} {side} \"{link}\" counter accept comment \"{mark}\"\n")
    };
    links.iter().flat_map(|link| [(link, "iifname"), (link, "oifname")]).map(rule).collect()
}

/// Takes the rules with this mark out of a chain.
pub(in super::super) fn close(
    ns: &Namespace,
    (family, table, chain): (Family, &str, &str),
    mark: &str,
) -> Result<(), Cause> {
    let ours = rules(ns, family, table, chain)?.into_iter().filter(|r| r.comment.as_deref() == Some(mark));
    let delete = |rule: Rule| {
        let mut m = Message::new(NFT_MSG_DELRULE, 0, &nfgen(family.number(), 0));
        m.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain).bytes(NFTA_RULE_HANDLE, &rule.handle);
        m
    };
    let messages: Vec<Message> = ours.map(delete).collect();
    if messages.is_empty() { Ok(()) } else { ns.netfilter().transaction(messages) }
}

fn rules(ns: &Namespace, family: Family, table: &str, chain: &str) -> Result<Vec<Rule>, Cause> {
    let mut ask = Message::new(NFT_MSG_GETRULE, 0, &nfgen(family.number(), 0));
    ask.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
    match ns.netfilter().dump(ask, |m| Ok(Some(rule(m.payload)))) {
        // It was there a moment ago.
        Err(cause) if cause.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
        rules => rules,
    }
}

fn rule(payload: &[u8]) -> Rule {
    let mut rule = Rule { handle: [0; 8], comment: None, drops_all: false };
    for (kind, value) in attrs(payload, 4) {
        match kind {
            NFTA_RULE_HANDLE => rule.handle = value.try_into().unwrap_or_default(),
            NFTA_RULE_USERDATA => rule.comment = comment(value).filter(|c| c.starts_with(COMMENT_PREFIX)),
            NFTA_RULE_EXPRESSIONS => rule.drops_all = drops_all(value),
            _ => {}
        }
    }
    rule
}

/// The comment in a rule's user data: type, length and value, a byte each of the first two.
fn comment(mut data: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = data {
        let value = rest.get(..usize::from(*len))?;
        if *kind == UDATA_COMMENT {
            return Some(text(value));
        }
        data = rest.get(value.len()..)?;
    }
    None
}

/// Whether a rule matches on nothing, and drops or rejects.
fn drops_all(list: &[u8]) -> bool {
    let mut drops = false;
    for (_, expression) in attrs(list, 0) {
        let part = |wanted| attrs(expression, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        match part(NFTA_EXPR_NAME).map(text).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") => drops = part(NFTA_EXPR_DATA).and_then(verdict) == Some(NF_DROP),
            _ => return false,
        }
    }
    drops
}

fn verdict(immediate: &[u8]) -> Option<u32> {
    let find = |data, wanted| attrs(data, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let data = find(immediate, NFTA_IMMEDIATE_DATA)?;
    find(find(data, NFTA_DATA_VERDICT)?, NFTA_VERDICT_CODE).map(be32)
}
