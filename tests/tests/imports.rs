//! The rules of import (docs/architecture.md), asserted over `cargo metadata`.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Names of a package's dependencies that are there in its normal build.
fn dependencies(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let found = packages.iter().find(|p| p["name"] == package).unwrap_or_else(|| panic!("no package {package}"));
    let list = found["dependencies"].as_array().expect("dependencies");
    let normal = list.iter().filter(|d| d["kind"].is_null());
    normal.map(|d| d["name"].as_str().expect("a name").to_owned()).collect()
}

#[track_caller]
fn knows_nothing_of(metadata: &Value, package: &str, forbidden: &[&str]) {
    let found = dependencies(metadata, package);
    let broken: Vec<&String> = found
        .iter()
        .filter(|name| forbidden.iter().any(|f| *name == f || name.starts_with(&format!("{f}-"))))
        .collect();
    assert!(broken.is_empty(), "{package} must not depend on {broken:?}");
}

#[test]
fn every_crate_knows_only_what_the_architecture_lets_it_know() {
    let metadata = metadata();
    let ours = ["lora-rates-common", "lora-rates-worker", "lora-rates-coordinator", "lora-rates-client"];
    knows_nothing_of(&metadata, "lora-rates-proto", &ours);
    knows_nothing_of(&metadata, "lora-rates-common", &["tokio", "tonic", "burn", "cudarc"]);
    knows_nothing_of(&metadata, "lora-rates-common", &ours[1..]);
    knows_nothing_of(
        &metadata,
        "lora-rates-coordinator",
        &["burn", "cudarc", "lora-rates-worker", "lora-rates-client"],
    );
    knows_nothing_of(&metadata, "lora-rates-worker", &["lora-rates-coordinator", "lora-rates-client"]);
    knows_nothing_of(&metadata, "lora-rates-client", &["burn", "cudarc"]);
    assert!(dependencies(&metadata, "lora-rates-worker").contains("burn"), "the worker computes with burn");
}

#[test]
fn the_main_dependencies_are_there_once() {
    let lock = include_str!("../../Cargo.lock");
    // Not safetensors: the lock file lists an old one too, for a backend of burn's that is never built.
    for name in ["burn", "tonic", "prost", "tokio", "tokenizers", "serde", "cudarc", "half"] {
        let line = format!("name = \"{name}\"");
        let versions = lock.lines().filter(|l| **l == line).count();
        assert_eq!(versions, 1, "versions of {name} in Cargo.lock");
    }
}
