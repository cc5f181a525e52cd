//! One small process per container: runs it and keeps its status and output while the daemon is away.

fn main() {}
