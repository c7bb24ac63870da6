//! Attention and its gradients, of operands that may lie side by side.

use super::lower::Lowering;
use super::{Address, Attention, Step};
use crate::engine::cuda::Error;
use crate::engine::cuda::plan::{Buffer, Heads, Instruction};
use Instruction as I;

/// Queries or keys of a tile of attention.
const TILE: usize = 64;
/// Channels of a head that the attention kernels are written for.
const HEAD: usize = 64;

impl Lowering<'_> {
    pub(super) fn attention(&mut self, instruction: &Instruction) -> Result<(), Error> {
        let tiles = |rows: usize, sizes: &Heads| [rows.div_ceil(TILE), sizes.heads, sizes.batch];
        let check = |sizes: &Heads| {
            let ([of_q, of_k], causal) = (sizes.strides(), usize::from(sizes.causal));
            match sizes.size {
                HEAD => Ok(([sizes.queries, sizes.keys, sizes.heads, causal, of_q, of_k], vec![1.0 / 8.0])),
                _ => Err(Error::NotRecorded("heads of another size than 64")),
            }
        };
        match instruction {
            I::Attention { q, k, v, out, sums, sizes } => {
                let (numbers, scale) = check(sizes)?;
                let [q, k, v] = self.heads([q, k, v], sizes)?;
                let places = [q, k, v, self.at(*out)?, self.at(*sums)?];
                let grid = tiles(sizes.queries, sizes);
                self.launch("attention", grid, 128, places.to_vec(), &numbers, scale)?;
                if let Some(Step::Launch(own)) = self.steps.pop() {
                    self.steps.push(Step::Attention(Attention { places, sizes: *sizes, own }));
                }
                Ok(())
            }
            I::AttentionBackward { q, k, v, o, sums, g, by_q, by_kv, sizes } => {
                let (numbers, scale) = check(sizes)?;
                let places = sizes.queries.next_multiple_of(TILE);
                let (g, sums, o) = (self.at(*g)?, self.at(*sums)?, self.at(*o)?);
                let numbers = [&numbers[..], &[places]].concat();
                let [q, k, v] = self.heads([q, k, v], sizes)?;
                let [by_k, by_v] = by_kv.unwrap_or([*by_q; 2]);
                let [by_q, by_k, by_v] = self.heads([by_q, &by_k, &by_v], sizes)?;
                // Two numbers for each row, which the first kernel finds and the second reads.
                let of_rows = if by_kv.is_some() { Address::Scratch(0) } else { Address::Null };
                let pointers = vec![q, k, v, g, o, sums, of_rows, by_q];
                let grid = tiles(sizes.queries, sizes);
                self.launch("attention_by_queries", grid, 128, pointers, &numbers, scale.clone())?;
                if by_kv.is_none() {
                    return Ok(());
                }
                self.scratch = self.scratch.max(2 * 4 * sizes.batch * sizes.heads * places);
                let pointers = vec![q, k, v, g, of_rows, by_k, by_v];
                self.launch("attention_by_keys", tiles(sizes.keys, sizes), 128, pointers, &numbers, scale)
            }
            _ => Ok(()),
        }
    }

    /// Where q, k and v, or their gradients, begin in these buffers.
    fn heads(&self, buffers: [&Buffer; 3], sizes: &Heads) -> Result<[Address; 3], Error> {
        let [q, k, v] = buffers.map(|buffer| self.at(*buffer));
        let mut addresses = [q?, k?, v?];
        for (address, begin) in addresses.iter_mut().zip(sizes.begins()) {
            if let Address::Arena(offset) = address {
                *offset += 2 * begin;
            }
        }
        Ok(addresses)
    }
}
