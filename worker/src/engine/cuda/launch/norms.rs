//! Normalisations: their sums first, then what is done with them.

use super::Address;
use super::lower::{Lowering, eights};
use crate::engine::cuda::Error;
use crate::engine::cuda::plan::{Buffer, Instruction};
use crate::engine::cuda::tape::{Element, GROUPS, Norm, Shape};
use Instruction as I;

/// Pixels that one thread of a group norm reads.
const PIXELS: usize = 8;
/// Threads of a block of a group norm, as near as its channels allow.
const THREADS: usize = 320;
/// Channels that a group norm's block has room for.
const WIDEST: usize = 8 * 512;
/// Numbers of a row that a lane of a layer norm holds.
const HELD: usize = 40;

impl Lowering<'_> {
    pub(super) fn normalise(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let affine = |norm: &Norm| [Address::Parameter(norm.scale), Address::Parameter(norm.shift)];
        match instruction {
            I::LayerNorm { x, norm, out, statistics, rows, channels } => {
                let ([scale, shift], statistics) = (affine(norm), self.at(*statistics)?);
                let pointers = vec![self.narrow(*x)?, scale, shift, self.narrow(*out)?, statistics];
                self.rows("layer_norm", [*rows, *channels], pointers, vec![1e-5])
            }
            I::LayerNormBackward { x, norm, statistics, g, addend, out, rows, channels } => {
                let (scale, addend) = (affine(norm)[0], self.narrow_or_null(*addend)?);
                let (statistics, g, out) = (self.at(*statistics)?, self.narrow(*g)?, self.narrow(*out)?);
                let pointers = vec![self.narrow(*x)?, scale, statistics, g, addend, out];
                self.rows("layer_norm_backward", [*rows, *channels], pointers, Vec::new())
            }
            I::GroupNorm { x, norm, eps, silu, out, statistics, shape } => {
                let ([scale, shift], kept) = (affine(norm), self.at(*statistics)?);
                let (x, out) = (self.narrow(*x)?, self.narrow(*out)?);
                self.sums("group_sums", vec![x], *silu, *shape, (kept, 0, *eps as f32))?;
                self.columns("group_norm", *silu, *shape, vec![x, scale, shift, kept, out])
            }
            I::GroupNormBackward { x, norm, silu, statistics, g, addend, out, shape } => {
                let ([scale, shift], kept) = (affine(norm), self.at(*statistics)?);
                let (x, g, addend, out) =
                    (self.narrow(*x)?, self.narrow(*g)?, self.narrow_or_null(*addend)?, self.narrow(*out)?);
                let means = Address::Scratch(0);
                let read = vec![x, scale, shift, kept, g];
                self.sums("group_sums_backward", read, *silu, *shape, (means, 1, 0.0))?;
                let pointers = vec![x, scale, shift, kept, g, addend, out, means];
                self.columns("group_norm_backward", *silu, *shape, pointers)
            }
            _ => Ok(()),
        }
    }

    /// Where a buffer of narrow numbers is: all that norms read and write.
    fn narrow(&self, buffer: Buffer) -> Result<Address, Error> {
        match self.element(buffer) {
            Element::Narrow => self.at(buffer),
            Element::Wide => Err(Error::NotRecorded("a norm of f32 numbers")),
        }
    }

    fn narrow_or_null(&self, buffer: Option<Buffer>) -> Result<Address, Error> {
        buffer.map_or(Ok(Address::Null), |buffer| self.narrow(buffer))
    }

    /// A kernel of layer norms: as few lanes a row as can hold it.
    fn rows(
        &mut self,
        kernel: &'static str,
        [rows, channels]: [usize; 2],
        pointers: Vec<Address>,
        factors: Vec<f32>,
    ) -> Result<(), Error> {
        let lanes = [8, 16].into_iter().find(|lanes| lanes * HELD >= channels).unwrap_or(32);
        let grid = [(rows * lanes).div_ceil(128), 1, 1];
        self.launch(kernel, grid, 128, pointers, &[rows, eights(channels)?, lanes], factors)
    }

    /// A kernel of group norms: a thread has eight channels and some of a stretch's pixels.
    fn columns(&mut self, kernel: &'static str, silu: bool, shape: Shape, pointers: Vec<Address>) -> Result<(), Error> {
        let (stretch, threads) = stretch(shape.channels)?;
        let numbers = [shape.places(), shape.channels, stretch, usize::from(silu)];
        let grid = [shape.places().div_ceil(stretch), shape.batch, 1];
        self.launch(kernel, grid, threads, pointers, &numbers, Vec::new())
    }

    /// Sums by group over stretches, then over those: `to` is where they go, whether of the backward pass, and eps.
    fn sums(
        &mut self,
        kernel: &'static str,
        from: Vec<Address>,
        silu: bool,
        shape: Shape,
        to: (Address, usize, f32),
    ) -> Result<(), Error> {
        let stretches = shape.places().div_ceil(stretch(shape.channels)?.0);
        // The groups' means of the backward pass come first.
        let partial = (shape.batch * GROUPS * 2 * 4).next_multiple_of(256);
        self.scratch = self.scratch.max(partial + shape.batch * stretches * 2 * GROUPS * 4);
        let pointers = from.into_iter().chain([Address::Scratch(partial)]).collect();
        self.columns(kernel, silu, shape, pointers)?;
        let (out, backward, eps) = to;
        let (groups, of_one) = (shape.batch * GROUPS, shape.places() * shape.channels / GROUPS);
        let grid = [groups.div_ceil(8), 1, 1];
        let pointers = vec![Address::Scratch(partial), out];
        self.launch("group_totals", grid, 256, pointers, &[groups, of_one, stretches, backward], vec![eps])
    }
}

/// Pixels of a stretch, and threads of its block.
fn stretch(channels: usize) -> Result<(usize, usize), Error> {
    if channels > WIDEST || !channels.is_multiple_of(GROUPS) {
        return Err(Error::NotRecorded("a group norm of more than 4096 channels, or of such as are no 32 groups"));
    }
    let octets = eights(channels)? / 8;
    let lines = (THREADS / octets.max(1)).max(1);
    Ok((lines * PIXELS, lines * octets))
}
