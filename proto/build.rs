//! Compiles the protocol with protox: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["search", "search_service", "worker_service"].map(|name| format!("lorarates/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=lorarates");
    let descriptors = protox::compile(files, ["."])?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).compile_fds(descriptors)?;
    Ok(())
}
