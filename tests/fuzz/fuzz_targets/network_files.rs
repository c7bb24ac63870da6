//! Bytes as a network file: whatever they are, it is opened or refused without a panic, and what is opened keeps its
//! promises.
//!
//! The first byte says how the rest becomes a file: as it is, or cut in two, a header to which the right length is added
//! and the tensors' bytes. Otherwise hardly any input would come past the length.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lora_rates_common::network::{Network, Unmatched, report};
use lora_rates_common::sdxl::config::SdxlConfig;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;

/// A folder in memory where there is one: a file is written for every input.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = FILE.get_or_init(|| {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
        let path = folder.path().join("network.safetensors");
        (folder, path)
    });
    path
}

/// The smallest model with layers of every kind: each opening spells out the names of all of them.
fn config() -> &'static SdxlConfig {
    static CONFIG: OnceLock<SdxlConfig> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let mut config = SdxlConfig::tiny();
        config.unet.transformer_depth = vec![0, 1, 1];
        config.unet.middle_depth = 1;
        config.unet.num_res_blocks = 1;
        config.text_encoder_1.layers = 1;
        config.text_encoder_2.layers = 1;
        config
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let bytes = if kind % 4 == 0 { rest.to_vec() } else { with_length(rest) };
    std::fs::write(file(), bytes).expect("the file can be written");
    let unmatched = if kind & 4 == 0 { Unmatched::Refuse } else { Unmatched::Skip };
    match Network::open(file(), config(), unmatched) {
        Ok(network) => keeps_its_promises(&network),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

/// Two bytes of length, the header, the tensors: as a file with the header's length in front.
fn with_length(rest: &[u8]) -> Vec<u8> {
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return rest.to_vec() };
    let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    [&(length as u64).to_le_bytes()[..], rest].concat()
}

fn keeps_its_promises(network: &Network) {
    assert!(!network.modules.is_empty());
    for module in &network.modules {
        for factor in [network.down(module), network.up(module)] {
            let factor = factor.expect("a module's factors are its network's");
            let numbers = factor.to_f32().expect("they are floats");
            assert!(numbers.iter().all(|number| number.is_finite()));
        }
    }
    let slots: usize = network.blocks().len();
    assert_eq!(slots, network.live().len());
    assert!(!report(std::slice::from_ref(network)).is_empty());
}
