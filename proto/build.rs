//! Compiles the `.proto` files with protox, so that a builder needs no protoc binary.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["objects", "control", "dispatcher", "ca", "raft", "store", "local"]
        .map(|n| format!("rn/v1/{n}.proto"));
    for file in &files {
        println!("cargo:rerun-if-changed={file}");
    }
    let set = protox::compile(&files, ["."])?;
    // The descriptor set lets a test prove that each RPC has a row in the role table.
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    // The build tool makes it anew whenever it is not whole.
    #[allow(clippy::disallowed_methods)]
    std::fs::write(out, prost_encode(&set))?;
    tonic_prost_build::configure().emit_rerun_if_changed(false).btree_map(".").compile_fds(set)?;
    Ok(())
}

fn prost_encode(set: &impl prost::Message) -> Vec<u8> {
    set.encode_to_vec()
}
