//! What is wrong with a search is said in one line that names it, with the exit code that scripts rely on.

mod search_support;

use lora_rates_common::tensor_file::{NewTensor, write};
use lora_rates_test_support::{fixture, tiny_single};
use search_support::{Bench, fail, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A safetensors file with these tensors of zeros.
fn tensors(path: &Path, tensors: &[(&str, &[usize])]) {
    let zeros = |shape: &[usize]| vec![0.0; shape.iter().product()];
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape)| NewTensor::from_f32(*name, shape, &zeros(shape))).collect();
    write(path, &tensors, &BTreeMap::new()).unwrap();
}

#[track_caller]
fn refused(bench: &Bench, arguments: &[&str], code: i32, parts: &[&str]) {
    let line = fail(bench.search(arguments), code);
    for part in parts {
        assert!(line.contains(part), "{line}\nhas no {part}");
    }
    assert!(!bench.path("out/rates.safetensors").exists());
}

#[test]
fn broken_safetensors_are_named() {
    let bench = Bench::new();
    let whole = fs::read(fixture("lora/L1_attention.safetensors")).unwrap();
    let hostile = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let model = fs::read(tiny_single()).unwrap();
    for (name, bytes) in [("cut", &whole[..whole.len() / 2]), ("short", b"abc"), ("hostile", &hostile), ("empty", b"")]
    {
        fs::write(bench.path(name), bytes).unwrap();
        refused(&bench, &["--network_weights", name], 1, &[name, "no sound safetensors file"]);
    }
    fs::write(bench.path("model.safetensors"), &model[..model.len() / 2]).unwrap();
    let arguments = ["--pretrained_model_name_or_path", "model.safetensors"];
    refused(&bench, &arguments, 1, &["model.safetensors", "cut short"]);
}

#[test]
fn files_that_are_not_there_are_named() {
    let bench = Bench::new();
    for option in ["--pretrained_model_name_or_path", "--vae", "--network_weights", "--train_data_dir", "--config_file"]
    {
        refused(&bench, &[option, "nowhere"], 1, &["nowhere", "No such file"]);
    }
}

#[test]
fn models_and_networks_of_another_family_are_named() {
    let bench = Bench::new();
    let wide: &[usize] = &[320, 768];
    let attention = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
    tensors(
        &bench.path("sd15.safetensors"),
        &[(attention, wide), ("cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", &[8, 768])],
    );
    let arguments = ["--pretrained_model_name_or_path", "sd15.safetensors"];
    refused(&bench, &arguments, 1, &["sd15.safetensors", "SDXL"]);
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k";
    tensors(
        &bench.path("lora15.safetensors"),
        &[(&format!("{module}.lora_down.weight"), &[4, 768]), (&format!("{module}.lora_up.weight"), &[320, 4])],
    );
    refused(&bench, &["--network_weights", "lora15.safetensors"], 1, &["lora15.safetensors", "Stable Diffusion 1.5"]);
    // A network given as the model.
    let network = text(&fixture("lora/L1_attention.safetensors"));
    refused(&bench, &["--pretrained_model_name_or_path", &network], 1, &["L1_attention", "checkpoint"]);
}

#[test]
fn a_network_that_is_listed_twice_is_refused() {
    let bench = Bench::new();
    let network = text(&fixture("lora/L1_attention.safetensors"));
    refused(&bench, &["--network_weights", &network, &network], 2, &["L1_attention.safetensors"]);
    fs::copy(&network, bench.path("copy.safetensors")).unwrap();
    refused(&bench, &["--network_weights", &network, "copy.safetensors"], 2, &["copy.safetensors"]);
}

#[test]
fn folders_without_usable_pictures_are_named() {
    let bench = Bench::new();
    fs::create_dir(bench.path("nothing")).unwrap();
    refused(&bench, &["--train_data_dir", "nothing"], 1, &["no pictures in", "nothing"]);
    fs::write(bench.path("pictures/1_someone/bad.png"), "not a picture").unwrap();
    refused(&bench, &[], 1, &["bad.png"]);
}

#[test]
fn options_that_make_no_sense_are_named() {
    let bench = Bench::new();
    for (arguments, part) in [
        (&["--resolution", "0"][..], "resolution"),
        (&["--resolution", "-1"], "--resolution"),
        (&["--train_batch_size", "-1"], "--train_batch_size"),
        (&["--train_batch_size", "0"], "--train_batch_size is 0"),
        (&["--max_train_steps", "0"], "--max_train_steps is 0"),
        (&["--learning_rate", "-0.1"], "learning_rate is -0.1"),
        (&["--learning_rate", "fast"], "--learning_rate"),
        (&["--mixed_precision", "fp16"], "use bf16"),
        (&["--network_module", "lycoris.kohya"], "--network_module lycoris.kohya"),
        (&["--caption_extension", ""], "caption extension"),
        (&["--device", "gpu"], "--device"),
        (&["--learning_rat", "1"], "--learning_rat"),
        (&["--resume", "--overwrite"], "--overwrite"),
    ] {
        refused(&bench, arguments, 2, &[part]);
    }
    let mut bare = std::process::Command::new(env!("CARGO_BIN_EXE_lora-rates"));
    bare.arg("search");
    assert!(fail(bare, 2).contains("--pretrained_model_name_or_path is missing"));
    let mut unknown = std::process::Command::new(env!("CARGO_BIN_EXE_lora-rates"));
    unknown.arg("nonsense");
    assert!(fail(unknown, 2).contains("nonsense"));
}

#[test]
fn files_of_options_that_make_no_sense_are_named() {
    let bench = Bench::new();
    for (content, part) in [
        ("learning_rat = 0.1", "did you mean learning_rate?"),
        ("train_batch_size = -1", "train_batch_size"),
        ("= 1", "line 1"),
    ] {
        fs::write(bench.path("search.toml"), content).unwrap();
        refused(&bench, &["--config_file", "search.toml"], 2, &["search.toml", part]);
    }
}

#[test]
fn a_device_that_is_not_there_is_said_so() {
    let bench = Bench::new();
    refused(&bench, &["--device", "cuda:99"], 1, &["--device cuda:99"]);
    // Nothing was lost: the same name is free at once.
    search_support::succeed(bench.search(&["--max_train_steps", "1"]));
}
