//! Plans: what they keep, what they leave out, and that no two live buffers share a byte.

use super::model::plan;
use crate::engine::cuda::plan::{Buffer, Command, Instruction, LANES, Lane, Program, Wanted};
use crate::engine::cuda::tape::{Case, Element};
use lora_rates_common::sdxl::config::SdxlConfig;
use std::collections::HashSet;

const ALL: Wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: true };
const RATES: Wanted = Wanted { rates: true, conditions: false, checkpointing: false, merging: true };

/// Networks apart from the weights.
const APART: Wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: false };

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
    // The embeddings' sum and one for each of the 17 residual blocks.
    assert_eq!(adds, 1 + 17);
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
fn lanes_never_touch_bytes_that_another_still_needs() {
    for (wanted, rated) in
        [(RATES, "transformer"), (ALL, ""), (Wanted { checkpointing: true, ..RATES }, "attn"), (APART, "")]
    {
        let program = plan(&SdxlConfig::tiny(), case(2, 16, 8), wanted, 4, 2, |name| name.contains(rated)).program;
        for half in [0..program.host, program.host + 1..program.instructions.len()] {
            let commands = program.schedule(half.clone(), |at| program.lanes[at], 2);
            // How far each lane knows every lane to be, by the places after their last instructions.
            let mut clocks = [[half.start; LANES.len()]; LANES.len()];
            let mut events = std::collections::HashMap::new();
            let mut order = Vec::new();
            for command in &commands {
                match *command {
                    Command::Record(lane, event) => assert!(events.insert(event, clocks[lane as usize]).is_none()),
                    Command::Wait(lane, event) => {
                        let clock = &mut clocks[lane as usize];
                        clock.iter_mut().zip(events[&event]).for_each(|(mine, theirs)| *mine = theirs.max(*mine));
                    }
                    Command::Run(at) => {
                        let clock = &mut clocks[program.lanes[at] as usize];
                        order.push((at, *clock));
                        clock[program.lanes[at] as usize] = at + 1;
                    }
                }
            }
            assert!(order.iter().map(|(at, _)| *at).eq(half.clone()), "each instruction once, in order");
            let all = clocks[Lane::Main as usize];
            let last = |lane: Lane| half.clone().rev().find(|at| program.lanes[*at] == lane);
            assert!(LANES.into_iter().all(|lane| last(lane).is_none_or(|at| all[lane as usize] > at)), "lanes meet");
            for (at, clock) in &order {
                for (before, _) in order.iter().take_while(|(before, _)| before < at) {
                    let lane = program.lanes[*before];
                    let known = lane == program.lanes[*at] || clock[lane as usize] > *before;
                    assert!(known || !clash(&program, *before, *at), "{before} and {at} meet in time and in memory");
                }
            }
            let aside = half.clone().filter(|at| program.lanes[*at] != Lane::Main).count();
            let waits = commands.iter().filter(|command| matches!(command, Command::Wait(Lane::Main, _))).count();
            eprintln!("{wanted:?}: {aside} of {} aside, the main lane waits {waits} times", half.len());
        }
        let aside = program.lanes.iter().any(|lane| *lane != Lane::Main);
        assert!(aside, "something is computed aside");
    }
}

/// Whether two instructions touch the same bytes, one of them writing.
fn clash(program: &Program, a: usize, b: usize) -> bool {
    let bytes = |buffers: Vec<Buffer>| -> Vec<std::ops::Range<usize>> {
        let one = |b: Buffer| program.arena.offsets[b.0].map(|from| from..from + size(program, b.0));
        buffers.into_iter().filter_map(one).collect()
    };
    let [a, b] = [a, b].map(|at| &program.instructions[at]);
    let meet = |x: &[std::ops::Range<usize>], y: &[std::ops::Range<usize>]| {
        x.iter().any(|x| y.iter().any(|y| x.start < y.end && y.start < x.end))
    };
    let shared = |i: &Instruction| match i {
        Instruction::RateGradient { partial, .. } => Some(*partial),
        _ => None,
    };
    // Layers write into one buffer, side by side.
    let both = shared(a).filter(|buffer| Some(*buffer) == shared(b));
    let own = |i: &Instruction| i.writes().into_iter().filter(|buffer| Some(*buffer) != both).collect();
    let (ra, wa, rb, wb) = (bytes(a.reads()), bytes(own(a)), bytes(b.reads()), bytes(own(b)));
    meet(&wa, &wb) || meet(&wa, &rb) || meet(&ra, &wb)
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
