//! Black-box tests and benchmarks: real daemons on namespace hosts.
