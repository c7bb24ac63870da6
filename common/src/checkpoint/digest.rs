//! Digests of a model's weights.

use super::Checkpoint;
use crate::sdxl::{Part, layout};
use crate::spec::hex;
use sha2::{Digest, Sha256};

/// Bytes of every tensor that enter the digest of a whole model. A checkpoint has gigabytes; models that differ at all
/// have been trained or merged, and then differ in every large tensor from its first numbers on.
const HEAD: usize = 4096;

impl Checkpoint {
    /// Tells models apart in milliseconds: SHA-256, in hexadecimal, over names, shapes and the first 4 KiB of every
    /// tensor, the same for a single file and the folder that it was converted to.
    pub fn digest(&self) -> String {
        self.hash(&[Part::TextEncoder1, Part::TextEncoder2, Part::Unet, Part::Vae], HEAD)
    }

    /// The same over all bytes of some parts: what names a cache of their results.
    pub fn digest_of(&self, parts: &[Part]) -> String {
        self.hash(parts, usize::MAX)
    }

    fn hash(&self, parts: &[Part], limit: usize) -> String {
        let mut hash = Sha256::new();
        for spec in layout::tensors(self.config()) {
            if !parts.iter().any(|part| spec.name.split('.').next() == Some(part.prefix())) {
                continue;
            }
            hash.update(format!("{} {:?} ", spec.name, spec.shape));
            if let Ok(stored) = self.tensor(&spec.name) {
                let bytes = stored.bytes();
                hash.update(format!("{:?} ", stored.view.dtype));
                hash.update(&bytes[..bytes.len().min(limit)]);
            }
        }
        hex(&hash.finalize())
    }
}
