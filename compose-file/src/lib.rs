//! Compose files as `docker stack deploy` reads them: versions 3.0 to 3.13, and files that name none. Pure: what a file refers to
//! (`env_file`) is read by a function that the caller gives.
//!
//! One file goes through these steps, several go through them one by one and are merged then:
//!
//! 1. [`yaml`]: text into a tree, within bounds. Refused: options that stacks cannot have ([`options`]).
//! 2. [`interpolate`]: `$VARIABLE` and its relatives.
//! 3. [`schema`] (with its [`tables`]): of which type everything has to be, and since which version it is known.
//! 4. [`document`] (with [`shorthand`]): the typed sections, all of them in their long form.
//! 5. [`merge`]; [`load`] leads through all of this.
//!
//! [`translate`] makes bodies for the Engine API of it, [`emit`] prints it as `docker stack config` does.

pub mod document;
pub mod emit;
pub mod env_file;
mod error;
pub mod interpolate;
pub mod load;
mod merge;
pub mod options;
mod port;
mod schema;
mod shorthand;
mod tables;
pub mod translate;
mod volume;
pub mod yaml;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

pub use error::{Cause, Error};
pub use load::{Loaded, Settings, load};
