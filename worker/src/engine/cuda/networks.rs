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
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All networks of a search on the UNet.
#[derive(Default)]
pub(super) struct Networks {
    pub(super) stacks: Stacks,
    columns: Vec<Columns>,
    /// Where columns begin in the buffer of rates, and which they are.
    starts: BTreeMap<usize, usize>,
    /// Length of that buffer.
    pub(super) width: usize,
    /// How many networks.
    pub(super) count: usize,
}

/// A layer, or those that are computed as one, in their order; `None` for one that no network touches.
type Group<'a> = Vec<Option<&'a Touched<'a>>>;

/// The factors of a group in the order in which they are stored: `[parts rank, inputs, k, k]` and `[parts outputs, rank]`.
struct Factors {
    down: Vec<f32>,
    up: Vec<f32>,
    /// Of one part.
    rank: usize,
    sizes: (usize, usize, usize),
}

impl Networks {
    /// Stores the networks' factors on the device; `joined` are the names of layers that are computed as one.
    pub(super) fn attach<E: Executor>(
        networks: &[Network],
        joined: &[Vec<String>],
        parameters: &mut Parameters,
        executor: &mut E,
    ) -> Result<Self, engine::Error> {
        let Arrangement { columns, layers } = Arrangement::of(networks, |layer| !is_text(layer));
        let (mut starts, mut width) = (BTreeMap::new(), 0);
        // Groups with the same columns share their place.
        let mut places: HashMap<(Vec<Option<usize>>, usize), usize> = HashMap::new();
        let mut stacks = HashMap::new();
        for (name, group) in groups(&layers, joined) {
            let Factors { down, up, rank, sizes: (inputs, outputs, kernel) } = factors(networks, &group)?;
            let parts = group.len();
            let (shape, form) = match kernel {
                1 => (vec![parts * rank, inputs], Form::Plain),
                _ => (vec![rank, inputs, kernel, kernel], Form::Filter),
            };
            let mut store = |what: &str, shape: Vec<usize>, form: Form, values: Vec<f32>| -> Result<_, Error> {
                let (name, also, element) = (format!("{name}.{what}"), Vec::new(), Element::Narrow);
                let parameter = Parameter { name, also, shape, form, element, packed: false };
                let values = parameter.arrange(values);
                let id = parameters.add(parameter);
                executor.store(id, parameters.get(id), &values)?;
                Ok(id)
            };
            let down = store("down", shape, form, down)?;
            let up = store("up", vec![parts * outputs, rank], Form::Plain, up)?;
            let sets: Vec<Option<usize>> = group.iter().map(|part| part.map(|part| part.columns)).collect();
            let rates = *places.entry((sets.clone(), rank)).or_insert_with(|| {
                let at = |(part, set): (usize, Option<usize>)| Some((width + part * rank, set?));
                starts.extend(sets.into_iter().enumerate().filter_map(at));
                width += parts * rank;
                width - parts * rank
            });
            stacks.insert(name.to_owned(), Stack { down, up, parts, rank, rates });
        }
        Ok(Self { stacks: Arc::new(stacks), columns, starts, width, count: networks.len() })
    }

    /// Columns by their places.
    fn sets(&self) -> impl Iterator<Item = (usize, &Columns)> {
        self.starts.iter().filter_map(|(start, set)| Some((*start, self.columns.get(*set)?)))
    }

    /// The buffer of rates times scales, zeros where columns are padding; one zero if there are no columns.
    pub(super) fn values(&self, rates: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.width.max(1)];
        for (start, set) in self.sets() {
            values.iter_mut().skip(start).zip(set.values(rates)).for_each(|(to, value)| *to = value);
        }
        values
    }

    /// The gradient by the 20 N rates from a program's gradient by column.
    pub(super) fn pull(&self, stretches: &[Stretch], by_column: &[f32]) -> Vec<f64> {
        let sets: HashMap<usize, &Columns> = self.sets().collect();
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

/// The touched layers as they are computed: each under its name, those that are one under the first's.
fn groups<'a>(layers: &'a [Touched<'a>], joined: &'a [Vec<String>]) -> BTreeMap<&'a str, Group<'a>> {
    let places: HashMap<&str, (&Vec<String>, usize)> = joined
        .iter()
        .flat_map(|names| names.iter().enumerate().map(move |(part, name)| (name.as_str(), (names, part))))
        .collect();
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for touched in layers {
        let Some((names, part)) = places.get(touched.layer) else {
            groups.insert(touched.layer, vec![Some(touched)]);
            continue;
        };
        let group = groups.entry(&names[0]).or_insert_with(|| vec![None; names.len()]);
        group[*part] = Some(touched);
    }
    groups
}

fn factors(networks: &[Network], group: &Group<'_>) -> Result<Factors, engine::Error> {
    let modules = |touched: &Touched<'_>| touched.modules.iter().map(|(_, module)| module.rank).sum::<usize>();
    let rank = group.iter().flatten().map(|touched| modules(touched)).max().unwrap_or(0).next_multiple_of(RANK_STEP);
    let first = group.iter().flatten().find_map(|touched| touched.modules.first());
    let (inputs, outputs, kernel) = first.map_or((0, 0, 1), |(_, module)| sizes(module.kind));
    let row = inputs * kernel * kernel;
    let (mut down, mut up) = (Vec::with_capacity(group.len() * rank * row), vec![0.0; group.len() * outputs * rank]);
    for (part, up) in group.iter().zip(up.chunks_exact_mut((outputs * rank).max(1))) {
        let end = down.len() + rank * row;
        let mut from = 0;
        for (network, module) in part.iter().flat_map(|touched| &touched.modules) {
            let network = &networks[*network];
            let shape = [module.rank, inputs, kernel, kernel];
            down.extend(singles(convert(&network.down(module)?, &shape, DType::F32)?)?);
            let values = singles(convert(&network.up(module)?, &[outputs, module.rank], DType::F32)?)?;
            for (to, values) in up.chunks_exact_mut(rank).zip(values.chunks_exact(module.rank)) {
                to[from..from + module.rank].copy_from_slice(values);
            }
            from += module.rank;
        }
        down.resize(end, 0.0);
    }
    Ok(Factors { down, up, rank, sizes: (inputs, outputs, kernel) })
}

/// The numbers of a tensor in f32.
pub(super) fn singles(data: TensorData) -> Result<Vec<f32>, engine::Error> {
    data.into_vec().map_err(|e| engine::Error::Request(format!("a parameter is not in f32: {e:?}")))
}
