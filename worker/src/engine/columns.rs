//! How networks lie stacked along rank: which columns of which layer belong to which rate. The same for every engine.

use lora_rates_common::block::BLOCKS;
use lora_rates_common::network::{Module, Network};
use lora_rates_common::sdxl::LayerKind;
use std::collections::BTreeMap;

/// The columns of a stack: for each network in it, a run of `rank` of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Columns(Vec<Run>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// Place among the 20 N rates.
    rate: usize,
    rank: usize,
    scale: f32,
}

impl Columns {
    /// Rate times scale for each column.
    pub(super) fn values(&self, rates: &[f32]) -> Vec<f32> {
        let value = |run: &Run| rates.get(run.rate).copied().unwrap_or(0.0) * run.scale;
        self.0.iter().flat_map(|run| std::iter::repeat_n(value(run), run.rank)).collect()
    }

    /// Adds the gradient by column to that by rate.
    pub(super) fn pull(&self, by_column: &[f32], by_rate: &mut [f64]) {
        let mut rest = by_column;
        for run in &self.0 {
            let (mine, others) = rest.split_at(run.rank.min(rest.len()));
            rest = others;
            if let Some(rate) = by_rate.get_mut(run.rate) {
                *rate += mine.iter().copied().map(f64::from).sum::<f64>() * f64::from(run.scale);
            }
        }
    }

    /// How many columns.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|run| run.rank).sum()
    }
}

/// All networks of a search, by layer.
pub(super) struct Arrangement<'a> {
    /// The distinct sets of columns. Layers of one block with the same networks and ranks share one.
    pub(super) columns: Vec<Columns>,
    /// The layers that are touched, by name.
    pub(super) layers: Vec<Touched<'a>>,
}

/// One layer's modules.
pub(super) struct Touched<'a> {
    pub(super) layer: &'a str,
    /// Each with the place of its network.
    pub(super) modules: Vec<(usize, &'a Module)>,
    /// Which of the sets of columns are this layer's.
    pub(super) columns: usize,
}

impl<'a> Arrangement<'a> {
    /// Of the layers that are `wanted`.
    pub(super) fn of(networks: &'a [Network], wanted: impl Fn(&str) -> bool) -> Self {
        let mut layers: BTreeMap<&str, Vec<(usize, &Module)>> = BTreeMap::new();
        for (index, network) in networks.iter().enumerate() {
            for module in network.modules.iter().filter(|module| wanted(&module.layer)) {
                layers.entry(&module.layer).or_default().push((index, module));
            }
        }
        let mut columns: Vec<Columns> = Vec::new();
        let mut place = |modules: &[(usize, &Module)]| {
            let run = |(network, module): &(usize, &Module)| Run {
                rate: network * BLOCKS + module.block.index(),
                rank: module.rank,
                scale: module.scale,
            };
            let mine = Columns(modules.iter().map(run).collect());
            columns.iter().position(|known| *known == mine).unwrap_or_else(|| {
                columns.push(mine);
                columns.len() - 1
            })
        };
        let layers = layers.into_iter().map(|(layer, modules)| Touched { layer, columns: place(&modules), modules });
        let layers = layers.collect();
        Self { columns, layers }
    }
}

/// Inputs, outputs and side of the kernel, which is 1 for a linear layer.
pub(super) fn sizes(kind: LayerKind) -> (usize, usize, usize) {
    match kind {
        LayerKind::Linear { inputs, outputs } => (inputs, outputs, 1),
        LayerKind::Conv { inputs, outputs, kernel, .. } => (inputs, outputs, kernel),
    }
}

/// Whether a layer, by its canonical name, belongs to a text encoder.
pub(super) fn is_text(layer: &str) -> bool {
    layer.starts_with("text_encoder")
}
