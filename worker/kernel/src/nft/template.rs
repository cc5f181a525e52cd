//! A table as the kernel tells it, ready to be told to the kernel again.
//!
//! What `nft` compiles a text to is read back as the very messages that make it: the attributes of a dumped chain, set or rule are
//! those that creating one takes. Only what the kernel assigns (handles, positions, counts) is left out.

use std::collections::BTreeSet;

use super::{
    super::{
        error::Cause,
        linux::Namespace,
        netlink::{
            abi::*,
            socket::{Socket, nfgen},
            wire::{Message, attrs, be32, text},
        },
        ruleset::{ElementChange, Ruleset},
    },
    messages,
};

/// The fixed part of a table.
#[derive(Debug)]
pub(in super::super) struct Template {
    chains: Vec<Message>,
    sets: Vec<Message>,
    /// Of the anonymous sets in rules.
    elements: Vec<Message>,
    rules: Vec<Message>,
}

fn find(payload: &[u8], wanted: u16) -> Option<&[u8]> {
    attrs(payload, 4).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A message that makes what another one tells of.
fn copy(kind: u16, flags: u16, payload: &[u8], keep: impl Fn(u16) -> bool) -> Message {
    let mut m = Message::new(kind, flags, &nfgen(payload.first().copied().unwrap_or(AF_UNSPEC), 0));
    for (kind, value) in attrs(payload, 4).filter(|(kind, _)| keep(*kind)) {
        m.bytes(kind, value);
    }
    m
}

/// A rule's expressions. They are taken as told, but for one that the kernel tells with an attribute which it then refuses: what
/// writes an option of a header has no flags (`nft_exthdr_dump_set` and `nft_exthdr_tcp_set_init` in the kernel).
fn expressions(rule: &mut Message, list: &[u8]) {
    rule.nest(NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, |rule| {
        for (_, expression) in attrs(list, 0) {
            let part = |wanted| attrs(expression, 0).find(|(kind, _)| *kind == wanted).map(|(_, v)| v);
            let data = part(NFTA_EXPR_DATA).unwrap_or_default();
            let writes = part(NFTA_EXPR_NAME).is_some_and(|name| text(name) == "exthdr")
                && attrs(data, 0).any(|(kind, _)| kind == NFTA_EXTHDR_SREG);
            if !writes {
                rule.bytes(NFTA_LIST_ELEM | NLA_F_NESTED, expression);
                continue;
            }
            rule.nest(NFTA_LIST_ELEM | NLA_F_NESTED, |rule| {
                rule.text(NFTA_EXPR_NAME, "exthdr").nest(NFTA_EXPR_DATA | NLA_F_NESTED, |rule| {
                    for (kind, value) in attrs(data, 0).filter(|(kind, _)| *kind != NFTA_EXTHDR_FLAGS) {
                        rule.bytes(kind, value);
                    }
                });
            });
        }
    });
}

impl Template {
    /// Reads a table that was just laid down; none if its text gives named sets elements, which cannot be told from those that
    /// have come since.
    pub(in super::super) fn of(ns: &Namespace, ruleset: &Ruleset) -> Result<Option<Self>, Cause> {
        if ruleset.body.contains("elements") {
            return Ok(None);
        }
        let mut socket = ns.netfilter();
        let table = ruleset.table.as_str();
        let family = ruleset.family.number();
        let ask = |kind, attr| {
            let mut m = Message::new(kind, 0, &nfgen(family, 0));
            m.text(attr, table);
            m
        };
        let ours = |payload: &[u8], attr| find(payload, attr).is_some_and(|name| text(name) == table);

        let chains = socket.dump(Message::new(NFT_MSG_GETCHAIN, 0, &nfgen(family, 0)), |m| {
            let keep = [
                NFTA_CHAIN_TABLE,
                NFTA_CHAIN_NAME,
                NFTA_CHAIN_HOOK,
                NFTA_CHAIN_POLICY,
                NFTA_CHAIN_TYPE,
                NFTA_CHAIN_USERDATA,
            ];
            let ours = ours(m.payload, NFTA_CHAIN_TABLE);
            Ok(ours.then(|| copy(NFT_MSG_NEWCHAIN, NLM_F_CREATE, m.payload, |kind| keep.contains(&kind))))
        })?;

        let mut anonymous = BTreeSet::new();
        let mut id = 0;
        let sets = socket.dump(ask(NFT_MSG_GETSET, NFTA_SET_TABLE), |m| {
            if !ours(m.payload, NFTA_SET_TABLE) {
                return Ok(None);
            }
            if find(m.payload, NFTA_SET_FLAGS).map_or(0, be32) & NFT_SET_ANONYMOUS != 0 {
                anonymous.extend(find(m.payload, NFTA_SET_NAME).map(text));
            }
            let keep = |kind| kind <= NFTA_SET_EXPRESSIONS && kind != NFTA_SET_HANDLE && kind != NFTA_SET_ID;
            let mut set = copy(NFT_MSG_NEWSET, NLM_F_CREATE, m.payload, keep);
            id += 1;
            set.be32(NFTA_SET_ID, id);
            Ok(Some(set))
        })?;

        let mut elements = Vec::new();
        for set in anonymous {
            elements.extend(elements_of(&mut socket, family, table, &set)?);
        }

        let rules = socket.dump(ask(NFT_MSG_GETRULE, NFTA_RULE_TABLE), |m| {
            let keep = [NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_USERDATA];
            let ours = ours(m.payload, NFTA_RULE_TABLE);
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            Ok(ours.then(|| {
                let mut rule = copy(NFT_MSG_NEWRULE, flags, m.payload, |kind| keep.contains(&kind));
                if let Some(list) = find(m.payload, NFTA_RULE_EXPRESSIONS) {
                    expressions(&mut rule, list);
                }
                rule
            }))
        })?;
        Ok(Some(Self { chains, sets, elements, rules }))
    }

    /// Puts the table in place of whatever has its name, with the elements that it is to start with, in one transaction.
    pub(in super::super) fn lay(&self, ns: &Namespace, ruleset: &Ruleset) -> Result<(), Cause> {
        let table = |kind, flags| {
            let mut m = Message::new(kind, flags, &nfgen(ruleset.family.number(), 0));
            m.text(NFTA_TABLE_NAME, &ruleset.table);
            m
        };
        let mut all = vec![
            table(NFT_MSG_NEWTABLE, NLM_F_CREATE),
            table(NFT_MSG_DELTABLE, 0),
            table(NFT_MSG_NEWTABLE, NLM_F_CREATE),
        ];
        // A set that a rule uses takes no elements any more, and a rule may jump to any chain.
        for part in [&self.chains, &self.sets, &self.elements, &self.rules] {
            all.extend(part.iter().cloned());
        }
        let start: Vec<ElementChange> = ruleset
            .elements
            .iter()
            .map(|(set, add)| ElementChange { set: set.clone(), del: Vec::new(), add: add.clone() })
            .collect();
        all.extend(messages(ruleset.family, &ruleset.table, &start)?);
        ns.netfilter().transaction(all)
    }
}

fn elements_of(socket: &mut Socket, family: u8, table: &str, set: &str) -> Result<Vec<Message>, Cause> {
    let mut ask = Message::new(NFT_MSG_GETSETELEM, 0, &nfgen(family, 0));
    ask.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
    let keep = [NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS];
    socket.dump(ask, |m| {
        let some = find(m.payload, NFTA_SET_ELEM_LIST_ELEMENTS).is_some();
        Ok(some.then(|| copy(NFT_MSG_NEWSETELEM, NLM_F_CREATE, m.payload, |kind| keep.contains(&kind))))
    })
}
