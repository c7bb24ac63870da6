use super::*;
use std::collections::BTreeMap;

fn golden() -> serde_json::Value {
    let path = lora_rates_test_support::fixture("names/lora_block_index.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// kohya's name of a layer, and the index of its block.
fn ours() -> BTreeMap<String, usize> {
    let name = |layer: &Layer| {
        let name = layer.name.replace('.', "_");
        match layer.part {
            Part::TextEncoder1 => name.replacen("text_encoder", "lora_te1", 1),
            Part::TextEncoder2 => name.replacen("text_encoder_2", "lora_te2", 1),
            _ => format!("lora_{name}"),
        }
    };
    layers(&SdxlConfig::sdxl_base()).iter().map(|layer| (name(layer), layer.block.index())).collect()
}

#[test]
fn the_base_model_has_exactly_the_golden_layers_in_their_blocks() {
    let unet: Vec<(String, String, usize)> = serde_json::from_value(golden()["unet"].clone()).unwrap();
    let text: Vec<(String, usize)> = serde_json::from_value(golden()["text_encoders"].clone()).unwrap();
    // The reference's rule has no block for these and gives BASE; its loader never makes a module for them.
    let outside = |name: &str, block| match name {
        "lora_unet_time_embed_0" | "lora_unet_time_embed_2" | "lora_unet_label_emb_0_0" | "lora_unet_label_emb_0_2" => {
            1
        }
        "lora_unet_out_2" => 19,
        _ => block,
    };
    let unet = unet.into_iter().map(|(name, _, block)| {
        let block = outside(&name, block);
        (name, block)
    });
    let golden: BTreeMap<String, usize> = unet.chain(text).collect();
    assert_eq!(golden.len(), 794 + 264);
    assert_eq!(ours(), golden);
}

#[test]
fn every_layer_has_a_weight_of_its_shape() {
    let config = SdxlConfig::sdxl_base();
    let tensors: BTreeMap<String, Vec<usize>> =
        tensors(&config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect();
    for layer in layers(&config) {
        let expected = match layer.kind {
            LayerKind::Linear { inputs, outputs } => vec![outputs, inputs],
            LayerKind::Conv { inputs, outputs, kernel, .. } => vec![outputs, inputs, kernel, kernel],
        };
        assert_eq!(tensors[&format!("{}.weight", layer.name)], expected, "{}", layer.name);
    }
}

#[test]
fn convolutions_keep_the_picture_size_save_for_the_two_that_halve_it() {
    let mut halving = Vec::new();
    for layer in layers(&SdxlConfig::sdxl_base()) {
        let LayerKind::Conv { kernel, stride, padding, .. } = layer.kind else { continue };
        assert_eq!(padding, kernel / 2, "{}", layer.name);
        if stride == 2 {
            halving.push(layer.name);
        } else {
            assert_eq!(stride, 1, "{}", layer.name);
        }
    }
    assert_eq!(halving, ["unet.input_blocks.3.0.op", "unet.input_blocks.6.0.op"]);
}
