//! Spellings: every layer of the real SDXL under every naming, and how files mix them.

use super::*;
use crate::network::spelling::Spellings;
use crate::sdxl::layout;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashSet;

/// The rows of `lora_block_index.json`: kohya's name, for the UNet kohya's diffusers-style name, block.
fn rows<Row: DeserializeOwned>(list: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(fixture("names/lora_block_index.json")).expect("the list");
    let mut lists: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(lists[list].take()).expect("rows")
}

#[test]
fn every_layer_of_sdxl_is_found_by_both_of_kohyas_names() {
    let config = SdxlConfig::sdxl_base();
    let layers = layout::layers(&config);
    let spellings = Spellings::of(&layers, &config.unet);
    let mut found = HashSet::new();
    for (original, diffusers, block) in rows::<(String, String, usize)>("unet") {
        let place = spellings.find(&original).unwrap_or_else(|| panic!("{original}"));
        assert_eq!(spellings.find(&diffusers), Some(place), "{diffusers}");
        assert!(found.insert(place), "{original} names a layer that another name has");
        let local = original.strip_prefix("lora_unet_").expect("the prefix");
        // Outside the blocks the list has the reference's rule, which puts these in BASE.
        if ["input_", "middle_", "output_"].iter().any(|start| local.starts_with(start)) {
            assert_eq!(layers[place].block.index(), block, "{original}");
        }
        assert_eq!(layers[place].name.replace('.', "_"), format!("unet_{local}"));
    }
    for (name, block) in rows::<(String, usize)>("text_encoders") {
        let place = spellings.find(&name).unwrap_or_else(|| panic!("{name}"));
        assert!(found.insert(place), "{name} names a layer that another name has");
        assert_eq!(layers[place].block.index(), block, "{name}");
    }
    assert_eq!(found.len(), layers.len(), "layers without a name");
}

#[test]
fn dotted_names_of_every_origin_find_the_same_layer() {
    let config = tiny();
    let layers = layout::layers(&config);
    let spellings = Spellings::of(&layers, &config.unet);
    let same = |names: &[&str], layer: &str| {
        let place = layers.iter().position(|candidate| candidate.name == layer);
        assert!(place.is_some(), "{layer}");
        for name in names {
            assert_eq!(spellings.find(name), place, "{name}");
        }
    };
    same(
        &[
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0",
            "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out",
            "base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "base_model.model.unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0",
        ],
        "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0",
    );
    same(
        &[
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj",
            "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
            "text_encoder_2.encoder.layers.0.self_attn.q_proj",
            "base_model.model.text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
        ],
        "text_encoder_2.text_model.encoder.layers.0.self_attn.q_proj",
    );
    // Could be either encoder's.
    assert_eq!(spellings.find("text_model.encoder.layers.0.self_attn.q_proj"), None);
    assert_eq!(spellings.find("vae.encoder.conv_in"), None);
}

#[test]
fn all_ways_to_end_a_key_are_read() {
    let name = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
    for (down, up) in [
        (".lora_down.weight", ".lora_up.weight"),
        (".lora_A.weight", ".lora_B.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
    ] {
        let made = Made::new().with(&format!("{name}{down}"), &[2, 64]).with(&format!("{name}{up}"), &[64, 2]);
        let network = made.open().expect(down);
        let [module] = network.modules.as_slice() else {
            panic!("{down}: {:?}", network.modules);
        };
        assert_eq!(module.layer, "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_q");
        assert_eq!((module.rank, module.scale), (2, 1.0));
        assert_eq!(network.down(module).expect("down").shape, [2, 64]);
        assert_eq!(network.up(module).expect("up").shape, [64, 2]);
    }
}

#[test]
fn linear_and_one_by_one_layers_take_two_and_four_axes() {
    let skip = "lora_unet_input_blocks_4_0_skip_connection";
    for (name, inputs) in [(LINEAR, 64), (skip, 32)] {
        for axes in [2, 4] {
            let made = Made::new()
                .with(&format!("{name}.lora_down.weight"), &[2, inputs, 1, 1][..axes])
                .with(&format!("{name}.lora_up.weight"), &[64, 2, 1, 1][..axes]);
            assert_eq!(made.open().expect(name).modules[0].rank, 2);
        }
    }
}

#[test]
fn an_alpha_may_have_any_numeric_type_and_one_axis() {
    use crate::tensor_file::Dtype;
    let half = half::f16::from_f32(3.0).to_le_bytes().to_vec();
    let brain = half::bf16::from_f32(3.0).to_le_bytes().to_vec();
    for (dtype, data) in [
        (Dtype::F16, half),
        (Dtype::BF16, brain),
        (Dtype::F32, 3f32.to_le_bytes().to_vec()),
        (Dtype::F64, 3f64.to_le_bytes().to_vec()),
        (Dtype::I64, 3i64.to_le_bytes().to_vec()),
        (Dtype::I32, 3i32.to_le_bytes().to_vec()),
        (Dtype::U8, vec![3]),
    ] {
        for shape in [vec![], vec![1]] {
            let alpha = NewTensor { name: format!("{LINEAR}.alpha"), dtype, shape, data: data.clone().into() };
            let network = Made::new().with_module(LINEAR).with_tensor(alpha).open().expect("sound");
            assert_eq!(network.modules[0].scale, 1.5, "{dtype}");
        }
    }
}

#[test]
fn an_alpha_of_zero_makes_its_block_dead() {
    let made = Made::new().with_module(LINEAR).with_values(&format!("{LINEAR}.alpha"), &[], &[0.0]);
    let network = made.open().expect("sound");
    assert_eq!(network.modules.len(), 1);
    assert_eq!(network.live(), [false; 20]);
}
