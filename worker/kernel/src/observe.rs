//! Looking: one dump of each kind per namespace.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    KernelError,
    error::Cause,
    forwarding,
    link::{self, ifinfo},
    linux::{LinuxKernel, Namespace},
    netlink::{abi::*, wire::Message},
    netns, nft,
    observed::{Link, LinkKind, NsObserved, Observed, Scope, Wanted},
    routing,
    step::{FdbEntry, IpFamily, Ns},
    sysctl,
};

pub(super) fn observe(kernel: &LinuxKernel, scope: &Scope) -> Result<Observed, KernelError> {
    let mut seen = Observed::default();
    if let Some(dir) = &scope.netns_dir {
        (seen.netns, seen.stale) = files(dir)
            .map_err(Cause::system("list the namespaces"))
            .map_err(|cause| cause.of(format_args!("ls {}", dir.display())))?;
    }
    let listed = seen.netns.iter().filter(|_| scope.descend).cloned().map(Ns::Path);
    let mut wanted: BTreeMap<Ns, Wanted> = listed.map(|ns| (ns, Wanted::default())).collect();
    wanted.extend(scope.namespaces.clone());
    for (ns, wanted) in wanted {
        match kernel.namespace(&ns).and_then(|open| namespace(&open, &ns, &wanted)) {
            Ok(found) => {
                seen.namespaces.insert(ns, found);
            }
            Err(Cause::NoNamespace(_)) => {}
            Err(cause) => return Err(cause.of(format_args!("observe namespace {ns}"))),
        }
    }
    Ok(seen)
}

/// Files of a directory that a namespace is bound to, and the others.
fn files(dir: &Path) -> io::Result<(BTreeSet<PathBuf>, BTreeSet<PathBuf>)> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        entries => entries?,
    };
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.is_file()).partition(|path| netns::exists(path)))
}

fn namespace(open: &Namespace, ns: &Ns, wanted: &Wanted) -> Result<NsObserved, Cause> {
    let mut tables = nft::tables(open)?;
    for (family, name) in &wanted.elements {
        if let Some(table) = tables.get_mut(&(*family, name.clone())) {
            table.elements = Some(nft::elements(open, *family, name, None)?);
        }
    }
    let sysctls = sysctl::get(open, wanted.sysctls.iter())?;

    let mut socket = open.route();
    let mut all = Message::new(RTM_GETLINK, 0, &ifinfo(0, 0, 0));
    all.u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    let seen = socket.dump(all, |m| Ok((m.kind == RTM_NEWLINK).then(|| link::read(m))))?;
    let names: HashMap<u32, String> = seen.iter().map(|l| (l.index, l.name.clone())).collect();
    let name = |index: u32| names.get(&index).cloned();
    let vxlans: Vec<u32> =
        seen.iter().filter(|l| matches!(l.kind, LinkKind::Vxlan(_))).map(|l| l.index).collect();
    let mut links: BTreeMap<u32, (String, Link)> = seen
        .into_iter()
        .map(|l| {
            let mut kind = l.kind;
            if let LinkKind::Vxlan(vxlan) = &mut kind {
                vxlan.dev = name(l.underlay).filter(|_| *ns == Ns::Host && !l.elsewhere);
            }
            let link = Link {
                index: l.index,
                kind,
                mtu: l.mtu,
                mac: l.mac,
                master: name(l.master),
                port: l.port,
                up: l.up,
                alias: l.alias,
                addrs: BTreeSet::new(),
                fdb: BTreeSet::new(),
                neigh: BTreeMap::new(),
            };
            (l.index, (l.name, link))
        })
        .collect();

    for (index, addr) in socket.dump(Message::new(RTM_GETADDR, 0, &[0; 8]), |m| Ok(routing::read_addr(m)))? {
        if let Some((_, link)) = links.get_mut(&index) {
            link.addrs.insert(addr);
        }
    }
    for (index, addr, mac) in socket.dump(forwarding::all_neighbours(), |m| Ok(forwarding::read(m)))? {
        if let Some((_, link)) = links.get_mut(&index) {
            link.neigh.insert(addr, mac);
        }
    }
    for vxlan in vxlans {
        for (index, dst, mac) in socket.dump(forwarding::fdb_of(vxlan), |m| Ok(forwarding::read(m)))? {
            if let Some((_, link)) = links.get_mut(&index) {
                link.fdb.insert(FdbEntry { mac, dst });
            }
        }
    }
    let (mut routes, mut rules) = (BTreeSet::new(), BTreeSet::new());
    for family in [IpFamily::V4, IpFamily::V6] {
        routes
            .extend(or_none(socket.dump(routing::our_routes(family), |m| Ok(routing::read_route(m, name))))?);
        rules.extend(or_none(socket.dump(routing::all_rules(family), |m| Ok(routing::read_rule(m))))?);
    }
    Ok(NsObserved { links: links.into_values().collect(), routes, rules, tables, sysctls })
}

/// A table that nothing was ever put in does not exist, nor does a family that the kernel was built without.
fn or_none<T>(dumped: Result<Vec<T>, Cause>) -> Result<Vec<T>, Cause> {
    match dumped {
        Err(cause) if matches!(cause.errno(), Some(libc::ENOENT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
            Ok(Vec::new())
        }
        other => other,
    }
}
