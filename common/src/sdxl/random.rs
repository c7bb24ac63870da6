//! Random weights: for measuring speed at full size, for the demonstration, and for tests.

use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Half width of an embedding's uniform distribution.
const EMBEDDING: f32 = 0.05;

/// A tensor of this canonical name and shape, in row-major order, a pure function of its arguments.
///
/// Norms are the identity, biases 0, embeddings small, and the weights of a layer uniform with the variance
/// `1 / fan_in`, which keeps activations near their size whatever the model's.
pub fn tensor(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let len: usize = shape.iter().product();
    if name.ends_with(".bias") {
        return vec![0.0; len];
    }
    let half_width = match shape {
        [_] => return vec![1.0; len],
        _ if name.contains("_embedding.weight") => EMBEDDING,
        [_, inputs @ ..] => (3.0 / inputs.iter().product::<usize>().max(1) as f32).sqrt(),
        [] => EMBEDDING,
    };
    uniform(name, seed, half_width, len)
}

/// `len` numbers uniform between minus and plus `half_width`, keyed by name and seed; exact in bfloat16, so that
/// computing in another precision is computing on the same weights.
pub fn uniform(name: &str, seed: u64, half_width: f32, len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::from_seed(key(name, seed));
    let step = half_width / (1u32 << 31) as f32;
    (0..len).map(|_| bf16::from_f32((rng.next_u32() as i32) as f32 * step).to_f32()).collect()
}

/// A generator's key: the seed, then the name folded by FNV-1a (its offset and prime are the published ones).
fn key(name: &str, seed: u64) -> [u8; 32] {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_variance_of_their_fan_in_and_differ_by_name_and_seed() {
        let weights = tensor("unet.a.weight", &[64, 16, 3, 3], 1);
        let variance = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
        assert!((variance * 144.0 - 1.0).abs() < 0.05, "{variance}");
        assert_eq!(weights, tensor("unet.a.weight", &[64, 16, 3, 3], 1));
        assert_ne!(weights, tensor("unet.b.weight", &[64, 16, 3, 3], 1));
        assert_ne!(weights, tensor("unet.a.weight", &[64, 16, 3, 3], 2));
    }

    #[test]
    fn norms_are_the_identity() {
        assert_eq!(tensor("unet.out.0.weight", &[3], 0), [1.0; 3]);
        assert_eq!(tensor("unet.out.0.bias", &[3], 0), [0.0; 3]);
    }
}
