//! The JSON files that describe a model in diffusers' folder layout.

use lora_rates_common::sdxl::config::{Activation, HEAD_SIZE, LATENT_SCALE, NORM_GROUPS, SdxlConfig, TextConfig};
use serde_json::{Value, json};
use std::path::Path;

/// What a folder in this layout is known by.
const INDEX: &str = "model_index.json";

/// Writes [`INDEX`] and every part's `config.json`; the folders of the parts must be there.
pub(super) fn write(folder: &Path, config: &SdxlConfig) -> Result<(), anyhow::Error> {
    let files = [
        ("unet/config.json", unet(config)),
        ("vae/config.json", vae(config)),
        ("text_encoder/config.json", text("CLIPTextModel", &config.text_encoder_1)),
        ("text_encoder_2/config.json", text("CLIPTextModelWithProjection", &config.text_encoder_2)),
        (INDEX, index()),
    ];
    for (file, value) in files {
        std::fs::write(folder.join(file), format!("{value:#}\n"))?;
    }
    Ok(())
}

fn index() -> Value {
    json!({
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

fn unet(config: &SdxlConfig) -> Value {
    let unet = &config.unet;
    let channels: Vec<usize> = (0..unet.levels()).map(|level| unet.channels(level)).collect();
    // Called so by mistake since the first release of diffusers: it is the number of heads.
    let heads: Vec<usize> = channels.iter().map(|channels| (channels / HEAD_SIZE).max(1)).collect();
    // A level without transformers has the depth 1 here, and a type of block that has none.
    let depth: Vec<usize> = unet.transformer_depth.iter().map(|depth| *depth.max(&1)).collect();
    json!({
        "_class_name": "UNet2DConditionModel",
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": config.size_embedding_width(),
        "attention_head_dim": heads,
        "block_out_channels": channels,
        "cross_attention_dim": unet.context_dim,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "in_channels": unet.in_channels,
        "layers_per_block": unet.num_res_blocks,
        "norm_num_groups": NORM_GROUPS,
        "out_channels": unet.out_channels,
        "projection_class_embeddings_input_dim": unet.adm_channels,
        "sample_size": 8,
        "transformer_layers_per_block": depth,
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "use_linear_projection": true,
    })
}

fn vae(config: &SdxlConfig) -> Value {
    let levels = config.vae.levels();
    json!({
        "_class_name": "AutoencoderKL",
        "block_out_channels": config.vae.channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "force_upcast": true,
        "in_channels": 3,
        "latent_channels": config.vae.latent,
        "layers_per_block": config.vae.num_res_blocks,
        "norm_num_groups": NORM_GROUPS,
        "out_channels": 3,
        "sample_size": 64,
        "scaling_factor": LATENT_SCALE,
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
    })
}

fn text(class: &str, config: &TextConfig) -> Value {
    let activation = match config.activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
    };
    json!({
        "architectures": [class],
        "hidden_act": activation,
        "hidden_size": config.hidden,
        "intermediate_size": config.mlp,
        "max_position_embeddings": config.positions,
        "model_type": "clip_text_model",
        "num_attention_heads": config.hidden / HEAD_SIZE,
        "num_hidden_layers": config.layers,
        "projection_dim": config.projection.unwrap_or(config.hidden),
        "torch_dtype": "bfloat16",
        "vocab_size": config.vocab,
        // Marks of the published models' files, whose end mark is found as the greatest id.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    })
}
