//! nftables: whole tables by the `nft` program, once; elements by raw netlink, as often as they change.
//!
//! Measured: forking `nft` costs 3 ms and more for a long table, an element in a transaction of our own 2 us. So a table that was
//! laid down once is read back from the kernel and laid down from that the next time ([`Template`]).

mod encode;
pub(super) mod forward;
mod observe;
mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

#[cfg(any(test, fuzzing))]
pub(super) use observe::read_any;
pub(super) use observe::{elements, tables};
pub(super) use template::Template;

use super::{
    error::Cause,
    linux::Namespace,
    netlink::{abi::*, socket::nfgen, wire::Message},
    ruleset::{Element, ElementChange, Family, Part},
};

/// Elements in one message: an attribute's length has 16 bits, and the largest element takes about 120 bytes.
const PER_MESSAGE: usize = 400;

/// Runs a script, as one transaction.
pub(super) fn run(ns: &Namespace, script: &str) -> Result<(), Cause> {
    let run = || {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // If nft ends early it says why on its standard error.
            let _ = stdin.write_all(script.as_bytes());
        }
        child.wait_with_output()
    };
    let output = ns.run("enter the namespace", run)?.map_err(Cause::system("run nft"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Cause::Nft(said.trim().to_owned()))
}

/// Deletes a table.
pub(super) fn delete_table(ns: &Namespace, family: Family, table: &str) -> Result<(), Cause> {
    let mut m = Message::new(NFT_MSG_DELTABLE, 0, &nfgen(family.number(), 0));
    m.text(NFTA_TABLE_NAME, table);
    let done = ns.netfilter().transaction(vec![m]);
    match done {
        Err(cause) if cause.errno() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// Brings elements to what is asked, in one transaction.
pub(super) fn update_elements(
    ns: &Namespace,
    family: Family,
    table: &str,
    changes: &[ElementChange],
) -> Result<(), Cause> {
    let send = |changes: &[ElementChange]| {
        let messages = messages(family, table, changes)?;
        if messages.is_empty() { Ok(()) } else { ns.netfilter().transaction(messages) }
    };
    match send(changes) {
        // The kernel refuses to delete what is absent, and to add what is there with another value. Then what is there was
        // not as the caller thought: look, and ask for the difference only.
        Err(cause) if matches!(cause.errno(), Some(libc::ENOENT | libc::EEXIST | libc::EBUSY)) => {
            let names = changes.iter().map(|c| c.set.as_str()).collect();
            let have = elements(ns, family, table, Some(&names))?;
            if let Some(absent) = names.iter().find(|name| !have.contains_key(**name)) {
                return Err(match have.is_empty() {
                    true => cause,
                    false => Cause::Invalid(format!("no set or map {absent} in table {family} {table}")),
                });
            }
            send(&difference(changes, &have))
        }
        other => other,
    }
}

/// What of the changes is left to do where the sets hold `have`.
fn difference(changes: &[ElementChange], have: &BTreeMap<String, BTreeSet<Element>>) -> Vec<ElementChange> {
    let mut wanted: BTreeMap<(&str, &[Part]), Option<&Element>> = BTreeMap::new();
    for change in changes {
        wanted.extend(change.del.iter().map(|e| ((change.set.as_str(), e.key.as_slice()), None)));
        wanted.extend(change.add.iter().map(|e| ((change.set.as_str(), e.key.as_slice()), Some(e))));
    }
    let mut left: BTreeMap<&str, ElementChange> = BTreeMap::new();
    for ((set, key), wanted) in wanted {
        let there = have.get(set).and_then(|elements| {
            // Elements are ordered by key first.
            elements.range(Element::key(key)..).next().filter(|e| e.key == key)
        });
        if there == wanted {
            continue;
        }
        let change = left
            .entry(set)
            .or_insert_with(|| ElementChange { set: set.to_owned(), ..ElementChange::default() });
        change.del.extend(there.cloned());
        change.add.extend(wanted.cloned());
    }
    left.into_values().collect()
}

fn messages(family: Family, table: &str, changes: &[ElementChange]) -> Result<Vec<Message>, Cause> {
    let mut out = Vec::new();
    let deletions = changes.iter().map(|c| (NFT_MSG_DELSETELEM, 0, &c.set, &c.del));
    let additions = changes.iter().map(|c| (NFT_MSG_NEWSETELEM, NLM_F_CREATE, &c.set, &c.add));
    for (kind, flags, set, list) in deletions.chain(additions) {
        for part in list.chunks(PER_MESSAGE) {
            let mut m = Message::new(kind, flags, &nfgen(family.number(), 0));
            m.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
            let mut fine = Ok(());
            m.nest(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, |m| {
                for element in part {
                    let value = element.value.as_ref().filter(|_| kind == NFT_MSG_NEWSETELEM);
                    m.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |m| {
                        fine =
                            std::mem::replace(&mut fine, Ok(())).and(encode::element(m, &element.key, value));
                    });
                }
            });
            fine?;
            out.push(m);
        }
    }
    Ok(out)
}
