//! What tables there are, and what their sets hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        error::Cause,
        linux::Namespace,
        netlink::{
            abi::*,
            socket::nfgen,
            wire::{Message, attrs, be32, text},
        },
        observed::{BaseChain, Table},
        ruleset::{DIGEST_PREFIX, Element, Family, Value},
    },
    encode::{self, Kind},
    forward,
};

/// All tables, without elements: two dumps, and one for each forward chain that is not ours.
pub(in super::super) fn tables(ns: &Namespace) -> Result<BTreeMap<(Family, String), Table>, Cause> {
    let mut socket = ns.netfilter();
    let all = |kind| Message::new(kind, 0, &nfgen(AF_UNSPEC, 0));
    let family = |payload: &[u8]| payload.first().copied().and_then(Family::from_number);
    let names = socket.dump(all(NFT_MSG_GETTABLE), |m| {
        let name = attrs(m.payload, 4).find(|(kind, _)| *kind == NFTA_TABLE_NAME).map(|(_, v)| text(v));
        Ok(family(m.payload).zip(name))
    })?;
    let mut tables: BTreeMap<_, Table> = names.into_iter().map(|key| (key, Table::default())).collect();
    if tables.is_empty() {
        return Ok(tables);
    }
    let chains = socket
        .dump(all(NFT_MSG_GETCHAIN), |m| Ok(family(m.payload).map(|family| (family, chain(m.payload)))))?;
    for (family, (table, name, base)) in chains {
        let Some(table) = tables.get_mut(&(family, table)) else { continue };
        match name.strip_prefix(DIGEST_PREFIX) {
            Some(digest) => table.digest = Some(digest.to_owned()),
            None => {
                table.chains.insert(name);
            }
        }
        table.base_chains.extend(base);
    }
    drop(socket);
    forward::look(ns, &mut tables)?;
    Ok(tables)
}

/// The table and name of a chain, and what is known of its hook.
fn chain(payload: &[u8]) -> (String, String, Option<BaseChain>) {
    let (mut table, mut name, mut kind, mut policy, mut hook) =
        (String::new(), String::new(), String::new(), None, None);
    for (attr, value) in attrs(payload, 4) {
        match attr {
            NFTA_CHAIN_TABLE => table = text(value),
            NFTA_CHAIN_NAME => name = text(value),
            NFTA_CHAIN_TYPE => kind = text(value),
            NFTA_CHAIN_POLICY => policy = Some(be32(value)),
            NFTA_CHAIN_HOOK => {
                let find = |wanted| attrs(value, 0).find(|(a, _)| *a == wanted).map_or(0, |(_, v)| be32(v));
                hook = Some((find(NFTA_HOOK_HOOKNUM), find(NFTA_HOOK_PRIORITY) as i32));
            }
            _ => {}
        }
    }
    let base = hook.map(|(hook, priority)| BaseChain {
        name: name.clone(),
        kind,
        hook,
        priority,
        drops: policy == Some(NF_DROP),
        marks: BTreeMap::new(),
    });
    (table, name, base)
}

/// A set or map whose elements can be told.
struct Set {
    name: String,
    key: Vec<Kind>,
    data: Data,
}

enum Data {
    None,
    Parts(Vec<Kind>),
    Verdict,
}

/// The elements of a table's sets and maps, or of those named. Interval sets, anonymous ones, and those with fields of types that we
/// have no value for, are left out: nothing of ours changes in them.
pub(in super::super) fn elements(
    ns: &Namespace,
    family: Family,
    table: &str,
    only: Option<&BTreeSet<&str>>,
) -> Result<BTreeMap<String, BTreeSet<Element>>, Cause> {
    let mut socket = ns.netfilter();
    let mut ask = Message::new(NFT_MSG_GETSET, 0, &nfgen(family.number(), 0));
    ask.text(NFTA_SET_TABLE, table);
    let sets = match socket.dump(ask, |m| Ok(set(m.payload))) {
        Err(cause) if cause.errno() == Some(libc::ENOENT) => Vec::new(),
        sets => sets?,
    };
    let mut found = BTreeMap::new();
    for set in sets.into_iter().filter(|set| only.is_none_or(|only| only.contains(set.name.as_str()))) {
        let mut ask = Message::new(NFT_MSG_GETSETELEM, 0, &nfgen(family.number(), 0));
        ask.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, &set.name);
        let lists = socket.dump(ask, |m| {
            let list = attrs(m.payload, 4).find(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
            let read = |(_, value)| {
                element(&set, value).ok_or_else(|| Cause::Garbled(format!("an element of {}", set.name)))
            };
            list.map(|(_, list)| attrs(list, 0).map(read).collect::<Result<Vec<_>, _>>()).transpose()
        })?;
        found.insert(set.name, lists.into_iter().flatten().collect());
    }
    Ok(found)
}

/// Reads whatever may be a chain, a set, or the elements of one.
#[cfg(any(test, fuzzing))]
pub(in super::super) fn read_any(payload: &[u8]) {
    let _ = chain(payload);
    let Some(set) = set(payload) else { return };
    for (_, list) in attrs(payload, 4) {
        for (_, value) in attrs(list, 0) {
            let _ = element(&set, value);
        }
    }
}

fn set(payload: &[u8]) -> Option<Set> {
    let (mut name, mut flags) = (String::new(), 0);
    let (mut key, mut key_len, mut data, mut data_len) = (0, 0, 0, 0);
    for (kind, value) in attrs(payload, 4) {
        match kind {
            NFTA_SET_NAME => name = text(value),
            NFTA_SET_FLAGS => flags = be32(value),
            NFTA_SET_KEY_TYPE => key = be32(value),
            NFTA_SET_KEY_LEN => key_len = be32(value),
            NFTA_SET_DATA_TYPE => data = be32(value),
            NFTA_SET_DATA_LEN => data_len = be32(value),
            _ => {}
        }
    }
    if flags & (NFT_SET_ANONYMOUS | NFT_SET_INTERVAL) != 0 {
        return None;
    }
    let data = match data {
        0 => Data::None,
        NFT_DATA_VERDICT => Data::Verdict,
        kinds => Data::Parts(encode::kinds(kinds, data_len)?),
    };
    Some(Set { name, key: encode::kinds(key, key_len)?, data })
}

fn element(set: &Set, attr: &[u8]) -> Option<Element> {
    let find = |wanted| attrs(attr, 0).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = match &set.data {
        Data::None => None,
        Data::Parts(kinds) => Some(Value::Data(encode::data(kinds, find(NFTA_SET_ELEM_DATA)?)?)),
        Data::Verdict => Some(Value::Verdict(encode::verdict(find(NFTA_SET_ELEM_DATA)?)?)),
    };
    Some(Element { key: encode::data(&set.key, find(NFTA_SET_ELEM_KEY)?)?, value })
}
