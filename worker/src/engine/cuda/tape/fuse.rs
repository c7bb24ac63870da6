//! Residual sums go into the epilogue of the product before them, biases of convolutions into the sum after them.

use super::{Bias, Node, Op, Tape, Value};
use std::collections::HashMap;

/// Makes `x + linear(y)` one node where x has the sum's type and nothing else reads `linear(y)`. The product then takes the
/// place of the sum, where all of its inputs are there. A sum with a convolution stays, to add that one's bias.
pub fn fuse_residuals(tape: &mut Tape) {
    let mut uses: HashMap<Value, usize> = HashMap::new();
    let mut producers: HashMap<Value, usize> = HashMap::new();
    for (place, node) in tape.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|input| *uses.entry(*input).or_default() += 1);
        producers.insert(node.output, place);
    }
    let mut gone = vec![false; tape.nodes.len()];
    for place in 0..tape.nodes.len() {
        let Node { op: Op::Add { .. }, inputs, output, segment } = &tape.nodes[place] else { continue };
        let [a, b] = [inputs[0], inputs[1]];
        let product = |value: Value| {
            let producer = *producers.get(&value)?;
            let node = &tape.nodes[producer];
            let plain = matches!(node.op, Op::Linear { .. }) && node.inputs.len() == 1 && node.segment == *segment;
            (plain && !gone[producer] && uses.get(&value) == Some(&1)).then_some(producer)
        };
        let addend = |value: Value| {
            let conv = producers.get(&value).is_some_and(|at| matches!(tape.nodes[*at].op, Op::Conv { .. }));
            !conv && tape.kind(value).element == tape.kind(*output).element
        };
        let found = match (product(b), product(a)) {
            (Some(producer), _) if addend(a) => (producer, a),
            (_, Some(producer)) if addend(b) => (producer, b),
            _ => continue,
        };
        let (producer, residual) = found;
        let (op, x) = (tape.nodes[producer].op, tape.nodes[producer].inputs[0]);
        let fused = Node { op, inputs: vec![x, residual], output: *output, segment: *segment };
        tape.nodes[place] = fused;
        gone[producer] = true;
    }
    let mut places = gone.into_iter();
    tape.nodes.retain(|_| !places.next().unwrap_or(false));
}

/// Leaves the bias of a convolution to the sum that alone reads its result: cuDNN's convolutions add none, and a pass of its
/// own would read and write all of it.
pub fn fuse_biases(tape: &mut Tape) {
    let mut uses: HashMap<Value, usize> = HashMap::new();
    tape.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| *uses.entry(*input).or_default() += 1);
    let mut biases: HashMap<Value, (usize, Bias)> = HashMap::new();
    for (place, node) in tape.nodes.iter().enumerate() {
        if let (Op::Conv { bias: Some(bias), .. }, Some(1)) = (node.op, uses.get(&node.output)) {
            biases.insert(node.output, (place, bias));
        }
    }
    for place in 0..tape.nodes.len() {
        let Node { op, inputs, .. } = &mut tape.nodes[place];
        let (bias, inputs) = match op {
            Op::Add { bias } => (bias, inputs.as_slice()),
            Op::AddToPixels { bias } => (bias, &inputs[..1]),
            _ => continue,
        };
        let Some((conv, left)) = inputs.iter().find_map(|input| biases.remove(input)) else { continue };
        *bias = Some(left);
        if let Op::Conv { bias, .. } = &mut tape.nodes[conv].op {
            *bias = None;
        }
    }
}
