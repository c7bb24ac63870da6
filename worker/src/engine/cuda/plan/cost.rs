//! What leaf operations cost.

use super::{Heads, Instruction, Program, Weight};
use crate::engine::breakdown::Work;
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::tape::Element;
use Instruction as I;

impl Instruction {
    /// What kind of work it is, if it is any; parameters from `networks` on are the networks'.
    pub fn work(&self, networks: ParameterId) -> Option<Work> {
        Some(match self {
            I::Host { .. } => return None,
            I::Merge { .. } => Work::Networks,
            I::Product { weight: Weight::Parameter(weight), .. }
            | I::Conv { weight, .. }
            | I::ConvBackward { weight, .. }
                if *weight >= networks =>
            {
                Work::Networks
            }
            I::Product { .. } => Work::Linear,
            I::Conv { .. } | I::ConvBackward { .. } => Work::Convolution,
            I::Attention { .. } | I::AttentionBackward { .. } => Work::Attention,
            I::ScaleColumns { .. } | I::RateGradient { .. } | I::SumChunks { .. } => Work::Rates,
            _ => Work::Elementwise,
        })
    }

    /// Multiplications and additions of its products of matrices; what attention computes again is not counted twice.
    pub fn operations(&self) -> f64 {
        let of_heads = |Heads { batch, heads, size, queries, keys, .. }: &Heads| {
            2.0 * [batch, heads, size, queries, keys].into_iter().map(|n| *n as f64).product::<f64>()
        };
        match self {
            I::Product { rows, inner, columns, parts, .. } | I::Merge { rows, rank: inner, columns, parts, .. } => {
                2.0 * [*rows, *inner, *columns, *parts].into_iter().map(|n| n as f64).product::<f64>()
            }
            I::Conv { geometry, .. } | I::ConvBackward { geometry, .. } => {
                let window = geometry.input.channels * geometry.conv.kernel.pow(2);
                2.0 * geometry.output.count() as f64 * window as f64
            }
            I::Attention { sizes, .. } => 2.0 * of_heads(sizes),
            // The probabilities' gradient and q's; and k's and v's.
            I::AttentionBackward { by_kv, sizes, .. } => (if by_kv.is_some() { 4.0 } else { 2.0 }) * of_heads(sizes),
            _ => 0.0,
        }
    }
}

impl Program {
    /// Bytes of the buffers that an instruction reads and writes; `narrow` as in [`Program::plan`].
    pub fn traffic(&self, instruction: &Instruction, narrow: usize) -> usize {
        let width = |element| if element == Element::Wide { 4 } else { narrow };
        let touched = instruction.reads().into_iter().chain(instruction.writes());
        touched.filter_map(|buffer| self.buffers.get(buffer.0)).map(|info| info.count * width(info.element)).sum()
    }
}
