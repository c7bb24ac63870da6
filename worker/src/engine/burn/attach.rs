//! Networks on the device: stacked along rank, layer by layer.

use super::rated::Stacked;
use crate::engine::Error;
use crate::engine::columns::{Arrangement, Columns, Touched, is_text, sizes};
use crate::source::convert;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::network::Network;
use std::collections::HashMap;
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

impl<B: Backend> Attached<B> {
    /// No network.
    pub(super) fn none() -> Self {
        Self { stacked: Arc::default(), columns: Vec::new(), touches_text: false, networks: 0 }
    }

    /// Copies the networks' factors on the layers that are `wanted` to the device as `dtype`.
    pub(super) fn new(
        networks: &[Network],
        wanted: impl Fn(&str) -> bool,
        device: &B::Device,
        dtype: DType,
    ) -> Result<Self, Error> {
        let Arrangement { columns, layers } = Arrangement::of(networks, wanted);
        let mut stacked = HashMap::new();
        for Touched { layer, modules, columns } in &layers {
            let (mut downs, mut ups) = (Vec::new(), Vec::new());
            for (network, module) in modules {
                let network = &networks[*network];
                let (inputs, outputs, kernel) = sizes(module.kind);
                let (down, up) = ([module.rank, inputs, kernel, kernel], [outputs, module.rank]);
                downs.push(Tensor::from_data(convert(&network.down(module)?, &down, dtype)?, (device, dtype)));
                ups.push(Tensor::from_data(convert(&network.up(module)?, &up, dtype)?, (device, dtype)));
            }
            let stack = Stacked { down: stack(downs, 0), up: stack(ups, 1), columns: *columns };
            stacked.insert((*layer).to_owned(), stack);
        }
        let touches_text = layers.iter().any(|touched| is_text(touched.layer));
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
            let (mine, others) = rest.split_at(columns.width().min(rest.len()));
            columns.pull(mine, &mut by_rate);
            rest = others;
        }
        by_rate
    }
}

fn stack<B: Backend, const D: usize>(mut parts: Vec<Tensor<B, D>>, axis: usize) -> Tensor<B, D> {
    if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, axis) }
}
