//! What can be computed beside the rest: a device with several queues does it where the main one leaves it idle.

use super::arena::Interval;
use super::{Buffer, Instruction, Program, Weight};
use std::ops::Range;

/// Which queue an instruction goes into. Each keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Everything that others wait for.
    Main,
    /// Weights with their networks, which need nothing but the rates.
    Weights,
    /// The gradient by the rates, which nothing needs before the end.
    Rates,
}

/// All lanes, the main one first.
pub const LANES: [Lane; 3] = [Lane::Main, Lane::Weights, Lane::Rates];

/// What is done next, in the order in which it is put into the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The instruction at this place goes into its lane.
    Run(usize),
    /// The lane says when it has come so far, by the event of this number.
    Record(Lane, usize),
    /// The lane waits for an event.
    Wait(Lane, usize),
}

/// For how many instructions more what the rates' lane touches stays where it is, so that the main lane need not wait for it.
const BEHIND: usize = 40;
/// Whoever waits for the rates' lane waits for all that it was given before so many instructions: few waits instead of many.
const TOGETHER: usize = 16;

impl Lane {
    fn index(self) -> usize {
        self as usize
    }
}

/// The lane of each instruction. `buffers` is how many there are.
pub(super) fn lanes(instructions: &[Instruction], buffers: usize) -> Vec<Lane> {
    // Whether anything on the main lane reads a buffer.
    let mut main = vec![false; buffers];
    let mut lanes = vec![Lane::Main; instructions.len()];
    for (instruction, lane) in instructions.iter().zip(&mut lanes).rev() {
        *lane = match instruction {
            Instruction::Merge { .. } => Lane::Weights,
            Instruction::SumChunks { .. } | Instruction::RateGradient { out: None, .. } => Lane::Rates,
            // `h` and `g B`, unless the layer's networks are apart from its weight.
            Instruction::Product { out, weight: Weight::Parameter(_), .. } if !main[out.0] => Lane::Rates,
            _ => Lane::Main,
        };
        if *lane == Lane::Main {
            instruction.reads().iter().for_each(|buffer| main[buffer.0] = true);
        }
    }
    lanes
}

/// Lets buffers live as long as lanes may be apart. `host` divides the halves, at the end of which all lanes meet.
pub(super) fn loosen(instructions: &[Instruction], lanes: &[Lane], host: usize, lives: &mut [Option<Interval>]) {
    for (at, (instruction, lane)) in instructions.iter().zip(lanes).enumerate() {
        let end = if at < host { host } else { instructions.len() };
        let (reads, writes) = (instruction.reads(), instruction.writes());
        match lane {
            Lane::Main => {}
            Lane::Weights => {
                // What is kept for the backward pass may as well be there from the beginning, before the activations are.
                let kept = writes.iter().any(|buffer| lives[buffer.0].is_some_and(|life| life.last > host));
                let first = if at < host && kept { 0 } else { at };
                writes.iter().for_each(|buffer| change(lives, *buffer, |life| life.first = life.first.min(first)));
            }
            Lane::Rates => {
                let last = (at + BEHIND).min(end);
                let touched = reads.iter().chain(&writes);
                touched.for_each(|buffer| change(lives, *buffer, |life| life.last = life.last.max(last)));
            }
        }
    }
}

fn change(lives: &mut [Option<Interval>], buffer: Buffer, how: impl Fn(&mut Interval)) {
    lives[buffer.0].iter_mut().for_each(how);
}

/// Bytes that an instruction touches, and whether it writes them.
struct Access {
    bytes: Range<usize>,
    writes: bool,
}

impl Program {
    /// How to compute a half, these instructions, in lanes: `of` says which each goes into.
    pub fn schedule(&self, half: Range<usize>, of: impl Fn(usize) -> Lane, narrow: usize) -> Vec<Command> {
        let accesses: Vec<Vec<Access>> = half.clone().map(|at| self.accesses(at, narrow)).collect();
        let clash = |a: usize, b: usize| {
            let meets = |x: &Access, y: &Access| x.bytes.start < y.bytes.end && y.bytes.start < x.bytes.end;
            let [a, b] = [a, b].map(|at| &accesses[at - half.start]);
            a.iter().any(|x| b.iter().any(|y| (x.writes || y.writes) && meets(x, y)))
        };
        // How far each lane knows each other one to be, as places after the last known.
        let mut known = [[half.start; LANES.len()]; LANES.len()];
        let mut waits: Vec<(usize, usize)> = Vec::new();
        for at in half.clone() {
            let mine = of(at);
            for other in LANES.into_iter().filter(|other| *other != mine) {
                let known = &mut known[mine.index()][other.index()];
                let theirs = |place: &usize| of(*place) == other;
                let Some(mut needed) = (*known..at).rev().filter(theirs).find(|place| clash(*place, at)) else {
                    continue;
                };
                if other == Lane::Rates {
                    let early = (needed..(at.saturating_sub(TOGETHER)).max(needed + 1)).rev().find(theirs);
                    needed = early.unwrap_or(needed);
                }
                *known = needed + 1;
                waits.push((at, needed));
            }
        }
        commands(half, of, &waits)
    }

    fn accesses(&self, at: usize, narrow: usize) -> Vec<Access> {
        let instruction = &self.instructions[at];
        let access = |(buffer, writes): (Buffer, bool)| {
            let (offset, info) = (self.arena.offsets[buffer.0]?, self.buffers[buffer.0]);
            Some(Access { bytes: offset..offset + info.bytes(narrow), writes })
        };
        // Layers write partial sums side by side into a buffer that nothing shares: they do not meet, but their sum does.
        let partial = |buffer: Buffer, writes| match instruction {
            Instruction::RateGradient { partial, .. } if *partial == buffer => false,
            Instruction::SumChunks { partial, .. } if *partial == buffer => true,
            _ => writes,
        };
        let reads = instruction.reads().into_iter().map(|buffer| (buffer, partial(buffer, false)));
        let writes = instruction.writes().into_iter().map(|buffer| (buffer, partial(buffer, true)));
        reads.chain(writes).filter_map(access).collect()
    }
}

/// Instructions with the events between them. `waits` are pairs of one that waits and what it waits for.
fn commands(half: Range<usize>, of: impl Fn(usize) -> Lane, waits: &[(usize, usize)]) -> Vec<Command> {
    let last = |lane: Lane| half.clone().rev().find(|at| of(*at) == lane);
    let aside: Vec<(Lane, usize)> = LANES[1..].iter().filter_map(|lane| Some((*lane, last(*lane)?))).collect();
    // The first event is the beginning; then one for each instruction that is waited for.
    let mut recorded: Vec<usize> =
        waits.iter().map(|(_, needed)| *needed).chain(aside.iter().map(|(_, at)| *at)).collect();
    recorded.sort_unstable();
    recorded.dedup();
    let event = |at: usize| recorded.binary_search(&at).ok().map(|event| event + 1);
    let mut commands = vec![Command::Record(Lane::Main, 0)];
    commands.extend(aside.iter().map(|(lane, _)| Command::Wait(*lane, 0)));
    let mut waits = waits.iter().peekable();
    for at in half {
        while let Some((_, needed)) = waits.next_if(|(waiting, _)| *waiting == at) {
            commands.extend(event(*needed).map(|event| Command::Wait(of(at), event)));
        }
        commands.push(Command::Run(at));
        commands.extend(event(at).map(|event| Command::Record(of(at), event)));
    }
    commands.extend(aside.iter().filter_map(|(_, at)| Some(Command::Wait(Lane::Main, event(*at)?))));
    commands
}
