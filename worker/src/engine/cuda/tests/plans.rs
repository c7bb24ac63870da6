//! Plans: what they keep, what they leave out, and that no two live buffers share a byte.

use super::model::plan;
use crate::engine::cuda::plan::{Buffer, Instruction, Program, Wanted};
use crate::engine::cuda::tape::{Case, Element};
use lora_rates_common::sdxl::config::SdxlConfig;
use std::collections::HashSet;

const ALL: Wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: true };
const RATES: Wanted = Wanted { rates: true, conditions: false, checkpointing: false, merging: true };

fn case(batch: usize, height: usize, width: usize) -> Case {
    Case { batch, height, width, tokens: 77 }
}

fn size(program: &Program, buffer: usize) -> usize {
    program.buffers[buffer].count * if program.buffers[buffer].element == Element::Wide { 4 } else { 2 }
}

#[test]
fn live_buffers_of_real_plans_never_share_a_byte() {
    for (wanted, batch, height, width) in
        [(ALL, 1, 8, 8), (RATES, 3, 16, 8), (Wanted { checkpointing: true, ..ALL }, 2, 12, 20)]
    {
        let program = plan(&SdxlConfig::tiny(), case(batch, height, width), wanted, 4, 2, |_| true).program;
        let placed: Vec<(usize, usize, _)> = (0..program.buffers.len())
            .filter_map(|b| Some((program.arena.offsets[b]?, size(&program, b), program.lives[b]?)))
            .collect();
        assert!(placed.len() > 500);
        for (i, (from, bytes, life)) in placed.iter().enumerate() {
            assert!(from + bytes <= program.arena.bytes);
            for (at, others, _) in placed[i + 1..].iter().filter(|(.., other)| other.meets(*life)) {
                assert!(from + bytes <= *at || at + others <= *from);
            }
        }
    }
}

#[test]
fn every_buffer_is_written_once_and_before_it_is_read() {
    let program = plan(&SdxlConfig::tiny(), case(1, 8, 8), ALL, 4, 2, |_| true).program;
    let mut written: HashSet<Buffer> = program.inputs.into_iter().chain([program.rates]).collect();
    // The layers write it column by column.
    let sum = program.instructions.iter().find_map(|instruction| match instruction {
        Instruction::SumChunks { partial, .. } => Some(*partial),
        _ => None,
    });
    let partial = sum.unwrap();
    for instruction in &program.instructions {
        for buffer in instruction.reads() {
            assert!(written.contains(&buffer), "{instruction:?} reads what is not there");
        }
        for buffer in instruction.writes() {
            assert!(written.insert(buffer) || buffer == partial, "{instruction:?} writes again");
        }
    }
}

#[test]
fn nothing_above_the_first_rated_layer_is_differentiated() {
    let last = |name: &str| name.starts_with("unet.output_blocks.5.1.transformer_blocks");
    let count = |rated: fn(&str) -> bool| {
        let program = plan(&SdxlConfig::tiny(), case(1, 8, 8), RATES, 4, 2, rated).program;
        program.instructions.len() - program.host
    };
    let (few, all) = (count(last), count(|name| name.contains("transformer_blocks")));
    assert!(few * 4 < all, "{few} of {all} instructions");
    let program = plan(&SdxlConfig::tiny(), case(1, 8, 8), RATES, 4, 2, |_| false).program;
    assert_eq!(program.host + 1, program.instructions.len(), "without networks nothing flows back");
}

#[test]
fn residual_sums_are_part_of_the_products() {
    let config = SdxlConfig::tiny();
    let program = plan(&config, case(1, 8, 8), RATES, 4, 2, |_| false).program;
    let adds = program.instructions.iter().filter(|i| matches!(i, Instruction::Add { .. })).count();
    // The embeddings' sum, one for each of the 17 residual blocks, and the first of each of the 11 transformers, whose
    // residual is the narrow output of a layer.
    assert_eq!(adds, 1 + 17 + 11);
}

#[test]
fn keeping_the_stages_outputs_alone_takes_less_memory() {
    let arena = |checkpointing| {
        let wanted = Wanted { checkpointing, ..RATES };
        plan(&SdxlConfig::tiny(), case(2, 32, 32), wanted, 4, 2, |name| name.contains("transformer")).program
    };
    let (all, few) = (arena(false).books(2), arena(true).books(2));
    assert!(few.arena * 2 < all.arena, "{few:?} of {all:?}");
    assert!(few.kept < all.kept);
}

#[test]
fn biases_of_convolutions_are_part_of_the_sums_after_them() {
    let config = SdxlConfig::tiny();
    let program = plan(&config, case(1, 8, 8), RATES, 4, 2, |_| false).program;
    let convolutions = program.instructions.iter().filter_map(|i| match i {
        Instruction::Conv { bias, .. } => Some(bias.is_none()),
        _ => None,
    });
    let (left, own): (Vec<_>, Vec<_>) = convolutions.partition(|left| *left);
    // Two in each of the 17 residual blocks; the first, the last, two that shrink and two that enlarge add their own.
    assert_eq!((left.len(), own.len()), (34, 6));
}
