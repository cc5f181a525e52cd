//! The rn daemon: composes a worker and, when promoted, a manager.

fn main() {}
