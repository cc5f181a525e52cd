//! The kinds of objects that raft replicates, as a list: store, snapshot, disk, index, events and look-up are written over it.
//!
//! * [`Kind`] is what they go by; [`kinds!`] writes it from one row for each kind.
//! * [`Derived`] is what a kind says for itself: the name that no other may have, what the index keeps of it, what users hear.
//! * [`Rows`] is where a kind's objects lie in the [`State`].

use std::{fmt, sync::Arc};

use prost::Message;
use proto::{
    convert::Malformed,
    model::{
        Cluster, ClusterId, Config, ConfigId, Meta, Network, NetworkId, Node, NodeId, Secret, SecretId,
        Service, ServiceId, Task, TaskId,
    },
    pb,
};

use super::{
    change::{Change, Edit},
    index::Index,
    state::{State, Table},
};
use crate::events::{self, ClusterEvent};

/// What follows from an object of a kind. By default nothing.
pub trait Derived: Sized {
    /// The name that no other object of the kind may have.
    fn unique_name(&self) -> Option<&str> {
        None
    }

    /// Keeps the index true to an edit.
    fn index(_index: &mut Index, _edit: &Edit<Self>) {}

    /// What an edit is to users; none if it is our own bookkeeping.
    fn event(_edit: &Edit<Self>) -> Option<ClusterEvent> {
        None
    }
}

/// A kind of replicated object.
pub trait Kind: Derived + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Its word: in messages to users, and as the family of its rows on disk.
    const NAME: &'static str;
    /// What tells its objects apart.
    type Id: Ord + Clone + fmt::Display;
    /// Its objects as bytes.
    type Message: Message + Default + From<Self> + TryInto<Self, Error = Malformed>;
    /// Where its objects lie in the state.
    type Rows: Rows<Self>;

    /// The object's id.
    fn id(&self) -> &Self::Id;
    /// The same as text.
    fn id_str(&self) -> &str;
    /// Its bookkeeping.
    fn meta(&self) -> &Meta;
    /// The same, to be changed.
    fn meta_mut(&mut self) -> &mut Meta;
    /// An edit of an object of this kind, as one of any kind.
    fn change(edit: Edit<Self>) -> Change;
    /// The objects of this kind.
    fn rows(state: &State) -> &Self::Rows;
    /// The same, to be changed by [`State::set`] alone.
    fn rows_mut(state: &mut State) -> &mut Self::Rows;
}

/// The objects of one kind: a [`Table`], or the one place of what there is one of.
pub trait Rows<K: Kind> {
    /// The key of an object's row on disk.
    fn key(object: &K) -> &str;
    /// What has the place of `object`.
    fn in_place_of(&self, object: &K) -> Option<&Arc<K>>;
    /// All objects in key order.
    fn all(&self) -> impl Iterator<Item = &Arc<K>>;
    /// Puts one edit in place.
    fn edit(&mut self, edit: &Edit<K>);
}

impl<K: Kind> Rows<K> for Table<K> {
    fn key(object: &K) -> &str {
        object.id_str()
    }

    fn in_place_of(&self, object: &K) -> Option<&Arc<K>> {
        self.get(object.id())
    }

    fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.values()
    }

    fn edit(&mut self, edit: &Edit<K>) {
        self.set(edit);
    }
}

impl<K: Kind> Rows<K> for Option<Arc<K>> {
    fn key(_: &K) -> &str {
        "default"
    }

    fn in_place_of(&self, _: &K) -> Option<&Arc<K>> {
        self.as_ref()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.iter()
    }

    fn edit(&mut self, edit: &Edit<K>) {
        self.clone_from(&edit.new);
    }
}

/// The row on disk of a changed object.
pub(super) struct Row {
    pub family: &'static str,
    pub key: String,
    /// None: it goes.
    pub value: Option<Vec<u8>>,
}

impl Row {
    fn of<K: Kind>(edit: &Edit<K>) -> Option<Self> {
        let key = K::Rows::key(edit.either()?).to_owned();
        let value = edit.new.as_deref().map(|new| K::Message::from(new.clone()).encode_to_vec());
        Some(Self { family: K::NAME, key, value })
    }
}

/// A kind as a value, for what goes through all of them.
pub(super) struct KindOf {
    /// [`Kind::NAME`].
    pub name: &'static str,
    /// Puts the object with these bytes into the state, unchecked.
    pub load: fn(&mut State, &[u8]) -> Result<(), String>,
    /// Adds what leads from one state to the other.
    pub diff: fn(&State, &State, &mut Vec<Change>),
}

impl KindOf {
    const fn of<K: Kind>() -> Self {
        Self { name: K::NAME, load: load::<K>, diff: diff::<K> }
    }
}

fn load<K: Kind>(state: &mut State, bytes: &[u8]) -> Result<(), String> {
    let message = K::Message::decode(bytes).map_err(|e| e.to_string())?;
    let object: K = message.try_into().map_err(|e| e.to_string())?;
    state.put(object);
    Ok(())
}

/// Objects are compared by pointer first, so the cost is a walk, not a comparison.
fn diff<K: Kind>(from: &State, to: &State, out: &mut Vec<Change>) {
    let (old, new) = (K::rows(from), K::rows(to));
    let gone = old.all().filter(|object| new.in_place_of(object).is_none());
    out.extend(gone.map(|object| K::change(Edit { old: Some(object.clone()), new: None })));
    for object in new.all() {
        let before = old.in_place_of(object);
        if before.is_none_or(|b| !Arc::ptr_eq(b, object) && b != object) {
            out.push(K::change(Edit { old: before.cloned(), new: Some(object.clone()) }));
        }
    }
}

/// Writes from the list: [`Kind`] for each, [`Change`]'s variants, the message of a snapshot, and [`KINDS`].
macro_rules! kinds {
    ($(
        $(#[$doc:meta])*
        $kind:ident { name: $name:literal, id: $id:ty, rows: $rows:ident as $in:ty, snapshot: $tag:tt }
    )*) => {
        $(impl Kind for $kind {
            const NAME: &'static str = $name;
            type Id = $id;
            type Message = pb::$kind;
            type Rows = $in;

            fn id(&self) -> &$id {
                &self.id
            }

            fn id_str(&self) -> &str {
                self.id.as_str()
            }

            fn meta(&self) -> &Meta {
                &self.meta
            }

            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }

            fn change(edit: Edit<Self>) -> Change {
                Change::$kind(edit)
            }

            fn rows(state: &State) -> &$in {
                &state.$rows
            }

            fn rows_mut(state: &mut State) -> &mut $in {
                &mut state.$rows
            }
        })*

        /// In the order of the list.
        pub(super) const KINDS: &[KindOf] = &[$(KindOf::of::<$kind>()),*];

        pub(super) mod list {
            use super::*;

            /// One changed object.
            #[derive(Debug, Clone, PartialEq)]
            pub enum Change {
                $($(#[$doc])* $kind(Edit<$kind>),)*
            }

            impl Change {
                /// Puts the edit in place: table and index together.
                pub(in crate::store) fn put_into(&self, state: &mut State) {
                    match self {
                        $(Change::$kind(edit) => state.set_edit(edit),)*
                    }
                }

                /// What is to be written.
                pub(in crate::store) fn row(&self) -> Option<Row> {
                    match self {
                        $(Change::$kind(edit) => Row::of(edit),)*
                    }
                }

                /// What it is to users; none if it is our own bookkeeping.
                pub fn event(&self) -> Option<ClusterEvent> {
                    match self {
                        $(Change::$kind(edit) => $kind::event(edit),)*
                    }
                }
            }

            /// The whole state. Append-only, as everything that is replicated.
            #[derive(Clone, PartialEq, Message)]
            pub(in crate::store) struct StateMessage {
                $(#[prost(message, repeated, tag = $tag)]
                $rows: Vec<pb::$kind>,)*
            }

            impl StateMessage {
                pub(in crate::store) fn of(state: &State) -> Self {
                    Self { $($rows: state.$rows.all().map(|o| pb::$kind::from((**o).clone())).collect()),* }
                }

                /// Puts all of it into the state, unchecked.
                pub(in crate::store) fn put_into(self, state: &mut State) -> Result<(), Malformed> {
                    $(for message in self.$rows {
                        state.put($kind::try_from(message)?);
                    })*
                    Ok(())
                }
            }
        }
    };
}

// `snapshot` is the field's number there, and never changes. Objects are loaded in the order of the list: networks before what has
// addresses on them, since whose addresses on the ingress network are whose depends on which network that is.
kinds! {
    /// The cluster.
    Cluster { name: "cluster", id: ClusterId, rows: cluster as Option<Arc<Cluster>>, snapshot: "1" }
    /// A network.
    Network { name: "network", id: NetworkId, rows: networks as Table<Network>, snapshot: "3" }
    /// A node.
    Node { name: "node", id: NodeId, rows: nodes as Table<Node>, snapshot: "2" }
    /// A service.
    Service { name: "service", id: ServiceId, rows: services as Table<Service>, snapshot: "4" }
    /// A secret.
    Secret { name: "secret", id: SecretId, rows: secrets as Table<Secret>, snapshot: "6" }
    /// A config.
    Config { name: "config", id: ConfigId, rows: configs as Table<Config>, snapshot: "7" }
    /// A task.
    Task { name: "task", id: TaskId, rows: tasks as Table<Task>, snapshot: "5" }
}

impl Derived for Cluster {}

impl Derived for Network {
    fn unique_name(&self) -> Option<&str> {
        Some(&self.spec.name)
    }

    fn index(index: &mut Index, edit: &Edit<Self>) {
        index.network(edit);
    }

    fn event(edit: &Edit<Self>) -> Option<ClusterEvent> {
        events::network(edit)
    }
}

impl Derived for Node {
    fn index(index: &mut Index, edit: &Edit<Self>) {
        index.node(edit);
    }

    fn event(edit: &Edit<Self>) -> Option<ClusterEvent> {
        events::node(edit)
    }
}

impl Derived for Service {
    fn unique_name(&self) -> Option<&str> {
        Some(&self.spec.name)
    }

    fn index(index: &mut Index, edit: &Edit<Self>) {
        index.service(edit);
    }

    fn event(edit: &Edit<Self>) -> Option<ClusterEvent> {
        events::service(edit)
    }
}

impl Derived for Task {
    fn index(index: &mut Index, edit: &Edit<Self>) {
        index.task(edit);
    }
}

impl Derived for Secret {
    fn unique_name(&self) -> Option<&str> {
        Some(&self.spec.name)
    }

    fn event(edit: &Edit<Self>) -> Option<ClusterEvent> {
        events::file(edit, &edit.either()?.spec)
    }
}

impl Derived for Config {
    fn unique_name(&self) -> Option<&str> {
        Some(&self.spec.name)
    }

    fn event(edit: &Edit<Self>) -> Option<ClusterEvent> {
        events::file(edit, &edit.either()?.spec)
    }
}
