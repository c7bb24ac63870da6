//! Every instruction of whole plans, by our kernels and by the reference device, on the same numbers.

use super::error;
use super::model::{Planned, plan};
use super::simulator::Simulator;
use crate::engine::cuda::executor::Executor;
use crate::engine::cuda::parameters::{Parameter, Parameters};
use crate::engine::cuda::plan::{Buffer, Instruction, Program, Wanted};
use crate::engine::cuda::reference::Reference;
use crate::engine::cuda::tape::{Case, Element};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::random::{tensor, uniform};
use std::collections::BTreeMap;

/// What is compared with the reference: a device on which one instruction after another can be run.
pub(super) trait Subject {
    /// Takes a program and the parameters' numbers.
    fn prepare(&mut self, program: &Program, parameters: &Parameters, values: &[Vec<f32>]);
    /// Writes a buffer.
    fn write(&mut self, program: &Program, buffer: Buffer, values: &[f32]);
    /// Reads a buffer.
    fn read(&mut self, program: &Program, buffer: Buffer) -> Vec<f32>;
    /// Runs the instruction at this place.
    fn run(&mut self, at: usize);
}

/// Largest relative errors by kind of instruction, of narrow and of wide results.
pub(super) type Errors = BTreeMap<String, [f64; 2]>;

/// Runs a plan on both, instruction by instruction, each time from the subject's numbers.
pub(super) fn largest_errors(
    subject: &mut dyn Subject,
    case: Case,
    wanted: Wanted,
    rated: fn(&str) -> bool,
    packed: bool,
) -> Errors {
    let config = SdxlConfig::tiny();
    let Planned { program, mut parameters, .. } = plan(&config, case, wanted, 12, 2, rated);
    if packed {
        parameters.pack();
    }
    let Planned { program: wide, .. } = plan(&config, case, wanted, 12, 4, rated);
    assert_eq!(program.instructions, wide.instructions, "the width of numbers changes places alone");
    let mut reference = Reference::rounded();
    let value = |parameter: &Parameter| match parameter.shape.as_slice() {
        // Norms and biases that do something, and networks small beside their layers.
        [width] => uniform(&parameter.name, 1, 0.5, *width).into_iter().map(|x| x + 0.7).collect(),
        shape => tensor(&parameter.name, shape, 1),
    };
    let values: Vec<Vec<f32>> = parameters.iter().map(|(_, parameter)| value(parameter)).collect();
    for (id, parameter) in parameters.iter() {
        reference.store(id, parameter, &values[id.0]).unwrap();
    }
    subject.prepare(&program, &parameters, &values);
    let mut prepared = reference.prepare(wide.clone()).unwrap();
    reference.begin(&mut prepared).unwrap();
    let draw = |name: &str, buffer: Buffer| uniform(name, 2, 1.5, program.buffers[buffer.0].count);
    for buffer in program.inputs.into_iter().chain([program.rates]) {
        subject.write(&program, buffer, &draw(&format!("input {}", buffer.0), buffer));
    }
    let mut errors = Errors::new();
    for (at, instruction) in program.instructions.iter().enumerate() {
        if let Instruction::Host { loss: Some([target, slopes]), .. } = instruction {
            subject.write(&program, *target, &draw("target", *target));
            subject.write(&program, *slopes, &draw("slopes", *slopes));
        }
        for buffer in instruction.reads() {
            let values = subject.read(&program, buffer);
            reference.write(&mut prepared, buffer, &values).unwrap();
        }
        if let Instruction::RateGradient { partial, .. } = instruction {
            let values = subject.read(&program, *partial);
            reference.write(&mut prepared, *partial, &values).unwrap();
        }
        subject.run(at);
        reference.execute(&wide, instruction).unwrap();
        for buffer in instruction.writes() {
            let written = |values: Vec<f32>| -> Vec<f32> {
                match instruction {
                    // Of all layers' columns its own.
                    Instruction::RateGradient { partial, columns, to, rank, .. } if *partial == buffer => {
                        values.chunks_exact(*columns).flat_map(|chunk| chunk[*to..to + rank].to_vec()).collect()
                    }
                    _ => values,
                }
            };
            if matches!(instruction, Instruction::Host { .. }) {
                continue;
            }
            let got = written(subject.read(&program, buffer));
            let want = written(reference.read(&mut prepared, buffer).unwrap());
            assert!(want.iter().any(|x| *x != 0.0), "{instruction:?} gives nothing but zeros");
            let error = error(&got, &want);
            assert!(error.is_finite(), "{instruction:?}: {error}");
            let name = format!("{instruction:?}").split(' ').next().unwrap().to_owned();
            let slot = usize::from(program.buffers[buffer.0].element == Element::Wide);
            let largest = errors.entry(name).or_default();
            largest[slot] = largest[slot].max(error);
        }
    }
    errors
}

/// Asserts that errors are those of rounding.
pub(super) fn judge(errors: &Errors) {
    for (name, [narrow, wide]) in errors {
        eprintln!("{name}: narrow {narrow:.1e}, wide {wide:.1e}");
        // Half a step of bfloat16 is 2^-9, and convolutions round twice. Attention rounds its probabilities too, and the
        // gradients of its scores, whose sum over the keys is 0: where keys are much alike, that rounding is all that is left.
        let bound = if name == "AttentionBackward" { 3e-2 } else { 5e-3 };
        assert!(*narrow < bound, "{name}: narrow results are off by {narrow:.1e}");
        assert!(*wide < 2e-5, "{name}: wide results are off by {wide:.1e}");
    }
    assert!(errors.len() >= 20, "a plan that misses operations: {:?}", errors.keys());
}

#[test]
fn kernels_give_what_the_reference_gives_for_every_instruction() {
    let Some(mut simulator) = Simulator::start() else { return };
    let wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: true };
    let case = Case { batch: 2, height: 12, width: 8, tokens: 77 };
    judge(&largest_errors(&mut simulator, case, wanted, |_| true, false));
}

#[test]
fn kernels_unpack_weights_of_eight_bits_as_the_reference_does() {
    let Some(mut simulator) = Simulator::start() else { return };
    let wanted = Wanted { rates: true, conditions: true, checkpointing: false, merging: false };
    let case = Case { batch: 1, height: 8, width: 8, tokens: 77 };
    judge(&largest_errors(&mut simulator, case, wanted, |_| true, true));
}
