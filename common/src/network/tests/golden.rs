//! The golden networks, module by module.

use super::*;
use crate::block::Block;
use crate::network::{Module, open_all, report};
use crate::sdxl::LayerKind;
use crate::tensor_file::TensorFile;
use serde_json::Value;

/// The modules that `modules.json` lists for a network.
fn listed(network: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("lora/modules.json")).expect("the list");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    list["networks"][network]["modules"].as_array().expect("modules").clone()
}

fn canonical(listed: &Value) -> String {
    let part = match listed["model"].as_str() {
        Some("unet") => "unet",
        Some("te1") => "text_encoder",
        Some("te2") => "text_encoder_2",
        other => panic!("part {other:?}"),
    };
    format!("{part}.{}", listed["module"].as_str().expect("a name"))
}

fn module<'a>(network: &'a Network, layer: &str) -> &'a Module {
    let found = network.modules.iter().find(|module| module.layer == layer);
    found.unwrap_or_else(|| panic!("{} has no {layer}", network.name))
}

fn weight_shape(kind: LayerKind) -> Vec<usize> {
    match kind {
        LayerKind::Linear { inputs, outputs } => vec![outputs, inputs],
        LayerKind::Conv { inputs, outputs, kernel, .. } => vec![outputs, inputs, kernel, kernel],
    }
}

/// `scale * up down`, the weight change at rate 1, row by row.
fn delta(network: &Network, module: &Module) -> Vec<f32> {
    let down = network.down(module).expect("down").to_f32().expect("floats");
    let up = network.up(module).expect("up").to_f32().expect("floats");
    let columns = down.len() / module.rank;
    let row = |up: &[f32]| -> Vec<f32> {
        let mut row = vec![0.0; columns];
        for (factor, down) in up.iter().zip(down.chunks(columns)) {
            for (sum, value) in row.iter_mut().zip(down) {
                *sum += module.scale * factor * value;
            }
        }
        row
    };
    up.chunks(module.rank).flat_map(row).collect()
}

fn agrees_with_the_list(file: &str, list: &str) {
    let network = open_golden(file);
    let listed = listed(list);
    assert_eq!(network.modules.len(), listed.len());
    assert!(network.skipped.is_empty());
    for expected in &listed {
        let module = module(&network, &canonical(expected));
        assert_eq!(module.block.index() as u64, expected["block"], "{}", module.layer);
        assert_eq!(module.rank as u64, expected["rank"], "{}", module.layer);
        assert_eq!(f64::from(module.scale), expected["scale"], "{}", module.layer);
        let shape: Vec<usize> = serde_json::from_value(expected["weight_shape"].clone()).expect("a shape");
        assert_eq!(weight_shape(module.kind), shape, "{}", module.layer);
    }
}

#[test]
fn every_module_has_its_layer_block_rank_scale_and_shape() {
    agrees_with_the_list("L1_attention.safetensors", "L1");
    agrees_with_the_list("L2_unet_te.safetensors", "L2");
    agrees_with_the_list("L3_locon.safetensors", "L3");
    agrees_with_the_list("L4_diffusers_names.safetensors", "L1");
    agrees_with_the_list("L5b_peft_metadata.safetensors", "L1");
}

#[test]
fn networks_that_differ_in_naming_alone_change_the_weights_alike() {
    for (file, same) in [
        ("L4_diffusers_names.safetensors", "L1_attention.safetensors"),
        ("L5_peft.safetensors", "L2_unet_te.safetensors"),
        ("L5b_peft_metadata.safetensors", "L1_attention.safetensors"),
    ] {
        let (network, same) = (open_golden(file), open_golden(same));
        assert_eq!(network.modules.len(), same.modules.len());
        for (one, other) in network.modules.iter().zip(&same.modules) {
            assert_eq!((&one.layer, one.block, one.rank), (&other.layer, other.block, other.rank));
            assert_eq!(delta(&network, one), delta(&same, other), "{file}: {}", one.layer);
        }
    }
}

#[test]
fn peft_without_alpha_has_scale_one() {
    let network = open_golden("L5_peft.safetensors");
    assert!(network.modules.iter().all(|module| module.scale == 1.0));
}

#[test]
fn weight_changes_are_those_of_pytorch() {
    let deltas = TensorFile::open(&fixture("lora/deltas.safetensors")).expect("deltas");
    let mut compared = 0;
    for (list, file) in
        [("L1", "L1_attention.safetensors"), ("L2", "L2_unet_te.safetensors"), ("L3", "L3_locon.safetensors")]
    {
        let network = open_golden(file);
        for expected in listed(list) {
            let name = format!("{list}/{}", expected["name"].as_str().expect("a name"));
            let Some(view) = deltas.get(&name) else { continue };
            let delta = delta(&network, module(&network, &canonical(&expected)));
            // Exact: all weights are small multiples of a power of two.
            assert_eq!(delta, view.to_f32().expect("floats"), "{name}");
            compared += 1;
        }
    }
    let known = |name: &&str| ["L1/", "L2/", "L3/"].iter().any(|list| name.starts_with(list));
    assert_eq!(compared, deltas.names().filter(known).count());
    assert!(compared > 6);
}

#[test]
fn modules_come_in_the_order_of_the_layers() {
    let network = open_golden("L3_locon.safetensors");
    let layers = crate::sdxl::layout::layers(&tiny());
    let place = |module: &Module| layers.iter().position(|layer| layer.name == module.layer);
    assert!(network.modules.iter().map(place).is_sorted());
}

#[test]
fn an_attention_network_lives_in_eleven_blocks_and_a_locon_in_all() {
    let alive = |file| {
        let live = open_golden(file).live();
        let names: Vec<&str> = Block::all().filter(|block| live[block.index()]).map(Block::name).collect();
        names.join(" ")
    };
    let unet = "IN04 IN05 IN07 IN08 MID OUT00 OUT01 OUT02 OUT03 OUT04 OUT05";
    assert_eq!(alive("L1_attention.safetensors"), unet);
    assert_eq!(alive("L2_unet_te.safetensors"), format!("BASE {unet}"));
    assert_eq!(open_golden("L3_locon.safetensors").live(), [true; 20]);
}

#[test]
fn the_report_tells_modules_ranks_and_dead_blocks() {
    let files = ["L1_attention", "L3_locon"].map(|name| fixture(&format!("lora/{name}.safetensors")));
    let networks = open_all(&files, &tiny(), Unmatched::Refuse).expect("two networks");
    let text = report(&networks);
    assert!(text.contains("L1_attention: 136 modules, 11 of 20 blocks live\n"), "{text}");
    assert!(text.contains("L3_locon: 134 modules, 20 of 20 blocks live\n"), "{text}");
    assert!(text.contains("  dead: BASE IN00 IN01 IN02 IN03 IN06 OUT06 OUT07 OUT08\n"), "{text}");
    assert!(text.contains("  IN00     1 module   rank 2\n"), "{text}");
    assert!(text.contains("rank 2 to 4\n"), "{text}");
    let of_list = |block: &str| {
        let modules = listed("L3");
        modules.iter().filter(|module| module["block_name"] == block).count()
    };
    for (block, summary) in Block::all().zip(networks[1].blocks()) {
        assert_eq!(summary.modules, of_list(block.name()), "{block}");
    }
}

#[test]
fn the_same_file_twice_is_refused_even_under_another_name() {
    let first = fixture("lora/L1_attention.safetensors");
    let folder = TempDir::new().expect("a folder");
    let copy = folder.path().join("copy.safetensors");
    std::fs::copy(&first, &copy).expect("a copy");
    let roundabout = folder.path().join(".").join("copy.safetensors");
    for (first, second) in [(&first, &first), (&copy, &roundabout), (&first, &copy)] {
        let paths = [first.clone(), second.clone()];
        let error = open_all(&paths, &tiny(), Unmatched::Refuse).expect_err("the same");
        assert!(matches!(&error, Error::SameFile { second: named, .. } if named == second), "{error}");
        assert!(error.to_string().contains("the same network"), "{error}");
    }
}
