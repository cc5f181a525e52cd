//! Generated code, nothing else.
#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::expect_used)]

tonic::include_proto!("rn.v1");

/// The descriptor set of every `.proto` file: lets a test enumerate the RPCs.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
