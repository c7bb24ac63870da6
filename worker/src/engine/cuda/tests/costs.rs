//! The costs of plans, against the count that the model's text gives, and the times of parts.

use super::model::plan;
use super::{golden, golden_networks, microbatch, rates, taped};
use crate::engine::GradientEngine;
use crate::engine::breakdown::Work;
use crate::engine::count::Count;
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::plan::Wanted;
use crate::engine::cuda::reference::Reference;
use crate::engine::cuda::tape::Case;
use lora_rates_common::diffusion::LossOptions;
use lora_rates_common::sdxl::config::SdxlConfig;
use lora_rates_common::tokenizer::TokenLength;

#[test]
fn a_plan_has_the_operations_of_the_model_and_no_more() {
    for config in [SdxlConfig::tiny(), SdxlConfig::sdxl_base()] {
        let case = Case { batch: 2, height: 32, width: 16, tokens: 77 };
        let wanted = Wanted { rates: true, conditions: false, checkpointing: false, merging: false };
        let rated = |name: &str| name.starts_with("unet.") && name.contains("transformer_blocks");
        let planned = plan(&config, case, wanted, 8, 2, rated);
        let sum = |from: usize, to: usize| -> f64 {
            planned.program.instructions[from..to].iter().map(|instruction| instruction.operations()).sum()
        };
        let (host, all) = (planned.program.host, planned.program.instructions.len());
        let want = Count::of_unet(&config, 2, (32, 16), 77, 8);
        assert!((sum(0, host) / want.forward - 1.0).abs() < 1e-12, "forward {} {}", sum(0, host), want.forward);
        assert!((sum(host, all) / want.backward - 1.0).abs() < 1e-12, "back {} {}", sum(host, all), want.backward);
        // Every operation is of some kind, and the networks' products are told from the model's.
        let networks = ParameterId(planned.own);
        let of = |work| planned.program.instructions.iter().filter(|i| i.work(networks) == Some(work)).count();
        let products = of(Work::Networks);
        let rated = planned.parameters.len() - planned.own;
        assert!((rated..=2 * rated).contains(&products), "{products} products of {rated} factors");
        let kinds = [Work::Linear, Work::Networks, Work::Convolution, Work::Attention, Work::Elementwise, Work::Rates];
        assert_eq!(kinds.map(of).iter().sum::<usize>() + 1, all);
    }
}

#[test]
fn the_parts_take_about_the_time_of_the_whole_and_change_no_gradient() {
    let mut engine = taped(golden(), Reference::exact(), false);
    engine.attach(&golden_networks(&["L1_attention"])).unwrap();
    let (batch, rates) = (microbatch(1, (8, 8), TokenLength::T75), rates(1));
    let before = engine.gradient(&batch, &rates, &LossOptions::default()).unwrap();
    let found = engine.breakdown(&batch, &rates, &LossOptions::default()).unwrap().unwrap();
    let sum: f64 = found.parts.iter().map(|part| part.seconds).sum();
    assert!(sum > 0.0 && (0.2..5.0).contains(&(sum / found.device)), "{sum} s in parts, {} s", found.device);
    assert!((0.2..5.0).contains(&(found.sustained / found.device)), "{} s again and again", found.sustained);
    assert!(found.parts.iter().all(|part| part.count > 0 && part.bytes > 0.0));
    let after = engine.gradient(&batch, &rates, &LossOptions::default()).unwrap();
    assert_eq!(before.grad, after.grad);
}
