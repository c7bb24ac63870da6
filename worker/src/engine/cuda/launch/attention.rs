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
                let all = sizes.batch * sizes.heads * places;
                // Two numbers for each row, which both kernels read.
                self.scratch = self.scratch.max(2 * 4 * all);
                let (g, of_rows) = (self.at(*g)?, Address::Scratch(0));
                let pointers = vec![self.at(*o)?, g, self.at(*sums)?, of_rows];
                let rows = [sizes.queries, sizes.heads, sizes.batch, places];
                self.launch("attention_along", [all.div_ceil(32), 1, 1], 256, pointers, &rows, Vec::new())?;
                let numbers = [&numbers[..], &[places]].concat();
                let [q, k, v] = self.heads([q, k, v], sizes)?;
                let read = vec![q, k, v, g, of_rows];
                let [by_k, by_v] = by_kv.unwrap_or([*by_q; 2]);
                let [by_q, by_k, by_v] = self.heads([by_q, &by_k, &by_v], sizes)?;
                if by_kv.is_some() {
                    let pointers = [read.clone(), vec![by_k, by_v]].concat();
                    let grid = tiles(sizes.keys, sizes);
                    self.launch("attention_by_keys", grid, 128, pointers, &numbers, scale.clone())?;
                }
                let pointers = [read, vec![by_q]].concat();
                self.launch("attention_by_queries", tiles(sizes.queries, sizes), 128, pointers, &numbers, scale)
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
