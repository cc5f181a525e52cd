//! Black-box tests of rn: real `rnd` processes on namespace hosts, driven by `rnctl`, judged by packets.
//!
//! * [`lan`]: an Ethernet segment and the hosts on it, each a network namespace with one interface.
//! * [`host`]: one host with its daemon: start, stop, kill, `rnctl`.
//! * [`docker`]: Debian's `docker` client.
//! * [`http`]: requests to the daemon's socket, byte by byte.
//! * [`cgroup`]: hosts that are short of processor time. [`reigns`]: who led when, by the daemons' own word.
//! * [`cluster`]: several hosts that have met.
//! * [`image`]: the images that tasks run, made from Debian packages and this build's own test server.
//! * [`probe`]: connections and queries from inside a namespace, without a fork for each.
//! * [`pty`]: a terminal for a program.
//! * [`registry`]: Debian's docker-registry in a namespace, and what it takes to push to it.
//! * [`storm`]: many clients at once, every request accounted for.
//! * [`updates`]: a service that is replaced under a [`storm`].
//! * [`intruder`]: one who speaks to managers as nodes do, with whatever certificate and headers; [`flood`]: many strangers at once.
//! * [`wait`]: waiting for a condition, with the last reason it did not hold.
//! * [`interrupt`]: an interrupt as an error, so that everything is torn down.
//! * [`bench`]: what the benchmark programs (`benches/`) share.
//! * [`inventory`]: what a machine holds (links, mounts, cgroups, …), to prove that nothing is left behind.
//!
//! Nothing here reads rn's own structures: only what a user or a peer could see.

pub mod bench;
pub mod cgroup;
pub mod cluster;
pub mod docker;
pub mod flood;
pub mod host;
pub mod http;
pub mod http_load;
pub mod image;
pub mod interrupt;
pub mod intruder;
pub mod inventory;
pub mod lan;
pub mod leaderships;
pub mod probe;
pub mod pty;
pub mod registry;
pub mod updates;
pub mod wait;

pub use cluster::Cluster;
pub use host::Host;
pub use lan::{Lan, Namespace};
