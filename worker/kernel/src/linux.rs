//! Linux itself.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Kernel, KernelError, Observed, Scope, Step, conntrack,
    error::Cause,
    forwarding, link,
    netlink::{socket::Socket, wire::Message},
    netns,
    nft::{self, Template},
    observe, routing,
    ruleset::{Family, Ruleset},
    step::Ns,
    sysctl,
};

/// How many templates are kept; there is one for sandboxes and one for each table of the host, until their text changes.
const TEMPLATES: usize = 64;

/// Executes steps by netlink, on sockets born in the namespaces that they speak to. Those are opened when first used and kept
/// until the namespace is deleted.
#[derive(Debug, Default)]
pub struct LinuxKernel {
    open: Mutex<HashMap<Ns, Arc<Namespace>>>,
    /// Tables that were laid down once, ready to be laid down again: the same one goes into every sandbox.
    templates: Mutex<HashMap<(Family, String, String), Arc<Template>>>,
}

/// A namespace that is held open.
#[derive(Debug)]
pub(super) struct Namespace {
    identity: Option<(u64, u64)>,
    /// None for the daemon's own.
    pub(super) file: Option<File>,
    route: Mutex<Socket>,
    netfilter: Mutex<Socket>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard is in order after every call, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Namespace {
    fn open(ns: &Ns) -> Result<Self, Cause> {
        let sockets = || -> io::Result<_> {
            Ok((Socket::open(libc::NETLINK_ROUTE)?, Socket::open(libc::NETLINK_NETFILTER)?))
        };
        let (identity, file) = match ns {
            Ns::Host => (None, None),
            Ns::Path(path) => {
                let absent = |e: io::Error| match e.kind() {
                    io::ErrorKind::NotFound => Cause::NoNamespace(path.clone()),
                    _ => Cause::System { what: "open the namespace", error: e },
                };
                (Some(netns::identity(path).map_err(absent)?), Some(netns::open(path).map_err(absent)?))
            }
        };
        let (route, netfilter) = match &file {
            None => sockets(),
            Some(file) => netns::in_file(file, sockets).and_then(|made| made),
        }
        .map_err(Cause::system("open netlink sockets"))?;
        Ok(Self { identity, file, route: Mutex::new(route), netfilter: Mutex::new(netfilter) })
    }

    /// For links, addresses, routes, rules and neighbours.
    pub(super) fn route(&self) -> MutexGuard<'_, Socket> {
        lock(&self.route)
    }

    /// Sends one request about links, addresses, routes, rules or neighbours.
    pub(super) fn request(&self, message: Message) -> Result<(), Cause> {
        self.route().request(message)
    }

    /// For nftables and connection tracking.
    pub(super) fn netfilter(&self) -> MutexGuard<'_, Socket> {
        lock(&self.netfilter)
    }

    /// Runs something on a thread in this namespace.
    pub(super) fn run<T: Send>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, Cause> {
        match &self.file {
            None => Ok(work()),
            Some(file) => netns::in_file(file, work).map_err(Cause::system(what)),
        }
    }
}

impl LinuxKernel {
    /// A kernel whose [`Ns::Host`] is the calling thread's namespace.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sockets of a namespace, opened unless they are.
    pub(super) fn namespace(&self, ns: &Ns) -> Result<Arc<Namespace>, Cause> {
        let identity = ns.path().and_then(|path| netns::identity(path).ok());
        if let Some(found) = lock(&self.open).get(ns).filter(|found| found.identity == identity) {
            return Ok(Arc::clone(found));
        }
        // Either new, or another namespace took the file's place, or it is gone: then its sockets must not keep it alive.
        let opened = Namespace::open(ns).map(Arc::new).inspect_err(|_| self.forget(ns))?;
        lock(&self.open).insert(ns.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    fn forget(&self, ns: &Ns) {
        lock(&self.open).remove(ns);
    }

    fn delete_netns(&self, path: &Path) -> Result<(), Cause> {
        let ns = Ns::Path(path.to_owned());
        if let Ok(open) = self.namespace(&ns) {
            // Best effort: what stays goes with the namespace, only later.
            let _ = link::delete_ours(&open);
        }
        self.forget(&ns);
        netns::delete(path)
    }

    fn create_netns(&self, path: &Path) -> Result<(), Cause> {
        if !netns::exists(path) {
            netns::create(path)?;
        }
        link::set_up(&*self.namespace(&Ns::Path(path.to_owned()))?, "lo", true)
    }

    pub(super) fn template(&self, ruleset: &Ruleset) -> Option<Arc<Template>> {
        lock(&self.templates).get(&(ruleset.family, ruleset.table.clone(), ruleset.digest())).cloned()
    }

    fn apply_ruleset(&self, ns: &Namespace, ruleset: &Ruleset) -> Result<(), Cause> {
        if let Some(template) = self.template(ruleset) {
            match template.lay(ns, ruleset) {
                Ok(()) => return Ok(()),
                Err(cause) => {
                    tracing::warn!(table = ruleset.table, %cause, "a table is laid down anew by nft")
                }
            }
        }
        nft::run(ns, &ruleset.script())?;
        if let Some(template) = Template::of(ns, ruleset)? {
            let mut templates = lock(&self.templates);
            if templates.len() >= TEMPLATES {
                templates.clear();
            }
            templates.insert((ruleset.family, ruleset.table.clone(), ruleset.digest()), Arc::new(template));
        }
        Ok(())
    }

    fn apply(&self, step: &Step) -> Result<(), Cause> {
        let at = |ns: &Ns| self.namespace(ns);
        match step {
            Step::CreateNetns { path } => self.create_netns(path),
            Step::DeleteNetns { path } => self.delete_netns(path),
            Step::CreateVeth { a, b, mtu } => link::create_veth(&*at(&a.ns)?, a, &*at(&b.ns)?, b, *mtu),
            Step::CreateBridge { ns, name, mac, mtu, alias } => {
                link::create_bridge(&*at(ns)?, name, *mac, *mtu, alias.as_deref())
            }
            Step::CreateVxlan { ns, name, vxlan, mac, mtu, alias } => {
                link::create_vxlan(&*at(&Ns::Host)?, &*at(ns)?, name, vxlan, *mac, *mtu, alias.as_deref())
            }
            Step::DeleteLink { ns, link } => link::delete(&*at(ns)?, link),
            Step::SetMaster { ns, link, master } => link::set_master(&*at(ns)?, link, master.as_deref()),
            Step::SetUp { ns, link, up } => link::set_up(&*at(ns)?, link, *up),
            Step::SetMtu { ns, link, mtu } => link::set_mtu(&*at(ns)?, link, *mtu),
            Step::SetMac { ns, link, mac } => link::set_mac(&*at(ns)?, link, *mac),
            Step::SetAlias { ns, link, alias } => link::set_alias(&*at(ns)?, link, alias),
            Step::SetPort { ns, link, flags } => link::set_port(&*at(ns)?, link, *flags),
            Step::AddAddr { ns, link, addr } => routing::add_addr(&*at(ns)?, link, *addr),
            Step::DelAddr { ns, link, addr } => routing::del_addr(&*at(ns)?, link, *addr),
            Step::AddRoute { ns, route } => routing::add_route(&*at(ns)?, route),
            Step::DelRoute { ns, route } => routing::del_route(&*at(ns)?, route),
            Step::AddRule { ns, rule } => routing::add_rule(&*at(ns)?, rule),
            Step::DelRule { ns, rule } => routing::del_rule(&*at(ns)?, rule),
            Step::ReplaceFdb { ns, link, entry } => forwarding::replace_fdb(&*at(ns)?, link, *entry),
            Step::DelFdb { ns, link, entry } => forwarding::del_fdb(&*at(ns)?, link, *entry),
            Step::ReplaceNeigh { ns, link, neigh } => forwarding::replace_neigh(&*at(ns)?, link, *neigh),
            Step::DelNeigh { ns, link, addr } => forwarding::del_neigh(&*at(ns)?, link, *addr),
            Step::SetSysctl { ns, key, value } => sysctl::set(&*at(ns)?, &[(key, value)]),
            Step::ApplyRuleset { ns, ruleset } => self.apply_ruleset(&*at(ns)?, ruleset),
            Step::RunNft { ns, script } => nft::run(&*at(ns)?, script),
            Step::OpenChain { ns, family, table, chain, links, mark } => {
                nft::forward::open(&*at(ns)?, (*family, table, chain), links, mark)
            }
            Step::CloseChain { ns, family, table, chain, mark } => {
                nft::forward::close(&*at(ns)?, (*family, table, chain), mark)
            }
            Step::DeleteTable { ns, family, table } => nft::delete_table(&*at(ns)?, *family, table),
            Step::UpdateElements { ns, family, table, changes } => {
                nft::update_elements(&*at(ns)?, *family, table, changes)
            }
            Step::FlushConntrack { ns, filter } => conntrack::flush(&*at(ns)?, filter),
        }
    }
}

impl Kernel for LinuxKernel {
    fn observe(&self, scope: &Scope) -> Result<Observed, KernelError> {
        observe::observe(self, scope)
    }

    fn execute(&self, step: &Step) -> Result<(), KernelError> {
        let done = self.apply(step);
        match &done {
            Ok(()) => tracing::debug!(%step, "done"),
            Err(cause) => tracing::debug!(%step, %cause, "failed"),
        }
        // A link, table or entry that is to go goes with its namespace.
        match done {
            Err(Cause::NoNamespace(_)) if step.removes() => Ok(()),
            done => done.map_err(|cause| cause.of(step)),
        }
    }
}
