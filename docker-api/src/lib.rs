//! Docker's Engine API as data: the JSON that clients send and read, and its translation to and from the typed model. Pure: no
//! I/O, no clock, no async.
//!
//! * What clients send is read by [`json`], [`query`], [`filters`] and [`auth`]; [`version`] says which versions of the API there are.
//! * [`container`] (with [`container_config`], [`container_create`], [`container_update`], [`container_inspect`], [`stats`] and
//!   [`archive`]), [`image`], [`push`], [`volume`], [`swarm`], [`node`], [`service`] (with [`service_spec`] and its parts), [`task`],
//!   [`network`] (with [`connect`]), [`file`] (secrets and configs), [`system`], [`disk_usage`], [`event`] and [`distribution`] hold the objects. Each
//!   is translated into JSON by `From` or a function that takes what else the JSON names, and out of it by `TryFrom`, which refuses what rn does
//!   not have, by name: nothing is taken and then left out.
//! * [`error`] says with which status and words a refusal goes out; [`frames`] is how two outputs share one stream.
//!
//! The types are our own. Generated ones (`bollard-stubs`) spell some fields as Docker's description does and not as Docker's
//! clients do (`HealthCheck`), and make no difference between absent, null and empty where clients do.

pub mod archive;
pub mod attached_network;
pub mod auth;
pub mod bind;
pub mod connect;
pub mod container;
pub mod container_config;
pub mod container_create;
mod container_fields;
pub mod container_inspect;
pub mod container_spec;
pub mod container_update;
pub mod detach_keys;
pub mod disk_usage;
pub mod distribution;
pub mod endpoint;
pub mod error;
pub mod event;
pub mod file;
pub mod file_reference;
pub mod filters;
pub mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod image;
pub mod json;
pub mod log_line;
pub mod mount;
pub mod network;
pub mod node;
pub mod policy;
pub mod push;
pub mod query;
pub mod resources;
pub mod rn;
pub mod service;
pub mod service_spec;
pub mod stats;
pub mod swarm;
pub mod system;
pub mod task;
pub mod time;
pub mod top;
pub mod version;
pub mod volume;
