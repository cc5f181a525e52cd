//! The command line of rn.

fn main() {}
