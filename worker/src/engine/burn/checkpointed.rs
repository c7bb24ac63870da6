//! The gradient with activation checkpointing: the forward pass keeps the output of each of the UNet's stages and
//! nothing within them; the backward pass computes each stage again, last to first.

use super::gradient::Grads;
use super::node::{Tracked, is_tracked, parent};
use super::ops::BurnOps;
use crate::engine::Error;
use crate::sdxl::unet::{Conditions, Unet};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// One checkpointed pass.
pub(super) struct Checkpointed<'a, B: Backend> {
    unet: &'a Unet<BurnOps<B>>,
    ops: &'a BurnOps<B>,
    /// The conditions as the text encoders and embeddings made them, gradients flowing.
    to: Conditions<BurnOps<B>>,
    noisy: Tracked<B, 4>,
    /// Output of each stage, cut off from what it was computed from.
    outputs: Vec<Tracked<B, 4>>,
    /// Whether any rate has an effect on that output.
    rated: Vec<bool>,
    /// Gradient by each stage's output, as far as it has come in.
    upstream: Vec<Option<Tensor<B, 4>>>,
    by_embedding: Option<Tensor<B, 3>>,
    by_context: Option<Tensor<B, 3>>,
    by_column: Vec<Tensor<B, 1>>,
}

impl<'a, B: Backend> Checkpointed<'a, B> {
    /// Runs all stages forward.
    pub(super) fn new(
        unet: &'a Unet<BurnOps<B>>,
        ops: &'a BurnOps<B>,
        noisy: Tracked<B, 4>,
        to: Conditions<BurnOps<B>>,
    ) -> Self {
        let by_column = ops.columns.iter().map(|column| column.clone().inner().zeros_like()).collect();
        let stages = unet.stages();
        let mut pass = Self {
            unet,
            ops,
            to,
            noisy,
            outputs: Vec::with_capacity(stages),
            rated: Vec::with_capacity(stages),
            upstream: vec![None; stages],
            by_embedding: None,
            by_context: None,
            by_column,
        };
        let free = ops.untracked();
        let held = Conditions { embedding: cut(&pass.to.embedding), context: cut(&pass.to.context) };
        let conditions_rated =
            is_tracked::<B>(&parent(&pass.to.embedding)) || is_tracked::<B>(&parent(&pass.to.context));
        for index in 0..stages {
            let x = pass.outputs.last().unwrap_or(&pass.noisy).clone();
            let skip = unet.skip_of(index);
            let before = pass.rated.last().copied().unwrap_or(conditions_rated);
            let output = unet.stage(&free, index, x, skip.map(|at| pass.outputs[at].clone()), &held);
            pass.rated.push(free.take_rated() || before || skip.is_some_and(|at| pass.rated[at]));
            pass.outputs.push(output);
        }
        pass
    }

    /// Runs back: `pull` starts from the model's output.
    pub(super) fn gradient(
        mut self,
        pull: impl FnOnce(Tracked<B, 4>) -> Result<Grads<B>, Error>,
    ) -> Result<Vec<Tensor<B, 1>>, Error> {
        let Some(last) = self.outputs.len().checked_sub(1) else { return Ok(self.by_column) };
        let x = self.input(last);
        let grads = pull(self.unet.output(self.ops, x.clone()))?;
        self.collect(&grads);
        self.upstream[last] = if self.rated[last] { x.grad(&grads) } else { None };
        for index in (0..=last).rev() {
            if let Some(g) = self.upstream[index].take() {
                self.stage(index, g);
            }
            self.outputs.truncate(index);
        }
        self.conditions();
        Ok(self.by_column)
    }

    /// Computes one stage again, and pulls `g`, the gradient of its output, back to its inputs.
    fn stage(&mut self, index: usize, g: Tensor<B, 4>) {
        let before = index.checked_sub(1);
        let skip = self.unet.skip_of(index);
        let x = before.map_or_else(|| self.noisy.clone(), |at| self.input(at));
        let y = skip.map(|at| self.input(at));
        let to = Conditions { embedding: leaf_like(&self.to.embedding), context: leaf_like(&self.to.context) };
        let output = self.unet.stage(self.ops, index, x.clone(), y.clone(), &to);
        let grads = (output * Tensor::from_inner(g)).sum().backward();
        self.collect(&grads);
        accumulate(&mut self.by_embedding, grad_of(&to.embedding, &grads));
        accumulate(&mut self.by_context, grad_of(&to.context, &grads));
        if let Some(at) = before {
            accumulate(&mut self.upstream[at], grad_of(&x, &grads));
        }
        if let (Some(at), Some(y)) = (skip, y) {
            accumulate(&mut self.upstream[at], grad_of(&y, &grads));
        }
    }

    /// What flowed back into the conditions goes on into the text encoders and embeddings.
    fn conditions(&mut self) {
        let parts =
            [(self.to.embedding.clone(), self.by_embedding.take()), (self.to.context.clone(), self.by_context.take())];
        let term = |(value, g): (Tracked<B, 3>, Option<Tensor<B, 3>>)| Some((value * Tensor::from_inner(g?)).sum());
        if let Some(root) = parts.into_iter().filter_map(term).reduce(|a, b| a + b) {
            self.collect(&root.backward());
        }
    }

    /// A stage's output as the beginning of a graph of its own, if any rate has an effect on it.
    fn input(&self, at: usize) -> Tracked<B, 4> {
        let output = cut(&self.outputs[at]);
        if self.rated[at] { output.require_grad() } else { output }
    }

    fn collect(&mut self, grads: &Grads<B>) {
        for (sum, column) in self.by_column.iter_mut().zip(&self.ops.columns) {
            if let Some(grad) = column.grad(grads) {
                *sum = sum.clone() + grad;
            }
        }
    }
}

fn cut<B: Backend, const D: usize>(x: &Tracked<B, D>) -> Tracked<B, D> {
    Tensor::from_inner(x.clone().inner())
}

fn leaf_like<B: Backend, const D: usize>(x: &Tracked<B, D>) -> Tracked<B, D> {
    if is_tracked::<B>(&parent(x)) { cut(x).require_grad() } else { cut(x) }
}

fn grad_of<B: Backend, const D: usize>(x: &Tracked<B, D>, grads: &Grads<B>) -> Option<Tensor<B, D>> {
    if is_tracked::<B>(&parent(x)) { x.grad(grads) } else { None }
}

fn accumulate<B: Backend, const D: usize>(sum: &mut Option<Tensor<B, D>>, term: Option<Tensor<B, D>>) {
    *sum = match (sum.take(), term) {
        (Some(sum), Some(term)) => Some(sum + term),
        (sum, term) => sum.or(term),
    };
}
