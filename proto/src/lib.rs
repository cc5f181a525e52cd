//! Wire protocol and shared model of rn; no I/O.
//!
//! * [`pb`]: what tonic and prost generate from `rn/v1/*.proto`, nothing else.
//! * [`model`]: the typed form of the same objects: typed ids, `IpAddr`, ordered states.
//! * [`convert`]: `pb` <-> `model`; the only code that parses wire strings.
//! * [`parse`]: what users type, into values: durations, sizes, signals, names of images.
//! * [`rules`]: what a container may be, for services and for containers by hand alike.
//! * [`template`]: `{{.Node.Hostname}}` and the like in specs.
//! * [`error`]: [`error::ApiError`], the one error that a user sees.
//! * [`exit_code`]: of containers that did not start.

pub mod convert;
pub mod error;
pub mod exit_code;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;
pub mod parse;
pub mod pb;
pub mod rules;
pub mod template;
