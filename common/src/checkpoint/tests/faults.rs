use super::*;
use crate::tensor_file::Dtype;

const WEIGHT: &str = "model.diffusion_model.middle_block.1.proj_in.weight";

#[test]
fn a_missing_tensor_is_named_and_the_others_counted() {
    let (_folder, path) = single_with(|tensors| {
        tensors.retain(|tensor| !tensor.name.starts_with("model.diffusion_model.middle_block.1.proj_"));
    });
    let names = ["changed.safetensors", "unet.middle_block.1.proj_in.weight is missing", "3 more tensors are wrong"];
    assert_has(&refusal(&path), &names);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let (_folder, path) = single_with(|tensors| named(tensors, WEIGHT).shape = vec![64, 256]);
    assert_has(&refusal(&path), &["changed.safetensors", WEIGHT, "has shape [64, 256], not [128, 128]"]);
}

#[test]
fn an_unknown_tensor_is_named_in_every_part() {
    for name in [
        "model.diffusion_model.input_blocks.9.0.op.weight",
        "first_stage_model.encoder.extra.weight",
        "conditioner.embedders.0.transformer.extra",
        "conditioner.embedders.1.model.extra",
        "extra",
    ] {
        let (_folder, path) = single_with(|tensors| tensors.push(NewTensor::from_f32(name, &[1], &[0.0])));
        assert_has(&refusal(&path), &["changed.safetensors", &format!("{name} is none of SDXL's;")]);
    }
}

#[test]
fn tensors_that_none_needs_are_passed_over() {
    let (_folder, path) = single_with(|tensors| {
        for name in [
            "alphas_cumprod",
            "betas",
            "sqrt_one_minus_alphas_cumprod",
            "log_one_minus_alphas_cumprod",
            "posterior_variance",
            "denoiser.sigmas",
            "model_ema.decay",
            "model_ema.diffusion_modelout2bias",
            "v_pred",
            "first_stage_model.loss.logvar",
            "conditioner.embedders.1.model.attn_mask",
        ] {
            tensors.push(NewTensor::from_f32(name, &[1], &[f32::NAN]));
        }
    });
    let checkpoint = Checkpoint::open(&path).unwrap();
    checkpoint.check_finite().unwrap();
    assert_same_tensors(&checkpoint, &Checkpoint::open(&tiny_single()).unwrap());
}

#[test]
fn a_joint_projection_that_cannot_be_cut_in_three_is_misshapen() {
    let name = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias";
    let (_folder, path) = single_with(|tensors| {
        let tensor = named(tensors, name);
        tensor.shape = vec![4, tensor.shape[0] / 4];
    });
    assert_has(&refusal(&path), &[name, "2 more tensors are wrong"]);
}

#[test]
fn weights_of_eight_bits_or_integers_are_refused() {
    for dtype in [Dtype::F8_E4M3, Dtype::I8, Dtype::U8] {
        let (_folder, path) = single_with(|tensors| {
            let tensor = named(tensors, WEIGHT);
            tensor.dtype = dtype;
            tensor.data = Cow::Owned(vec![0; tensor.data.len() / 2]);
        });
        assert_has(&refusal(&path), &[WEIGHT, &format!("has type {dtype}"), "fp16, bf16 or fp32"]);
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let (_folder, path) = single_with(|tensors| {
        let bytes = named(tensors, WEIGHT).data.to_mut();
        bytes[1000..1002].copy_from_slice(&half::f16::NAN.to_le_bytes());
    });
    let message = Checkpoint::open(&path).unwrap().check_finite().unwrap_err().to_string();
    assert_has(&message, &["changed.safetensors", WEIGHT]);
}

#[test]
fn sizes_that_no_sdxl_has_are_refused() {
    let name = "model.diffusion_model.input_blocks.0.0.weight";
    let (_folder, path) = single_with(|tensors| {
        let tensor = named(tensors, name);
        tensor.shape[1] = 9;
        tensor.data = Cow::Owned(vec![0; 32 * 9 * 9 * 2]);
    });
    assert_has(&refusal(&path), &["changed.safetensors", "inpainting"]);
}

#[test]
fn a_text_encoder_without_its_prefix_is_refused() {
    let folder = folder_copy();
    let file = folder.path().join("text_encoder/model.safetensors");
    let bare = folder.path().join("bare.safetensors");
    rewrite(&file, &bare, |tensors| {
        for tensor in tensors {
            tensor.name = tensor.name.strip_prefix("text_model.").unwrap_or(&tensor.name).to_owned();
        }
    });
    fs::rename(bare, file).unwrap();
    let names = ["text_encoder/model.safetensors", "text_model.embeddings.token_embedding.weight", "is missing"];
    assert_has(&refusal(folder.path()), &names);
}

#[test]
fn a_fault_in_a_folder_names_the_file_of_the_part() {
    let folder = folder_copy();
    let file = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let changed = folder.path().join("changed.safetensors");
    rewrite(&file, &changed, |tensors| tensors.push(NewTensor::from_f32("down_blocks.3.extra", &[1], &[0.0])));
    fs::rename(changed, &file).unwrap();
    let names = ["unet/diffusion_pytorch_model.safetensors", "down_blocks.3.extra is none of SDXL's"];
    assert_has(&refusal(folder.path()), &names);
}

#[test]
fn a_tensor_stored_under_two_names_is_refused() {
    let folder = folder_copy();
    let file = folder.path().join("vae/diffusion_pytorch_model.safetensors");
    let changed = folder.path().join("changed.safetensors");
    rewrite(&file, &changed, |tensors| {
        let mut copy = named(tensors, "encoder.mid_block.attentions.0.to_q.weight").clone();
        copy.name = "encoder.mid_block.attentions.0.query.weight".to_owned();
        tensors.push(copy);
    });
    fs::rename(changed, &file).unwrap();
    assert_has(&refusal(folder.path()), &["vae/diffusion_pytorch_model.safetensors", "is stored twice"]);
}

#[test]
fn a_missing_file_or_part_of_a_folder_is_named() {
    let folder = folder_copy();
    let text = folder.path().join("text_encoder_2");
    fs::remove_file(text.join("model.safetensors")).unwrap();
    assert_has(&refusal(folder.path()), &["text_encoder_2 holds no model.safetensors"]);
    fs::remove_dir_all(text).unwrap();
    assert_has(&refusal(folder.path()), &["has no text_encoder_2"]);
    fs::remove_dir_all(folder.path().join("unet")).unwrap();
    assert_has(&refusal(folder.path()), &["without a UNet"]);
    fs::write(folder.path().join("model_index.json"), "{").unwrap();
    assert_has(&refusal(folder.path()), &["model_index.json is broken"]);
    let empty = tempfile::tempdir().unwrap();
    assert_has(&refusal(empty.path()), &["without a subfolder unet"]);
    assert_has(&refusal(&empty.path().join("absent.safetensors")), &["absent.safetensors", "check the path"]);
}
