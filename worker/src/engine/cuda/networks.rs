//! Networks as stacks on the tape: factors side by side along rank, padded with zeros.

use super::Error;
use super::executor::Executor;
use super::parameters::{Form, Parameter, Parameters};
use super::plan::Stretch;
use super::tape::{Element, RANK_STEP, Stack, Stacks};
use crate::engine;
use crate::engine::columns::{Arrangement, Columns, Touched, is_text, sizes};
use crate::source::convert;
use burn::tensor::{DType, TensorData};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::network::Network;
use std::collections::HashMap;
use std::sync::Arc;

/// All networks of a search on the UNet.
#[derive(Default)]
pub(super) struct Networks {
    pub(super) stacks: Stacks,
    columns: Vec<Columns>,
    /// Where each set of columns begins in the buffer of rates.
    starts: Vec<usize>,
    /// Length of that buffer.
    pub(super) width: usize,
    /// How many networks.
    pub(super) count: usize,
}

/// One layer's factors in the order in which they are stored: `[rank, inputs, k, k]` and `[outputs, rank]`.
struct Factors {
    down: Vec<f32>,
    up: Vec<f32>,
    rank: usize,
    sizes: (usize, usize, usize),
}

impl Networks {
    /// Stores the networks' factors on the device.
    pub(super) fn attach<E: Executor>(
        networks: &[Network],
        parameters: &mut Parameters,
        executor: &mut E,
    ) -> Result<Self, engine::Error> {
        let Arrangement { columns, layers } = Arrangement::of(networks, |layer| !is_text(layer));
        let (mut starts, mut width) = (Vec::with_capacity(columns.len()), 0);
        for set in &columns {
            starts.push(width);
            width += set.width().next_multiple_of(RANK_STEP);
        }
        let mut stacks = HashMap::new();
        for touched in &layers {
            let Factors { down, up, rank, sizes: (inputs, outputs, kernel) } = factors(networks, touched)?;
            let (shape, form) = match kernel {
                1 => (vec![rank, inputs], Form::Plain),
                _ => (vec![rank, inputs, kernel, kernel], Form::Filter),
            };
            let mut store = |what: &str, shape: Vec<usize>, form: Form, values: Vec<f32>| -> Result<_, Error> {
                let name = format!("{}.{what}", touched.layer);
                let parameter = Parameter { name, shape, form, element: Element::Narrow, packed: false };
                let values = parameter.arrange(values);
                let id = parameters.add(parameter);
                executor.store(id, parameters.get(id), &values)?;
                Ok(id)
            };
            let down = store("down", shape, form, down)?;
            let up = store("up", vec![outputs, rank], Form::Plain, up)?;
            let rates = starts.get(touched.columns).copied().unwrap_or(0);
            stacks.insert(touched.layer.to_owned(), Stack { down, up, rank, rates });
        }
        Ok(Self { stacks: Arc::new(stacks), columns, starts, width, count: networks.len() })
    }

    /// The buffer of rates times scales, zeros where columns are padding; one zero if there are no columns.
    pub(super) fn values(&self, rates: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.width.max(1)];
        for (start, set) in self.starts.iter().zip(&self.columns) {
            values.iter_mut().skip(*start).zip(set.values(rates)).for_each(|(to, value)| *to = value);
        }
        values
    }

    /// The gradient by the 20 N rates from a program's gradient by column.
    pub(super) fn pull(&self, stretches: &[Stretch], by_column: &[f32]) -> Vec<f64> {
        let sets: HashMap<usize, &Columns> = self.starts.iter().copied().zip(&self.columns).collect();
        let mut by_rate = vec![0.0; self.count * BLOCKS];
        for stretch in stretches {
            let mine = by_column.get(stretch.from..stretch.from + stretch.rank);
            if let (Some(set), Some(mine)) = (sets.get(&stretch.rates), mine) {
                set.pull(mine, &mut by_rate);
            }
        }
        by_rate
    }
}

fn factors(networks: &[Network], touched: &Touched<'_>) -> Result<Factors, engine::Error> {
    let (inputs, outputs, kernel) = touched.modules.first().map_or((0, 0, 1), |(_, module)| sizes(module.kind));
    let rank = touched.modules.iter().map(|(_, module)| module.rank).sum::<usize>().next_multiple_of(RANK_STEP);
    let row = inputs * kernel * kernel;
    let mut down = Vec::with_capacity(rank * row);
    let mut up = vec![0.0; outputs * rank];
    let mut first = 0;
    for (network, module) in &touched.modules {
        let network = &networks[*network];
        let shape = [module.rank, inputs, kernel, kernel];
        down.extend(singles(convert(&network.down(module)?, &shape, DType::F32)?)?);
        let part = singles(convert(&network.up(module)?, &[outputs, module.rank], DType::F32)?)?;
        for (to, from) in up.chunks_exact_mut(rank).zip(part.chunks_exact(module.rank)) {
            to[first..first + module.rank].copy_from_slice(from);
        }
        first += module.rank;
    }
    down.resize(rank * row, 0.0);
    Ok(Factors { down, up, rank, sizes: (inputs, outputs, kernel) })
}

/// The numbers of a tensor in f32.
pub(super) fn singles(data: TensorData) -> Result<Vec<f32>, engine::Error> {
    data.into_vec().map_err(|e| engine::Error::Request(format!("a parameter is not in f32: {e:?}")))
}
