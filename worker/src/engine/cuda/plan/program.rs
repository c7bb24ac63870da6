//! A whole microbatch as a program with places for all of its buffers.

use super::arena::{Arena, Interval, place};
use super::lanes::{Lane, lanes, loosen};
use super::lifetimes::{lifetimes, prune};
use super::{Buffer, BufferInfo, Instruction, Partial, Planner, chunks};
use crate::engine::cuda::Error;
use crate::engine::cuda::tape::{Element, Op, RecordedUnet, Value};

/// What a program is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// The gradient by the rates, not the prediction alone.
    pub rates: bool,
    /// The gradient by the text's and the vector's numbers, for networks on the text encoders.
    pub conditions: bool,
    /// Keep the outputs of the stages alone, and compute the rest again.
    pub checkpointing: bool,
    /// Add the networks to the weights of layers with many rows, instead of to their results.
    pub merging: bool,
}

/// One layer's columns in the gradient by column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where its rates begin in the buffer of rates.
    pub rates: usize,
    /// Where it begins.
    pub from: usize,
    /// Its columns, padding included.
    pub rank: usize,
}

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    /// The whole arena.
    pub arena: usize,
    /// What the forward pass leaves for the backward pass, inputs and outputs included.
    pub kept: usize,
}

/// A program. The host writes the inputs, runs the first part, writes what the prediction is compared with, runs the second
/// part and reads prediction and gradients.
#[derive(Clone, Debug)]
pub struct Program {
    /// In the order of execution, the [`Instruction::Host`] between forward and backward included.
    pub instructions: Vec<Instruction>,
    /// By [`Buffer`].
    pub buffers: Vec<BufferInfo>,
    /// First and last instruction that touches each buffer.
    pub lives: Vec<Option<Interval>>,
    /// Where the buffers lie.
    pub arena: Arena,
    /// Which queue each instruction goes into.
    pub lanes: Vec<Lane>,
    /// Place of the host's instruction.
    pub host: usize,
    /// Noisy latents, timesteps' sinusoids, vector and text.
    pub inputs: [Buffer; 4],
    /// Rates times scales, by column.
    pub rates: Buffer,
    /// `[b, h, w, 4]`.
    pub prediction: Buffer,
    /// Where the host writes the prediction's target and each sample's slope, both f32.
    pub loss: Option<[Buffer; 2]>,
    /// Gradient by column of each rated layer.
    pub by_column: Buffer,
    /// Whose columns those are.
    pub stretches: Vec<Stretch>,
    /// Gradients by the vector and the text, where asked and where any network is below them.
    pub by_conditions: [Option<Buffer>; 2],
}

impl Program {
    /// Plans a recorded UNet with `rates` columns of rates; `narrow` are the bytes of a narrow number.
    ///
    /// # Errors
    /// [`Error::NoPlan`] if there is a value that nothing computes.
    pub fn plan(unet: &RecordedUnet, wanted: Wanted, rates: usize, narrow: usize) -> Result<Self, Error> {
        let mut planner = Planner::new(&unet.tape);
        let values = [unet.noisy, unet.time, unet.vector, unet.context];
        let inputs = values.map(|value| {
            let buffer = planner.buffer_of(planner.kind(value));
            planner.places.insert(value, buffer);
            buffer
        });
        let rates_buffer = planner.buffer(Element::Wide, rates.max(1));
        planner.rates = Some(rates_buffer);
        planner.merging = wanted.merging;
        planner.track(wanted, &[unet.vector, unet.context]);
        let rated = || unet.tape.nodes().iter().filter_map(|node| Some((node, rank(&node.op)?)));
        let columns = rated().map(|(_, rank)| rank).sum::<usize>().max(1);
        let by_column = planner.buffer(Element::Wide, columns);
        let most = rated().map(|(node, _)| chunks(planner.kind(node.output).shape.rows())).max().unwrap_or(0);
        let partial = planner.buffer(Element::Wide, most * columns);
        planner.partial = Some(Partial { buffer: partial, chunks: most, columns });
        let last = unet.tape.nodes().last().map_or(0, |node| node.segment);
        for segment in 0..=last {
            planner.nodes_of(segment).into_iter().for_each(|node| planner.forward(node));
        }
        let prediction = planner.at(unet.prediction);
        let tracked = planner.is_tracked(unet.prediction);
        let kind = planner.kind(unet.prediction);
        let wide = [kind.shape.count(), kind.shape.batch];
        let loss = tracked.then(|| wide.map(|count| planner.buffer(Element::Wide, count)));
        planner.emit(Instruction::Host { prediction, loss });
        let mut by_conditions = [None; 2];
        if let Some([target, slopes]) = loss {
            let out = planner.buffer_of(kind);
            planner.emit(Instruction::Compare { prediction, target, slopes, out, shape: kind.shape });
            planner.grads.insert(unet.prediction, out);
            for segment in (0..=last).rev() {
                // The first segment is the embeddings', which are small.
                if wanted.checkpointing && segment > 0 {
                    planner.again(segment);
                }
                planner.nodes_of(segment).into_iter().rev().for_each(|node| planner.backward(node));
            }
            if !planner.stretches.is_empty() {
                planner.emit(Instruction::SumChunks { partial, out: by_column, chunks: most, columns });
            }
            by_conditions = [unet.vector, unet.context].map(|value| planner.grads.get(&value).copied());
        }
        let Planner { instructions, buffers, stretches, .. } = planner;
        let mut ends = vec![by_column, prediction];
        ends.extend(by_conditions.into_iter().flatten());
        let instructions = prune(instructions, buffers.len(), &ends);
        let mut whole = inputs.to_vec();
        whole.extend([rates_buffer, by_column, prediction]);
        whole.extend((!stretches.is_empty()).then_some(partial));
        let mut lives = lifetimes(&instructions, buffers.len(), &whole);
        for buffer in by_conditions.into_iter().flatten() {
            if let Some(life) = &mut lives[buffer.0] {
                life.last = instructions.len();
            }
        }
        let host = instructions.iter().position(|i| matches!(i, Instruction::Host { .. })).ok_or(Error::NoPlan)?;
        let lanes = lanes(&instructions, buffers.len());
        loosen(&instructions, &lanes, host, &mut lives);
        let sizes: Vec<_> = buffers.iter().zip(&lives).map(|(info, life)| (info.bytes(narrow), *life)).collect();
        let arena = place(&sizes);
        Ok(Self {
            instructions,
            buffers,
            lives,
            arena,
            lanes,
            host,
            inputs,
            rates: rates_buffer,
            prediction,
            loss,
            by_column,
            stretches,
            by_conditions,
        })
    }

    /// What the memory goes into; `narrow` as in [`Program::plan`].
    pub fn books(&self, narrow: usize) -> Books {
        let across = |life: &Interval| life.first < self.host && self.host < life.last;
        let kept = self.buffers.iter().zip(&self.lives).filter(|(_, life)| life.as_ref().is_some_and(across));
        Books { arena: self.arena.bytes, kept: kept.map(|(info, _)| info.bytes(narrow)).sum() }
    }
}

fn rank(op: &Op) -> Option<usize> {
    match op {
        Op::Linear { stack, .. } | Op::Conv { stack, .. } => stack.map(|stack| stack.columns()),
        _ => None,
    }
}

impl Planner<'_> {
    /// Finds the values that a gradient flows back through: those downstream of a rated layer, and of the conditions.
    fn track(&mut self, wanted: Wanted, conditions: &[Value]) {
        let mut tracked = vec![false; self.tape.values.len()];
        if wanted.rates {
            conditions.iter().for_each(|value| tracked[value.0] = wanted.conditions);
            for node in &self.tape.nodes {
                tracked[node.output.0] = rank(&node.op).is_some() || node.inputs.iter().any(|value| tracked[value.0]);
            }
        }
        self.tracked = tracked;
    }

    /// Computes a segment again for its backward pass; what other segments read of it is still there.
    fn again(&mut self, segment: usize) {
        let nodes = self.nodes_of(segment);
        let elsewhere =
            |value: Value| self.tape.nodes.iter().any(|node| node.segment != segment && node.inputs.contains(&value));
        let boundary: Vec<_> =
            nodes.iter().map(|node| node.output).filter(|value| elsewhere(*value)).map(|v| (v, self.at(v))).collect();
        for node in nodes {
            self.forward(node);
            // Not the copy just made, which nothing then reads, but the one that is there.
            if let Some((value, place)) = boundary.iter().find(|(value, _)| *value == node.output) {
                self.places.insert(*value, *place);
            }
        }
    }
}
