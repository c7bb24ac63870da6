//! What the tests of every crate need: the golden files, and the tiny SDXL built out of them.
//!
//! `tests/fixtures/golden` holds numbers computed by PyTorch and diffusers (its README.md says what each file is).
//! Large files are stored compressed and the two layouts of the model as parts with a recipe; both are made on first
//! use in a cache below the system's temporary directory and found there afterwards. Everything here panics with one
//! clear line when a fixture is missing or damaged: that is what a test wants.

mod cache;
mod recipe;
mod tensors;

use std::path::{Path, PathBuf};

pub use tensors::{Tensor, TensorFile};

/// The path of a golden file, named relative to `tests/fixtures/golden`, such as `lora/L1_attention.safetensors`.
///
/// # Panics
/// If there is no such fixture.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    let plain = golden().join(name);
    if plain.is_file() {
        return plain;
    }
    let packed = golden().join(format!("{name}.gz"));
    if !packed.is_file() {
        panic!("there is no fixture {name}: neither {} nor {}", plain.display(), packed.display());
    }
    let key = cache::stamp(&[&packed]);
    cache::file(&key, name, || cache::unpack(&packed))
}

/// The tiny SDXL as a single-file checkpoint with sd_xl_base_1.0's key names, `tiny_sdxl.safetensors` (41 MB, fp16).
///
/// # Panics
/// If a fixture is missing or damaged.
#[must_use]
pub fn tiny_single() -> PathBuf {
    recipe::build("model/single_recipe.json", "tiny_sdxl.safetensors")
}

/// The tiny SDXL as a folder in diffusers' layout: `unet`, `vae`, two text encoders, two tokenizers and the scheduler.
///
/// # Panics
/// If a fixture is missing or damaged.
#[must_use]
pub fn tiny_diffusers() -> PathBuf {
    recipe::build("model/diffusers_recipe.json", "diffusers")
}

/// `tests/fixtures/golden` of this checkout.
fn golden() -> PathBuf {
    tests_folder().join("fixtures").join("golden")
}

/// `tests` of this checkout.
fn tests_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/support lies in tests")
}

#[cfg(test)]
mod tests;
