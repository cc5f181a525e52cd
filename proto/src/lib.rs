//! Wire protocol and shared model of rn; no I/O.
//!
//! * [`pb`]: what tonic and prost generate from `rn/v1/*.proto`, nothing else.
//! * [`model`]: the typed form of the same objects: typed ids, `IpAddr`, ordered states.
//! * [`convert`]: `pb` <-> `model`; the only code that parses wire strings.
//! * [`template`]: `{{.Node.Hostname}}` and the like in specs.
//! * [`error`]: [`error::ApiError`], the one error that a user sees.

pub mod convert;
pub mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod model;
pub mod pb;
pub mod template;
