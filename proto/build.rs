//! Compiles the protocol with protox: no protoc to install.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["blob_service", "search", "search_service", "worker_service"].map(|name| format!("lorarates/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=lorarates");
    let descriptors = protox::compile(files, ["."])?;
    // For server reflection.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("lorarates.v1.bin"), descriptors.encode_to_vec())?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).compile_fds(descriptors)?;
    Ok(())
}
