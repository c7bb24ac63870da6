//! Files that must not be searched, each refused in one line that names the file and the cause.

use super::*;
use crate::tensor_file::Dtype;

/// The refusal's text, checked to name the file and to be one line.
fn refusal(opened: Result<Network, Error>, path: &std::path::Path) -> String {
    let error = opened.map(|network| network.name).expect_err("a refusal").to_string();
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(!error.contains('\n'), "{error}");
    error
}

#[track_caller]
fn refused(made: &Made, words: &[&str]) {
    let error = refusal(made.open(), &made.path());
    for word in words {
        assert!(error.contains(word), "{error} lacks {word}");
    }
}

#[test]
fn other_kinds_are_refused_by_name_even_when_skipping() {
    for (file, kind, key) in [
        ("L6_loha.safetensors", "LoHa", "hada_w1_a"),
        ("L7_lokr.safetensors", "LoKr", "lokr_w1"),
        ("L8_dora.safetensors", "DoRA", "dora_scale"),
        ("L9_locon_tucker.safetensors", "Tucker LoCon", "lora_mid"),
    ] {
        for unmatched in [Unmatched::Refuse, Unmatched::Skip] {
            let error = refusal(open_with(file, unmatched), &fixture(&format!("lora/{file}")));
            assert!(error.contains(&format!("holds {kind} modules (lora_")), "{error}");
            assert!(error.contains(key) && error.ends_with("LoRA and LoCon are supported"), "{error}");
        }
    }
}

#[test]
fn a_key_that_matches_no_layer_is_refused_or_skipped_as_asked() {
    let made = Made::new().with_module(LINEAR).with_module("lora_unet_input_blocks_9_1_proj_in");
    let key = "lora_unet_input_blocks_9_1_proj_in.lora_down.weight";
    refused(&made, &[key, "(and 1 more)", "--skip_unmatched_keys"]);
    let network = made.open_skipping().expect("the rest");
    assert_eq!(network.modules.len(), 1);
    assert_eq!(network.skipped, [key, "lora_unet_input_blocks_9_1_proj_in.lora_up.weight"]);
    assert!(super::super::report(&[network]).contains("skipped 2 keys"));
}

#[test]
fn a_file_in_which_nothing_matches_is_refused_even_when_skipping() {
    let made = Made::new().with_module("lora_unet_input_blocks_9_1_proj_in");
    let error = refusal(made.open_skipping(), &made.path());
    assert!(error.contains("none of its 2 keys"), "{error}");
    refused(&Made::new(), &["holds no modules"]);
}

#[test]
fn networks_for_other_models_are_recognised() {
    let name = |name: &str| Made::new().with_module(name);
    let diffusers = "down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k";
    let context = |width| {
        Made::new()
            .with(&format!("lora_unet_{diffusers}.lora_down.weight"), &[2, width])
            .with(&format!("lora_unet_{diffusers}.lora_up.weight"), &[64, 2])
    };
    for (made, family) in [
        (name("lora_unet_double_blocks_0_img_attn_proj"), "Flux"),
        (name("transformer.single_transformer_blocks.0.attn.to_q"), "Flux"),
        (name("transformer.transformer_blocks.0.attn.to_q"), "such as Stable Diffusion 3 or Flux"),
        (name("lora_unet_joint_blocks_0_x_block_attn_qkv"), "Stable Diffusion 3"),
        (name("lora_te_text_model_encoder_layers_0_mlp_fc1"), "Stable Diffusion 1.5 or 2"),
        (context(768), "Stable Diffusion 1.5"),
        (context(1024), "Stable Diffusion 2"),
        (context(2048), "SDXL of full size"),
    ] {
        refused(&made, &["(the file looks made for ", &format!("{family});")]);
    }
}

#[test]
fn half_a_module_is_refused() {
    let (down, up) = (format!("{LINEAR}.lora_down.weight"), format!("{LINEAR}.lora_up.weight"));
    refused(&Made::new().with(&down, &[2, 64]), &[&down, "no up half"]);
    refused(&Made::new().with(&up, &[64, 2]), &[&up, "no down half"]);
    let alpha = format!("{LINEAR}.alpha");
    refused(&Made::new().with(&alpha, &[]), &[&alpha, "no weights"]);
}

#[test]
fn a_layer_named_twice_is_refused() {
    let diffusers = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";
    let layer = "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_q";
    let twice = Made::new().with_module(LINEAR).with_module(diffusers);
    refused(&twice, &[LINEAR, diffusers, layer]);
    let endings = Made::new().with_module(LINEAR).with(&format!("{LINEAR}.lora_A.weight"), &[2, 64]);
    refused(&endings, &["lora_A.weight", "lora_down.weight", layer]);
}

#[test]
fn shapes_that_do_not_fit_the_layer_are_refused() {
    let module = |name: &str, down: &[usize], up: &[usize]| {
        Made::new().with(&format!("{name}.lora_down.weight"), down).with(&format!("{name}.lora_up.weight"), up)
    };
    let conv = "lora_unet_input_blocks_1_0_in_layers_2";
    module(conv, &[2, 32, 3, 3], &[32, 2, 1, 1]).open().expect("a sound one");
    module(conv, &[2, 32, 3, 3], &[32, 2]).open().expect("a sound one");
    for (name, down, up, words) in [
        (LINEAR, &[2, 65][..], &[64, 2][..], ["lora_down.weight has shape [2, 65]", "[rank, 64]"]),
        (LINEAR, &[64], &[64, 2], ["lora_down.weight has shape [64]", "[rank, 64]"]),
        (LINEAR, &[2, 64], &[64, 3], ["lora_up.weight has shape [64, 3]", "[64, 2]"]),
        (LINEAR, &[2, 64], &[2, 64], ["lora_up.weight has shape [2, 64]", "[64, 2]"]),
        (LINEAR, &[2, 64], &[], ["lora_up.weight has shape []", "[64, 2]"]),
        (LINEAR, &[2, 64, 3, 3], &[64, 2, 1, 1], ["has shape [2, 64, 3, 3]", "[rank, 64]"]),
        (conv, &[2, 32], &[32, 2], ["has shape [2, 32]", "[rank, 32, 3, 3]"]),
        (conv, &[2, 32, 1, 1], &[32, 2, 1, 1], ["has shape [2, 32, 1, 1]", "[rank, 32, 3, 3]"]),
        (conv, &[2, 32, 3, 3], &[32, 2, 3, 3], ["has shape [32, 2, 3, 3]", "[32, 2]"]),
        (LINEAR, &[0, 64], &[64, 0], ["rank 0", "lora_down.weight"]),
    ] {
        refused(&module(name, down, up), &words);
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut up = [0.5; 128];
        up[77] = bad;
        let made = Made::new().with(&format!("{LINEAR}.lora_down.weight"), &[2, 64]).with_values(
            &format!("{LINEAR}.lora_up.weight"),
            &[64, 2],
            &up,
        );
        refused(&made, &["lora_up.weight", "at element 77"]);
        let alpha = Made::new().with_module(LINEAR).with_values(&format!("{LINEAR}.alpha"), &[], &[bad]);
        refused(&alpha, &["alpha is", "finite"]);
    }
    let vector = Made::new().with_module(LINEAR).with(&format!("{LINEAR}.alpha"), &[2]);
    refused(&vector, &["alpha has shape [2]"]);
}

#[test]
fn weights_that_are_no_floats_are_refused() {
    let made = Made::new().with(&format!("{LINEAR}.lora_up.weight"), &[64, 2]).with_tensor(NewTensor {
        name: format!("{LINEAR}.lora_down.weight"),
        dtype: Dtype::I8,
        shape: vec![2, 64],
        data: vec![1; 128].into(),
    });
    refused(&made, &["lora_down.weight", "I8", "convert it"]);
}

#[test]
fn settings_that_contradict_the_weights_are_refused() {
    let mut made = Made::new().with_module("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q");
    let settings = r#"{"unet.r": 8, "unet.lora_alpha": 4}"#;
    made.metadata.insert("lora_adapter_metadata".into(), settings.into());
    refused(&made, &["rank 8", "rank 2"]);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let whole = std::fs::read(Made::new().with_module(LINEAR).path()).expect("the file");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("cut.safetensors");
    for length in (0..whole.len()).step_by(17) {
        std::fs::write(&path, &whole[..length]).expect("a cut file");
        refusal(Network::open(&path, &tiny(), Unmatched::Skip), &path);
    }
}

#[test]
fn a_hostile_key_is_shown_short_and_escaped() {
    let made = Made::new().with_module(&format!("\u{1b}[2J{}", "x".repeat(100_000)));
    let error = refusal(made.open(), &made.path());
    assert!(error.len() < 1000 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn a_module_of_another_network_has_no_tensors_here() {
    let one = Made::new().with_module(LINEAR).open().expect("sound");
    let other = open_golden("L5_peft.safetensors");
    let module = &other.modules[0];
    assert!(matches!(one.down(module), Err(Error::OtherNetwork { .. })));
    assert!(matches!(one.up(module), Err(Error::OtherNetwork { .. })));
}
