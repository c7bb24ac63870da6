//! Which instructions are needed, and from when to when each buffer is.

use super::arena::Interval;
use super::{Buffer, Instruction};

/// Leaves out what nothing needs: an instruction stays if the host sees it or a later one that stays reads what it writes.
/// `read_at_the_end` are buffers that the host reads when all is done.
pub(super) fn prune(instructions: Vec<Instruction>, buffers: usize, read_at_the_end: &[Buffer]) -> Vec<Instruction> {
    let mut needed = vec![false; buffers];
    read_at_the_end.iter().for_each(|buffer| needed[buffer.0] = true);
    let mut kept: Vec<Instruction> = Vec::with_capacity(instructions.len());
    for instruction in instructions.into_iter().rev() {
        let stays = matches!(instruction, Instruction::Host { .. })
            || instruction.writes().iter().any(|buffer| needed[buffer.0]);
        if stays {
            instruction.reads().iter().for_each(|buffer| needed[buffer.0] = true);
            kept.push(instruction);
        }
    }
    kept.reverse();
    kept
}

/// First and last instruction that touches each buffer; `None` for those that none does. `whole` are those that the host
/// writes before and reads after everything.
pub(super) fn lifetimes(instructions: &[Instruction], buffers: usize, whole: &[Buffer]) -> Vec<Option<Interval>> {
    let mut lives: Vec<Option<Interval>> = vec![None; buffers];
    for (at, instruction) in instructions.iter().enumerate() {
        for buffer in instruction.reads().into_iter().chain(instruction.writes()) {
            let life = lives[buffer.0].get_or_insert(Interval { first: at, last: at });
            life.last = at;
        }
    }
    let end = instructions.len();
    whole.iter().for_each(|buffer| lives[buffer.0] = Some(Interval { first: 0, last: end }));
    lives
}
