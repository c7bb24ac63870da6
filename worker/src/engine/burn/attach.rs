//! Networks on the device: stacked along rank, layer by layer.

use super::rated::Stacked;
use crate::engine::Error;
use crate::source::convert;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::network::{Module, Network};
use lora_rates_common::sdxl::LayerKind;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All networks of a search on the device.
pub(super) struct Attached<B: Backend> {
    /// By layer.
    pub(super) stacked: Arc<HashMap<String, Stacked<B>>>,
    /// The distinct sets of columns. Layers of one block with the same networks and ranks share one.
    columns: Vec<Columns>,
    /// Whether any network touches a text encoder.
    pub(super) touches_text: bool,
    /// How many networks.
    pub(super) networks: usize,
}

/// The columns of a stack: for each network in it, a run of `rank` of them.
#[derive(Clone, Debug, PartialEq)]
struct Columns(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// Place among the 20 N rates.
    rate: usize,
    rank: usize,
    scale: f32,
}

impl Columns {
    /// Rate times scale for each column.
    fn values(&self, rates: &[f32]) -> Vec<f32> {
        let value = |run: &Run| rates.get(run.rate).copied().unwrap_or(0.0) * run.scale;
        self.0.iter().flat_map(|run| std::iter::repeat_n(value(run), run.rank)).collect()
    }

    /// Adds the gradient by column to that by rate.
    fn pull(&self, by_column: &[f32], by_rate: &mut [f64]) {
        let mut rest = by_column;
        for run in &self.0 {
            let (mine, others) = rest.split_at(run.rank.min(rest.len()));
            rest = others;
            if let Some(rate) = by_rate.get_mut(run.rate) {
                *rate += mine.iter().copied().map(f64::from).sum::<f64>() * f64::from(run.scale);
            }
        }
    }
}

impl<B: Backend> Attached<B> {
    /// No network.
    pub(super) fn none() -> Self {
        Self { stacked: Arc::default(), columns: Vec::new(), touches_text: false, networks: 0 }
    }

    /// Copies the networks' factors to the device as `dtype`.
    pub(super) fn new(networks: &[Network], device: &B::Device, dtype: DType) -> Result<Self, Error> {
        let mut layers: BTreeMap<&str, Vec<(usize, &Module)>> = BTreeMap::new();
        for (index, network) in networks.iter().enumerate() {
            for module in &network.modules {
                layers.entry(&module.layer).or_default().push((index, module));
            }
        }
        let mut columns: Vec<Columns> = Vec::new();
        let mut stacked = HashMap::new();
        for (layer, modules) in &layers {
            let run = |(network, module): &(usize, &Module)| Run {
                rate: network * BLOCKS + module.block.index(),
                rank: module.rank,
                scale: module.scale,
            };
            let mine = Columns(modules.iter().map(run).collect());
            let place = columns.iter().position(|known| *known == mine).unwrap_or_else(|| {
                columns.push(mine);
                columns.len() - 1
            });
            let (mut downs, mut ups) = (Vec::new(), Vec::new());
            for (network, module) in modules {
                let network = &networks[*network];
                let (inputs, outputs, kernel) = sizes(module.kind);
                let (down, up) = ([module.rank, inputs, kernel, kernel], [outputs, module.rank]);
                downs.push(Tensor::from_data(convert(&network.down(module)?, &down, dtype)?, (device, dtype)));
                ups.push(Tensor::from_data(convert(&network.up(module)?, &up, dtype)?, (device, dtype)));
            }
            let stack = Stacked { down: stack(downs, 0), up: stack(ups, 1), columns: place };
            stacked.insert((*layer).to_owned(), stack);
        }
        let touches_text = layers.keys().any(|layer| layer.starts_with("text_encoder"));
        Ok(Self { stacked: Arc::new(stacked), columns, touches_text, networks: networks.len() })
    }

    /// Rate times scale of every set of columns.
    pub(super) fn values(&self, rates: &[f32]) -> Vec<Vec<f32>> {
        self.columns.iter().map(|columns| columns.values(rates)).collect()
    }

    /// The gradient by the 20 N rates from those of the sets of columns, which lie one after another in `by_column`.
    pub(super) fn pull(&self, by_column: &[f32]) -> Vec<f64> {
        let mut by_rate = vec![0.0; self.networks * BLOCKS];
        let mut rest = by_column;
        for columns in &self.columns {
            let width: usize = columns.0.iter().map(|run| run.rank).sum();
            let (mine, others) = rest.split_at(width.min(rest.len()));
            columns.pull(mine, &mut by_rate);
            rest = others;
        }
        by_rate
    }
}

fn stack<B: Backend, const D: usize>(mut parts: Vec<Tensor<B, D>>, axis: usize) -> Tensor<B, D> {
    if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, axis) }
}

fn sizes(kind: LayerKind) -> (usize, usize, usize) {
    match kind {
        LayerKind::Linear { inputs, outputs } => (inputs, outputs, 1),
        LayerKind::Conv { inputs, outputs, kernel, .. } => (inputs, outputs, kernel),
    }
}
