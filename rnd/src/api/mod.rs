//! What users may ask of this daemon.

pub mod http;
