//! Nodes of burn's autodiff graph whose backward pass is written by hand.
//!
//! burn's own operations keep their inputs for gradients that nobody asks for here (a convolution keeps its input even
//! if its weight is frozen) and split a norm or an attention into a dozen nodes that keep something each. A node of ours
//! keeps what its closure captures, nothing else, and only where a gradient will flow.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorPrimitive};
use std::fmt;
use std::sync::Arc;

/// A tensor that gradients flow through.
pub(super) type Tracked<B, const D: usize> = Tensor<Autodiff<B>, D>;

/// Gradients of a node's parents, in their order; `None` for those that need none.
pub(super) type ParentGrads<B, const N: usize> = [Option<FloatTensor<B>>; N];

type Pull<B, const D: usize, const N: usize> = dyn Fn(Tensor<B, D>) -> ParentGrads<B, N> + Send + Sync;

struct Pullback<B: Backend, const D: usize, const N: usize>(Arc<Pull<B, D, N>>);

impl<B: Backend, const D: usize, const N: usize> Clone for Pullback<B, D, N> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B: Backend, const D: usize, const N: usize> fmt::Debug for Pullback<B, D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pullback")
    }
}

#[derive(Debug)]
struct Node<const D: usize>;

impl<B: Backend, const D: usize, const N: usize> Backward<B, N> for Node<D> {
    type State = Pullback<B, D, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let parents = (ops.state.0)(untracked(grad));
        for (node, grad) in ops.parents.into_iter().zip(parents) {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

/// Makes a node with this `output`, whose gradient `backward` pulls back to the `parents`.
pub(super) fn node<B: Backend, const N: usize, const D: usize>(
    parents: [FloatTensor<Autodiff<B>>; N],
    output: Tensor<B, D>,
    backward: impl Fn(Tensor<B, D>) -> ParentGrads<B, N> + Send + Sync + 'static,
) -> Tracked<B, D> {
    let nodes = parents.map(|parent| parent.node);
    let output = output.into_primitive().tensor();
    let prepared = Backward::<B, N>::prepare::<NoCheckpointing>(Node::<D>, nodes);
    let output = match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(Pullback(Arc::new(backward)), output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// The autodiff primitive of a tensor, to be a parent.
pub(super) fn parent<B: Backend, const D: usize>(x: &Tracked<B, D>) -> FloatTensor<Autodiff<B>> {
    x.clone().into_primitive().tensor()
}

/// Whether a gradient will be asked of this parent.
pub(super) fn is_tracked<B: Backend>(parent: &FloatTensor<Autodiff<B>>) -> bool {
    parent.is_tracked()
}

/// The tensor of a primitive.
pub(super) fn untracked<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The primitive of a gradient.
pub(super) fn grad<B: Backend, const D: usize>(x: Tensor<B, D>) -> Option<FloatTensor<B>> {
    Some(x.into_primitive().tensor())
}
