//! Normalisations: their sums first, then what is done with them.

use super::Address;
use super::lower::{Lowering, eights};
use crate::engine::cuda::Error;
use crate::engine::cuda::plan::Instruction;
use crate::engine::cuda::tape::{GROUPS, Norm, Shape};
use Instruction as I;

/// Pixels that one block of a group norm sums.
const STRETCH: usize = 64;

impl Lowering<'_> {
    pub(super) fn normalise(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let affine = |norm: &Norm| [Address::Parameter(norm.scale), Address::Parameter(norm.shift)];
        match instruction {
            I::LayerNorm { x, norm, out, statistics, rows, channels } => {
                let [scale, shift] = affine(norm);
                let pointers = vec![self.at(*x)?, scale, shift, self.at(*out)?, self.at(*statistics)?];
                let numbers = [*rows, eights(*channels)?, self.wide(*x), self.wide(*out)];
                self.launch("layer_norm", [rows.div_ceil(8), 1, 1], 256, pointers, &numbers, vec![1e-5])
            }
            I::LayerNormBackward { x, norm, statistics, g, addend, out, rows, channels } => {
                let (statistics, scale) = (self.at(*statistics)?, affine(norm)[0]);
                let (g_at, addend) = (self.at(*g)?, self.optional(*addend)?);
                let pointers = vec![self.at(*x)?, scale, statistics, g_at, addend, self.at(*out)?];
                let numbers = [*rows, eights(*channels)?, self.wide(*x), self.wide(*g), self.wide(*out)];
                self.launch("layer_norm_backward", [rows.div_ceil(8), 1, 1], 256, pointers, &numbers, Vec::new())
            }
            I::GroupNorm { x, norm, eps, silu, out, statistics, shape } => {
                let ([scale, shift], silu) = (affine(norm), usize::from(*silu));
                let (at, x_wide, kept) = (self.at(*x)?, self.wide(*x), self.at(*statistics)?);
                let first = [at, scale, shift, Address::Null, Address::Null];
                self.sums(first, [x_wide, 0, silu], *shape, (kept, 0, *eps as f32))?;
                let sample = shape.places() * shape.channels;
                let numbers = [shape.count(), shape.channels, sample, x_wide, self.wide(*out), silu];
                let pointers = vec![at, scale, shift, kept, self.at(*out)?];
                self.elementwise("group_norm", shape.channels, pointers, &numbers)
            }
            I::GroupNormBackward { x, norm, silu, statistics, g, addend, out, shape } => {
                let ([scale, shift], silu) = (affine(norm), usize::from(*silu));
                let (at, kept, g_at) = (self.at(*x)?, self.at(*statistics)?, self.at(*g)?);
                let (x_wide, g_wide) = (self.wide(*x), self.wide(*g));
                let means = Address::Scratch(0);
                self.sums([at, scale, shift, kept, g_at], [x_wide, g_wide, silu], *shape, (means, 1, 0.0))?;
                let sample = shape.places() * shape.channels;
                let numbers = [shape.count(), shape.channels, sample, x_wide, g_wide, self.wide(*out), silu];
                let pointers = vec![at, scale, shift, kept, g_at, self.optional(*addend)?, self.at(*out)?, means];
                self.elementwise("group_norm_backward", shape.channels, pointers, &numbers)
            }
            _ => Ok(()),
        }
    }

    /// Sums by channel, then by group: `to` is where the groups' go, whether of the backward pass, and eps.
    fn sums(
        &mut self,
        from: [Address; 5],
        flags: [usize; 3],
        shape: Shape,
        to: (Address, usize, f32),
    ) -> Result<(), Error> {
        let (places, channels) = (shape.places(), eights(shape.channels)?);
        let stretches = places.div_ceil(STRETCH);
        // The groups' means of the backward pass come first.
        let partial = (shape.batch * GROUPS * 2 * 4).next_multiple_of(256);
        self.scratch = self.scratch.max(partial + shape.batch * stretches * 2 * channels * 4);
        let pointers = from.into_iter().chain([Address::Scratch(partial)]).collect();
        let [x_wide, g_wide, silu] = flags;
        let numbers = [places, channels, STRETCH, x_wide, g_wide, silu];
        let grid = [stretches, shape.batch, channels.div_ceil(256)];
        self.launch("group_sums", grid, 256, pointers, &numbers, Vec::new())?;
        let (out, backward, eps) = to;
        let numbers = [shape.batch * GROUPS, channels, stretches, places, backward];
        let grid = [(shape.batch * GROUPS).div_ceil(8), 1, 1];
        self.launch("group_totals", grid, 256, vec![Address::Scratch(partial), out], &numbers, vec![eps])
    }
}
