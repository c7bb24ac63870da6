//! The UNet on a tape, with stacks on its layers but no numbers.

use crate::engine::cuda::parameters::{Form, Parameter, Parameters};
use crate::engine::cuda::plan::{Program, Wanted};
use crate::engine::cuda::tape::{Case, Element, Loaded, RANK_STEP, RecordedUnet, Stack};
use lora_rates_common::sdxl::LayerKind;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::sdxl::layout;
use std::collections::HashMap;
use std::sync::Arc;

/// A planned microbatch and the parameters that it needs.
pub(super) struct Planned {
    pub(super) program: Program,
    pub(super) parameters: Parameters,
    /// The parameters from here on are the networks'.
    pub(super) own: usize,
}

/// Plans a microbatch with a stack of `rank` on the layers that are `rated`.
pub(super) fn plan(
    config: &SdxlConfig,
    case: Case,
    wanted: Wanted,
    rank: usize,
    narrow: usize,
    rated: impl Fn(&str) -> bool,
) -> Planned {
    let Loaded { unet, mut parameters, joined } = RecordedUnet::load(&config.unet);
    let own = parameters.len();
    let rank = rank.next_multiple_of(RANK_STEP);
    let mut stacks = HashMap::new();
    for layer in layout::layers(config).into_iter().filter(|layer| rated(&layer.name)) {
        let (inputs, outputs) = match layer.kind {
            LayerKind::Linear { inputs, outputs } => (inputs, outputs),
            LayerKind::Conv { inputs, outputs, kernel, .. } => (inputs * kernel * kernel, outputs),
        };
        let one = vec![layer.name.clone()];
        let group = joined.iter().find(|names| names.contains(&layer.name)).unwrap_or(&one);
        if stacks.contains_key(&group[0]) {
            continue;
        }
        let parts = group.len();
        let mut add = |name: String, shape: Vec<usize>| {
            let (form, element) = (Form::Plain, Element::Narrow);
            parameters.add(Parameter { name, also: Vec::new(), shape, form, element, packed: false })
        };
        let down = add(format!("{}.down", layer.name), vec![parts * rank, inputs]);
        let up = add(format!("{}.up", layer.name), vec![parts * outputs, rank]);
        stacks.insert(group[0].clone(), Stack { down, up, parts, rank, rates: 0 });
    }
    let recorded = RecordedUnet::record(&unet, &config.unet, Arc::new(stacks), case).unwrap();
    let program = Program::plan(&recorded, wanted, 3 * rank, narrow).unwrap();
    Planned { program, parameters, own }
}
