//! One microbatch: prediction, loss, and the gradient by the rates.

use super::checkpointed::Checkpointed;
use super::node::Tracked;
use super::ops::BurnOps;
use super::text::Text;
use super::{BurnEngine, read};
use crate::engine::loss::{judge, noisy};
use crate::engine::{Error, Gradient, Microbatch, Shown};
use crate::ops::Ops;
use crate::sdxl::embedding::sinusoids;
use crate::sdxl::unet::Conditions;
use burn::backend::Autodiff;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{DType, Tensor, TensorData};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::tokenizer::Tokens;

/// Gradients that a backward pass found.
pub(super) type Grads<B> = <Autodiff<B> as AutodiffBackend>::Gradients;

/// The operations of one pass, and the leaves that gradients are asked of.
pub(super) struct Pass<B: Backend> {
    ops: BurnOps<B>,
}

impl<B: Backend> Pass<B> {
    /// With the engine's networks at these rates; gradients are found only if `tracked`.
    pub(super) fn new(engine: &BurnEngine<B>, rates: &[f32], tracked: bool) -> Result<Self, Error> {
        let wanted = engine.attached.networks * BLOCKS;
        if rates.len() != wanted {
            return Err(Error::Request(format!("{} rates were given, the networks have {wanted}", rates.len())));
        }
        let leaf = |values: Vec<f32>| {
            let width = values.len();
            let data = TensorData::new(values, [width]);
            let column = Tracked::<B, 1>::from_inner(Tensor::from_data(data, (&engine.device, DType::F32)));
            if tracked { column.require_grad() } else { column }
        };
        let columns = engine.attached.values(rates).into_iter().map(leaf).collect();
        Ok(Self { ops: BurnOps::new(engine.attached.stacked.clone(), columns) })
    }

    /// Gradients of the sets of columns.
    fn by_leaf(&self, grads: &Grads<B>) -> Vec<Tensor<B, 1>> {
        let of = |leaf: &Tracked<B, 1>| leaf.grad(grads).unwrap_or_else(|| leaf.clone().inner().zeros_like());
        self.ops.columns.iter().map(of).collect()
    }

    /// The same on the host, one after another.
    pub(super) fn by_column(&self, grads: &Grads<B>) -> Result<Vec<f32>, Error> {
        joined(self.by_leaf(grads))
    }

    /// The prompts encoded, from memory if no network changes the text encoders.
    pub(super) fn text(&self, engine: &mut BurnEngine<B>, prompts: &[Tokens]) -> Result<Text<B>, Error> {
        match engine.attached.touches_text {
            true => Ok(engine.text.encode(&self.ops, prompts)),
            false => engine.text.recall(prompts).map(|text| engine.text.bring(text, prompts.len())),
        }
    }
}

fn joined<B: Backend>(parts: Vec<Tensor<B, 1>>) -> Result<Vec<f32>, Error> {
    if parts.is_empty() { Ok(Vec::new()) } else { read(Tensor::cat(parts, 0)) }
}

/// The prediction alone.
pub(super) fn predict<B: Backend>(
    engine: &mut BurnEngine<B>,
    shown: &Shown<'_>,
    rates: &[f32],
) -> Result<Vec<f32>, Error> {
    let pass = Pass::new(engine, rates, false)?;
    let text = pass.text(engine, shown.prompts)?;
    let to = conditions(engine, &pass.ops, shown, text)?;
    let noisy = Tensor::from_inner(image(engine, shown.noisy.to_vec(), shown, engine.dtype()));
    let prediction = read(engine.unet()?.forward(&pass.ops, noisy, &to).inner())?;
    drop((pass, to));
    sweep(engine);
    Ok(prediction)
}

/// burn's graph takes a note of every operation, of those without gradients too, and only a backward pass throws away what
/// is of no more use: a process that only predicts would grow by a megabyte a second.
fn sweep<B: Backend>(engine: &BurnEngine<B>) {
    Tracked::<B, 1>::zeros([1], (&engine.device, DType::F32)).require_grad().sum().backward();
}

/// Computes a microbatch on the engine's model and networks.
pub(super) fn gradient<B: Backend>(
    engine: &mut BurnEngine<B>,
    batch: &Microbatch,
    rates: &[f32],
    options: &LossOptions,
) -> Result<Gradient, Error> {
    batch.validate(engine.source.config().unet.in_channels)?;
    let noisy = noisy(batch)?;
    let shown = batch.shown(&noisy);
    let pass = Pass::new(engine, rates, true)?;
    let text = pass.text(engine, &batch.prompts)?;
    let (engine, ops) = (&*engine, &pass.ops);
    let unet = engine.unet()?;
    let to = conditions(engine, ops, &shown, text)?;
    let x = Tensor::from_inner(image(engine, noisy.clone(), &shown, engine.dtype()));
    // Judges the output, and pulls the loss back from it through what the operations have kept.
    let mut found = None;
    let mut pull = |output: Tracked<B, 4>| {
        let prediction = read(output.clone().inner())?;
        let judged = judge(batch, options, &prediction)?;
        let g = image(engine, judged.grad.clone(), &shown, DType::F32);
        found = Some((prediction, judged));
        Ok((output.cast(DType::F32) * Tensor::from_inner(g)).sum().backward())
    };
    let by_column = if ops.columns.is_empty() {
        // Without networks there is nothing to pull back to, only a loss.
        let prediction = read(unet.forward(ops, x, &to).inner())?;
        let judged = judge(batch, options, &prediction)?;
        found = Some((prediction, judged));
        Vec::new()
    } else if engine.options.gradient_checkpointing {
        Checkpointed::new(unet, ops, x, to).gradient(pull)?
    } else {
        let grads = pull(unet.forward(ops, x, &to))?;
        pass.by_leaf(&grads)
    };
    let Some((prediction, judged)) = found else {
        return Err(Error::Request("the model has no stages".into()));
    };
    let by_column = joined(by_column)?;
    let grad = engine.attached.pull(&by_column);
    Ok(Gradient { prediction, mse: judged.mse, loss: judged.loss, grad })
}

/// Embeds timesteps, sizes and pooled text.
fn conditions<B: Backend>(
    engine: &BurnEngine<B>,
    ops: &BurnOps<B>,
    shown: &Shown<'_>,
    text: Text<B>,
) -> Result<Conditions<BurnOps<B>>, Error> {
    let config = engine.source.config();
    let timesteps: Vec<f32> = shown.timesteps.iter().map(|t| *t as f32).collect();
    let sizes: Vec<f32> = shown.time_ids.iter().flatten().copied().collect();
    let samples = timesteps.len();
    let vector = |values: Vec<f32>| -> Tracked<B, 3> {
        let width = values.len() / samples.max(1);
        let data = TensorData::new(values, [samples, 1, width]).convert_dtype(engine.dtype());
        Tensor::from_inner(Tensor::from_data(data, (&engine.device, engine.dtype())))
    };
    let time = vector(sinusoids(&timesteps, config.unet.model_channels));
    let sizes = vector(sinusoids(&sizes, config.size_embedding_width()));
    let embedding = engine.unet()?.embed(ops, time, ops.concat(text.pooled, sizes));
    Ok(Conditions { embedding, context: text.context })
}

fn image<B: Backend>(engine: &BurnEngine<B>, values: Vec<f32>, shown: &Shown<'_>, dtype: DType) -> Tensor<B, 4> {
    let channels = engine.source.config().unet.in_channels;
    let shape = [shown.timesteps.len(), channels, shown.height, shown.width];
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (&engine.device, dtype))
}
