//! Docker's Engine API as data: the JSON that clients send and read, and its translation to and from the typed model. Pure: no
//! I/O, no clock, no async.
//!
//! * What clients send is read by [`json`], [`query`], [`filters`] and [`auth`]; [`version`] says which versions of the API there are.
//! * [`swarm`], [`node`], [`system`] and [`event`] hold the objects. Each is translated
//!   into JSON by `From` or a function that takes what else the JSON names, and out of it by `TryFrom`, which refuses what rn does
//!   not have, by name: nothing is taken and then left out.
//! * [`error`] says with which status and words a refusal goes out; [`frames`] is how two outputs share one stream.
//!
//! The types are our own. Generated ones (`bollard-stubs`) spell some fields as Docker's description does and not as Docker's
//! clients do (`HealthCheck`), and make no difference between absent, null and empty where clients do.

pub mod auth;
pub mod error;
pub mod event;
pub mod filters;
pub mod frames;
pub mod json;
pub mod node;
pub mod query;
pub mod swarm;
pub mod system;
pub mod time;
pub mod version;
