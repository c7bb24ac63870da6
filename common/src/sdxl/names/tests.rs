use super::*;
use crate::sdxl::config::SdxlConfig;
use crate::sdxl::{TensorSpec, layout};
use std::collections::{BTreeMap, BTreeSet};

/// Part, diffusers' name, diffusers' shape, operation, single-file name.
type Row = (String, String, Vec<usize>, String, String);

fn golden_rows() -> Vec<Row> {
    let path = lora_rates_test_support::fixture("names/sdxl_full_names.json");
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    serde_json::from_value(file["rows"].clone()).unwrap()
}

/// Canonical name with the part's prefix of a name in the folder layout.
fn from_diffusers(part: &str, name: &str, config: &SdxlConfig) -> Option<String> {
    let canonical = match part {
        "unet" => unet_from_diffusers(name, &config.unet)?,
        "vae" => vae_from_diffusers(name, &config.vae)?,
        _ => name.to_owned(),
    };
    Some(format!("{part}.{canonical}"))
}

fn to_diffusers(part: &str, name: &str, config: &SdxlConfig) -> Option<String> {
    match part {
        "unet" => unet_to_diffusers(name, &config.unet),
        "vae" => vae_to_diffusers(name, &config.vae),
        _ => Some(name.to_owned()),
    }
}

#[test]
fn every_name_of_the_folder_layout_converts_both_ways() {
    let config = SdxlConfig::sdxl_base();
    let rows = golden_rows();
    assert_eq!(rows.len(), 2641);
    for (part, name, ..) in rows {
        let canonical = from_diffusers(&part, &name, &config).unwrap_or_else(|| panic!("{part} {name}"));
        let original = canonical.strip_prefix(&format!("{part}.")).unwrap();
        assert_eq!(to_diffusers(&part, original, &config), Some(name), "{original}");
    }
}

#[test]
fn every_module_name_converts_like_its_tensors() {
    let config = SdxlConfig::sdxl_base();
    for (part, name, ..) in golden_rows() {
        let canonical = from_diffusers(&part, &name, &config).unwrap();
        let (module, kind) = name.rsplit_once('.').unwrap();
        let converted = from_diffusers(&part, module, &config);
        assert_eq!(converted.map(|module| format!("{module}.{kind}")), Some(canonical));
    }
}

#[test]
fn every_name_of_the_single_file_gives_the_tensor_that_the_folder_has() {
    let config = SdxlConfig::sdxl_base();
    let rows = golden_rows();
    let stored: BTreeSet<&str> = rows.iter().map(|row| row.4.as_str()).collect();
    let found: BTreeMap<(String, &str), FromSingleFile> = stored
        .iter()
        .flat_map(|stored| from_single_file(stored).into_iter().map(|found| ((found.name.clone(), *stored), found)))
        .collect();
    assert_eq!(found.len(), rows.len());
    for (part, name, _, operation, stored) in &rows {
        let canonical = from_diffusers(part, name, &config).unwrap();
        let found = &found[&(canonical, stored.as_str())];
        let expected = match operation.as_str() {
            "copy" => (None, false),
            "rows0" => (Some(0), false),
            "rows1" => (Some(1), false),
            "rows2" => (Some(2), false),
            "transpose" => (None, true),
            other => panic!("{other}"),
        };
        assert_eq!((found.third, found.transpose), expected, "{stored}");
    }
}

#[test]
fn the_base_model_has_exactly_the_golden_tensors_and_shapes() {
    let config = SdxlConfig::sdxl_base();
    let ours: BTreeMap<String, Vec<usize>> =
        layout::tensors(&config).into_iter().map(|TensorSpec { name, shape }| (name, shape)).collect();
    let golden: BTreeMap<String, Vec<usize>> = golden_rows()
        .into_iter()
        .map(|(part, name, mut shape, ..)| {
            let canonical = from_diffusers(&part, &name, &config).unwrap();
            // The original's attention is made of 1x1 convolutions, diffusers' of linear layers.
            if canonical.contains(".mid.attn_1.") && shape.len() == 2 {
                shape.extend([1, 1]);
            }
            (canonical, shape)
        })
        .collect();
    assert_eq!(ours, golden);
    assert_eq!(layout::tensors(&config).len(), golden.len(), "a name appears twice");
}

#[test]
fn names_that_follow_no_rule_convert_to_nothing() {
    let config = SdxlConfig::sdxl_base();
    let unet = &config.unet;
    for name in [
        "",
        "conv_input",
        "down_blocks.3.resnets.0.conv1",
        "down_blocks.0.resnets.2.conv1",
        "down_blocks.00.resnets.0.conv1",
        "down_blocks.+1.resnets.0.conv1",
        "down_blocks.2.downsamplers.0.conv",
        "up_blocks.2.upsamplers.0.conv",
        "up_blocks.0.resnets.3.conv1",
        "mid_block.resnets.2.conv1",
        "down_blocks.99999999999999999999999.resnets.0.conv1",
        "down_blocks.18446744073709551615.resnets.0.conv1",
    ] {
        assert_eq!(unet_from_diffusers(name, unet), None, "{name}");
    }
    for name in ["", "input_blocks.0.1", "input_blocks.9.0.op", "output_blocks.9.1", "output_blocks.8.2.conv", "out.1"]
    {
        assert_eq!(unet_to_diffusers(name, unet), None, "{name}");
    }
    for name in ["decoder.up_blocks.4.resnets.0.conv1", "encoder.up_blocks.0.resnets.0.conv1", "encoder"] {
        assert_eq!(vae_from_diffusers(name, &config.vae), None, "{name}");
    }
    assert_eq!(from_single_file("cond_stage_model.transformer.x"), []);
    assert_eq!(from_single_file("conditioner.embedders.1.model.transformer.resblocks.x.ln_1.weight"), []);
}

#[test]
fn a_network_suffix_survives_the_conversion() {
    let unet = SdxlConfig::sdxl_base().unet;
    let name = "up_blocks.1.upsamplers.0.conv.lora_A.weight";
    assert_eq!(unet_from_diffusers(name, &unet).as_deref(), Some("output_blocks.5.2.conv.lora_A.weight"));
    let name = "mid_block.attentions.0.transformer_blocks.9.attn1.to_out.0.lora_B.weight";
    let original = "middle_block.1.transformer_blocks.9.attn1.to_out.0.lora_B.weight";
    assert_eq!(unet_from_diffusers(name, &unet).as_deref(), Some(original));
}

#[test]
fn early_diffusers_names_of_the_vae_attention_are_understood() {
    let vae = SdxlConfig::sdxl_base().vae;
    let early = "decoder.mid_block.attentions.0.proj_attn.weight";
    let original = vae_from_diffusers(early, &vae).unwrap();
    assert_eq!(original, "decoder.mid.attn_1.proj_out.weight");
    let today = "decoder.mid_block.attentions.0.to_out.0.weight";
    assert_eq!(vae_to_diffusers(&original, &vae).as_deref(), Some(today));
}
