use super::*;

/// A file of tensors that have these names and one element.
fn file_of(names: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensors: Vec<_> = names.iter().map(|name| NewTensor::from_f32(*name, &[1], &[0.0])).collect();
    write(&path, &tensors);
    (folder, path)
}

#[test]
fn single_files_of_other_families_are_named() {
    let unet = "model.diffusion_model.input_blocks.0.0.weight";
    for (names, family) in [
        (
            vec![unet, "cond_stage_model.transformer.text_model.final_layer_norm.bias"],
            "a Stable Diffusion 1.5 checkpoint",
        ),
        (vec![unet, "cond_stage_model.model.ln_final.bias"], "a Stable Diffusion 2 checkpoint"),
        (vec![unet, "conditioner.embedders.0.model.ln_final.bias"], "an SDXL refiner checkpoint"),
        (vec!["double_blocks.0.img_attn.qkv.weight"], "a Flux checkpoint"),
        (vec!["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"], "a Flux checkpoint"),
        (vec!["model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"], "a Stable Diffusion 3 checkpoint"),
    ] {
        let (_folder, path) = file_of(&names);
        let expected = format!("{} is {family}; LoRA Rates searches SDXL: give an SDXL checkpoint", path.display());
        assert_eq!(refusal(&path), expected);
    }
}

#[test]
fn files_that_are_no_checkpoint_are_told_what_they_are() {
    for (name, kind) in [
        ("lora_unet_input_blocks_4_1_proj_in.lora_down.weight", "a LoRA"),
        ("unet.down_blocks.1.attentions.0.proj_in.lora_A.weight", "a LoRA"),
        ("diffusion_model.double_blocks.0.img_attn.qkv.lora_B.weight", "a LoRA"),
        ("down_blocks.0.resnets.0.conv1.weight", "a UNet alone"),
        ("first_stage_model.quant_conv.weight", "a VAE alone"),
        ("decoder.up.0.block.0.conv1.weight", "a VAE alone"),
        ("text_model.final_layer_norm.bias", "a text encoder alone"),
        ("weights", "a file of other tensors"),
    ] {
        let (_folder, path) = file_of(&[name]);
        assert_has(&refusal(&path), &["model.safetensors is ", kind, "give an SDXL checkpoint"]);
    }
    let path = lora_rates_test_support::fixture("lora/L1_attention.safetensors");
    assert_has(&refusal(&path), &["L1_attention.safetensors is a LoRA"]);
}

#[test]
fn a_single_file_that_lacks_a_part_says_which() {
    for (prefix, message) in [
        ("model.diffusion_model.", "has no unet; give a complete SDXL checkpoint"),
        ("conditioner.embedders.1.", "has no text_encoder_2"),
        ("first_stage_model.", "has no vae; give one with --vae"),
    ] {
        let (_folder, path) = single_with(|tensors| tensors.retain(|tensor| !tensor.name.starts_with(prefix)));
        assert_has(&refusal(&path), &["changed.safetensors", message]);
    }
}

#[test]
fn folders_of_other_families_are_named() {
    for (class, family) in [("FluxPipeline", "a Flux"), ("StableDiffusion3Pipeline", "a Stable Diffusion 3")] {
        let folder = tempfile::tempdir().unwrap();
        let index = serde_json::json!({"_class_name": class});
        fs::write(folder.path().join("model_index.json"), index.to_string()).unwrap();
        assert_has(&refusal(folder.path()), &[family, "checkpoint; LoRA Rates searches SDXL"]);
    }
    let text = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight";
    for (name, shape, family) in [
        (text, &[1, 768][..], "a Stable Diffusion 1.5"),
        (text, &[1, 1024], "a Stable Diffusion 2"),
        ("conv_in.weight", &[384, 1, 1, 1], "an SDXL refiner"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let unet = folder.path().join("unet/diffusion_pytorch_model.safetensors");
        write(&unet, &[NewTensor::from_f32(name, shape, &vec![0.0; shape.iter().product()])]);
        assert_has(&refusal(folder.path()), &[family, "checkpoint; LoRA Rates searches SDXL"]);
    }
}
