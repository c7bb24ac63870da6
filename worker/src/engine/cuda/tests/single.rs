//! Single kernels at the sizes of the real model, where tiles, groups and stretches are cut off elsewhere than in a tiny one.

use super::error;
use super::kernels::Subject;
use super::simulator::Simulator;
use crate::engine::cuda::executor::Executor;
use crate::engine::cuda::parameters::{Form, Parameter, Parameters};
use crate::engine::cuda::plan::{
    Buffer, BufferInfo, CHUNK, Heads, Instruction, Interval, Lane, Program, SideBySide, chunks, place,
};
use crate::engine::cuda::reference::Reference;
use crate::engine::cuda::tape::{Element, GROUPS, Norm, Shape};
use lora_rates_common::sdxl::random::uniform;

use Element::{Narrow, Wide};

/// Instructions over buffers of these types and sizes, which all live all the time.
struct Trial {
    instructions: Vec<Instruction>,
    buffers: Vec<(Element, usize)>,
    parameters: Parameters,
    /// Buffers that are filled before.
    given: Vec<usize>,
    /// Buffers that are compared after.
    compared: Vec<usize>,
}

impl Trial {
    /// The program with places for narrow numbers of so many bytes.
    fn program(&self, narrow: usize) -> Program {
        let life = Some(Interval { first: 0, last: self.instructions.len() });
        let size = |(element, count): &(Element, usize)| count * if *element == Wide { 4 } else { narrow };
        let places: Vec<_> = self.buffers.iter().map(|buffer| (size(buffer), life)).collect();
        let info = |(element, count): &(Element, usize)| BufferInfo { element: *element, count: *count };
        Program {
            instructions: self.instructions.clone(),
            buffers: self.buffers.iter().map(info).collect(),
            lives: vec![life; self.buffers.len()],
            arena: place(&places),
            lanes: vec![Lane::Main; self.instructions.len()],
            host: 0,
            inputs: [Buffer(0); 4],
            rates: Buffer(0),
            prediction: Buffer(0),
            loss: None,
            by_column: Buffer(0),
            stretches: Vec::new(),
            by_conditions: [None; 2],
        }
    }

    /// Compares a subject with the reference: bounds for narrow and wide results.
    #[track_caller]
    fn compare(&self, what: &str, subject: &mut dyn Subject, bounds: [f64; 2]) {
        let (narrow, wide) = (self.program(2), self.program(4));
        let mut reference = Reference::rounded();
        let value = |parameter: &Parameter| -> Vec<f32> {
            uniform(&parameter.name, 3, 0.5, parameter.count()).iter().map(|x| x + 0.75).collect()
        };
        let values: Vec<Vec<f32>> = self.parameters.iter().map(|(_, parameter)| value(parameter)).collect();
        for (id, parameter) in self.parameters.iter() {
            reference.store(id, parameter, &values[id.0]).unwrap();
        }
        subject.prepare(&narrow, &self.parameters, &values);
        let mut prepared = reference.prepare(wide.clone()).unwrap();
        reference.begin(&mut prepared).unwrap();
        for buffer in self.given.iter().copied().map(Buffer) {
            let values = uniform(&buffer.0.to_string(), 4, 2.0, narrow.buffers[buffer.0].count);
            subject.write(&narrow, buffer, &values);
            reference.write(&mut prepared, buffer, &values).unwrap();
        }
        (0..narrow.instructions.len()).for_each(|at| subject.run(at));
        wide.instructions.iter().for_each(|instruction| reference.execute(&wide, instruction).unwrap());
        for buffer in self.compared.iter().copied().map(Buffer) {
            let off = error(&subject.read(&narrow, buffer), &reference.read(&mut prepared, buffer).unwrap());
            eprintln!("{what}: buffer {} off by {off:.1e}", buffer.0);
            let bound = bounds[usize::from(narrow.buffers[buffer.0].element == Wide)];
            assert!(off < bound, "{what}: buffer {} is off by {off:.1e}", buffer.0);
        }
    }
}

fn norm(parameters: &mut Parameters, channels: usize) -> Norm {
    let mut add = |name: &str| {
        parameters.add(Parameter {
            name: name.into(),
            also: Vec::new(),
            shape: vec![channels],
            form: Form::Plain,
            element: Wide,
            packed: false,
        })
    };
    Norm { scale: add("scale"), shift: add("shift") }
}

/// Attention and its gradients.
pub(super) fn attention(subject: &mut dyn Subject, sizes: Heads) {
    let Heads { batch, heads, queries, keys, causal, side_by_side, .. } = sizes;
    let [of_q, of_k] = sizes.strides();
    let (of_o, of_q) = ((Narrow, batch * queries * sizes.channels()), (Narrow, batch * queries * of_q));
    let of_k = (Narrow, batch * keys * of_k);
    // Those that lie side by side are the first's buffer.
    let [k, v] = match side_by_side {
        SideBySide::Nothing => [1, 2],
        SideBySide::Keys => [1, 1],
        SideBySide::All => [0, 0],
    };
    let [q, k, v, by_q, by_k, by_v] = [0, k, v, 6, 6 + k, 6 + v].map(Buffer);
    let [o, sums, g] = [3, 4, 5].map(Buffer);
    let by_kv = Some([by_k, by_v]);
    let trial = Trial {
        instructions: vec![
            Instruction::Attention { q, k, v, out: o, sums, sizes },
            Instruction::AttentionBackward { q, k, v, o, sums, g, by_q, by_kv, sizes },
        ],
        buffers: vec![of_q, of_k, of_k, of_o, (Wide, batch * heads * queries), of_o, of_q, of_k, of_k],
        parameters: Parameters::default(),
        given: vec![0, 1, 2, 5],
        compared: vec![3, 4, by_q.0, by_k.0, by_v.0],
    };
    let what = format!("{queries} over {keys}, causal {causal}, side by side {side_by_side:?}");
    trial.compare(&what, subject, [8e-3, 1e-6]);
}

/// The trials of attention that fit a test on the processor: full and cut off tiles.
pub(super) const ATTENTIONS: [(usize, usize, bool, SideBySide); 7] = [
    (64, 64, false, SideBySide::Nothing),
    (70, 130, false, SideBySide::Nothing),
    (9, 77, false, SideBySide::Keys),
    (70, 130, false, SideBySide::Keys),
    (130, 130, false, SideBySide::All),
    (77, 77, true, SideBySide::Nothing),
    (130, 130, true, SideBySide::All),
];

#[test]
fn attention_is_right_for_tiles_that_are_full_or_cut_off_and_for_the_past_alone() {
    let Some(mut simulator) = Simulator::start() else { return };
    for (queries, keys, causal, side_by_side) in ATTENTIONS {
        attention(&mut simulator, Heads { batch: 2, heads: 2, size: 64, queries, keys, causal, side_by_side });
    }
}

/// Group norm with SiLU and layer norm with their gradients, of so many channels.
pub(super) fn norms(subject: &mut dyn Subject, shape: Shape) {
    let [x, out, statistics, g, addend, by_x] = [0, 1, 2, 3, 4, 5].map(Buffer);
    let (channels, mut parameters) = (shape.channels, Parameters::default());
    let (norm, rows) = (norm(&mut parameters, channels), shape.rows());
    let group = [
        Instruction::GroupNorm { x, norm, eps: 1e-5, silu: true, out, statistics, shape },
        Instruction::GroupNormBackward { x, norm, silu: true, statistics, g, addend: Some(addend), out: by_x, shape },
    ];
    let layer = [
        Instruction::LayerNorm { x, norm, out, statistics, rows, channels },
        Instruction::LayerNormBackward { x, norm, statistics, g, addend: None, out: by_x, rows, channels },
    ];
    for (what, instructions, kept) in [("group", group, shape.batch * GROUPS * 2), ("layer", layer, 2 * rows)] {
        let numbers = (Narrow, shape.count());
        let trial = Trial {
            instructions: instructions.to_vec(),
            buffers: vec![numbers, numbers, (Wide, kept), numbers, numbers, numbers],
            parameters: parameters.clone(),
            given: vec![0, 3, 4],
            compared: vec![1, 2, 5],
        };
        trial.compare(&format!("{what} norm of {channels}"), subject, [2e-3, 5e-6]);
    }
}

/// All widths of the model, and one that leaves lanes without numbers.
pub(super) const NORMS: [usize; 7] = [32, 320, 640, 960, 1280, 1920, 2560];

#[test]
fn norms_are_right_for_all_widths_of_the_model() {
    let Some(mut simulator) = Simulator::start() else { return };
    for channels in NORMS {
        norms(&mut simulator, Shape { batch: 2, height: 9, width: 7, channels });
    }
}

/// The gradient by rates of a layer, and what goes on below it.
pub(super) fn rate_gradient(subject: &mut dyn Subject, rows: usize, rank: usize) {
    let [h, gh, rates, partial, by_column, out] = [0, 1, 2, 3, 4, 5].map(Buffer);
    // One chunk more than this layer has, and another's columns on either side, which are not compared.
    let (from, to, chunks, columns) = (8, 3, chunks(rows) + 1, rank + 5);
    let gradient =
        Instruction::RateGradient { h, gh, rates, from, partial, chunks, columns, to, out: Some(out), rows, rank };
    let sum = Instruction::SumChunks { partial, out: by_column, chunks, columns };
    let trial = Trial {
        instructions: vec![gradient, sum],
        buffers: vec![
            (Narrow, rows * rank),
            (Wide, rows * rank),
            (Wide, from + rank),
            (Wide, chunks * columns),
            (Wide, columns),
            (Narrow, rows * rank),
        ],
        parameters: Parameters::default(),
        given: vec![0, 1, 2, 3],
        compared: vec![4, 5],
    };
    trial.compare(&format!("{rows} rows of rank {rank}"), subject, [1e-6, 1e-5]);
}

#[test]
fn rate_gradients_are_right_where_rows_and_ranks_fill_no_block() {
    let Some(mut simulator) = Simulator::start() else { return };
    for (rows, rank) in [(1, 8), (77, 40), (CHUNK + 1, 32), (5 * CHUNK - 3, 72)] {
        rate_gradient(&mut simulator, rows, rank);
    }
}
