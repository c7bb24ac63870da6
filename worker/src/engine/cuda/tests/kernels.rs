//! Every instruction of whole plans, by our kernels and by the reference device, on the same numbers.

use super::error;
use super::model::{Planned, plan};
use super::simulator::Simulator;
use crate::engine::cuda::executor::Executor;
use crate::engine::cuda::launch::lower;
use crate::engine::cuda::plan::{Buffer, Instruction, Wanted};
use crate::engine::cuda::reference::Reference;
use crate::engine::cuda::tape::{Case, Element};
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::random::{tensor, uniform};
use std::collections::BTreeMap;

/// Runs a plan on both, instruction by instruction, each time from the simulator's numbers; returns the largest relative
/// error by kind of instruction, of narrow and of wide results.
fn largest_errors(case: Case, wanted: Wanted, rated: fn(&str) -> bool) -> Option<BTreeMap<String, [f64; 2]>> {
    let mut simulator = Simulator::start()?;
    let config = SdxlConfig::tiny();
    let Planned { program, parameters, .. } = plan(&config, case, wanted, 12, 2, rated);
    let Planned { program: wide, .. } = plan(&config, case, wanted, 12, 4, rated);
    assert_eq!(program.instructions, wide.instructions, "the width of numbers changes places alone");
    let steps = lower(&program).unwrap();
    let mut reference = Reference::rounded();
    simulator.prepare(&program, &steps, &parameters);
    for (id, parameter) in parameters.iter() {
        // Norms and biases that do something, and networks small beside their layers.
        let values = match parameter.shape.as_slice() {
            [width] => uniform(&parameter.name, 1, 0.5, *width).into_iter().map(|x| x + 0.7).collect(),
            shape => tensor(&parameter.name, shape, 1),
        };
        reference.store(id, parameter, &values).unwrap();
        simulator.store(id.0, parameter, &values);
    }
    let mut prepared = reference.prepare(wide.clone()).unwrap();
    reference.begin(&mut prepared).unwrap();
    let draw = |name: &str, buffer: Buffer| uniform(name, 2, 1.5, program.buffers[buffer.0].count);
    for buffer in program.inputs.into_iter().chain([program.rates]) {
        simulator.write(&program, buffer, &draw(&format!("input {}", buffer.0), buffer));
    }
    let mut errors: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for (instruction, steps) in program.instructions.iter().zip(&steps.by_instruction) {
        if let Instruction::Host { gradient: Some(gradient), .. } = instruction {
            simulator.write(&program, *gradient, &draw("gradient", *gradient));
        }
        for buffer in instruction.reads() {
            let values = simulator.read(&program, buffer);
            reference.write(&mut prepared, buffer, &values).unwrap();
        }
        if let Instruction::RateGradient { by_column, .. } = instruction {
            let values = simulator.read(&program, *by_column);
            reference.write(&mut prepared, *by_column, &values).unwrap();
        }
        steps.iter().for_each(|step| simulator.run(step));
        reference.execute(&wide, instruction).unwrap();
        // Partial sums are the kernels' own affair.
        let partial = match instruction {
            Instruction::RateGradient { partial, .. } => Some(*partial),
            _ => None,
        };
        for buffer in instruction.writes().into_iter().filter(|buffer| Some(*buffer) != partial) {
            let written = |values: Vec<f32>| -> Vec<f32> {
                match instruction {
                    Instruction::RateGradient { by_column, to, rank, .. } if *by_column == buffer => {
                        values[*to..to + rank].to_vec()
                    }
                    _ => values,
                }
            };
            if matches!(instruction, Instruction::Host { .. }) {
                continue;
            }
            let got = written(simulator.read(&program, buffer));
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
    Some(errors)
}

#[test]
fn kernels_give_what_the_reference_gives_for_every_instruction() {
    let wanted = Wanted { rates: true, conditions: true, checkpointing: false };
    let case = Case { batch: 2, height: 12, width: 8, tokens: 77 };
    let Some(errors) = largest_errors(case, wanted, |_| true) else { return };
    for (name, [narrow, wide]) in &errors {
        eprintln!("{name}: narrow {narrow:.1e}, wide {wide:.1e}");
        // Half a step of bfloat16 is 2^-9, and convolutions round twice. Attention rounds its probabilities too, and the gradients of its scores, whose
        // sum over the keys is 0: where keys are much alike, that rounding is all that is left.
        let bound = if name == "AttentionBackward" { 2e-2 } else { 5e-3 };
        assert!(*narrow < bound, "{name}: narrow results are off by {narrow:.1e}");
        assert!(*wide < 2e-5, "{name}: wide results are off by {wide:.1e}");
    }
    assert!(errors.len() >= 20, "a plan that misses operations: {:?}", errors.keys());
}
