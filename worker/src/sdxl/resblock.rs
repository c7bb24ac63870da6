//! The residual block of the UNet, and its changes of size.

use crate::ops::{ConvShape, Loader, Ops};

const EPS: f64 = 1e-5;

/// Two convolutions with the timestep's embedding added between them.
pub struct ResBlock<O: Ops> {
    in_norm: O::Norm,
    in_conv: O::Conv,
    embedding: O::Linear,
    out_norm: O::Norm,
    out_conv: O::Conv,
    skip: Option<O::Conv>,
}

impl<O: Ops> ResBlock<O> {
    /// Loads the block `name` from `inputs` to `outputs` channels, with an embedding of width `embedding`.
    ///
    /// # Errors
    /// Those of the loader.
    pub fn load<L: Loader<Ops = O>>(
        loader: &mut L,
        name: &str,
        inputs: usize,
        outputs: usize,
        embedding: usize,
    ) -> Result<Self, L::Error> {
        Ok(Self {
            in_norm: loader.norm(&format!("{name}.in_layers.0"), inputs)?,
            in_conv: loader.conv(&format!("{name}.in_layers.2"), ConvShape::same3(inputs, outputs))?,
            embedding: loader.linear(&format!("{name}.emb_layers.1"), embedding, outputs, true)?,
            out_norm: loader.norm(&format!("{name}.out_layers.0"), outputs)?,
            out_conv: loader.conv(&format!("{name}.out_layers.3"), ConvShape::same3(outputs, outputs))?,
            skip: match inputs == outputs {
                true => None,
                false => Some(loader.conv(&format!("{name}.skip_connection"), ConvShape::pointwise(inputs, outputs))?),
            },
        })
    }

    /// `x` `[b, inputs, h, w]`; `embedding` `[b, 1, embedding]`, already through SiLU.
    pub fn forward(&self, ops: &O, x: O::Image, embedding: O::Tokens) -> O::Image {
        let y = ops.group_norm(&self.in_norm, x.clone(), EPS, true);
        let y = ops.conv(&self.in_conv, y);
        let y = ops.add_to_pixels(y, ops.linear(&self.embedding, embedding));
        let y = ops.group_norm(&self.out_norm, y, EPS, true);
        let y = ops.conv(&self.out_conv, y);
        let x = match &self.skip {
            None => x,
            Some(skip) => ops.conv(skip, x),
        };
        ops.add_image(x, y)
    }
}
