use super::*;
use crate::sdxl::layout;
use std::collections::BTreeMap;

fn shapes(config: &SdxlConfig) -> BTreeMap<String, Vec<usize>> {
    layout::tensors(config).into_iter().map(|tensor| (tensor.name, tensor.shape)).collect()
}

fn infer(shapes: &BTreeMap<String, Vec<usize>>) -> Result<SdxlConfig, Error> {
    SdxlConfig::infer(|name| shapes.get(name).cloned())
}

fn tiny() -> SdxlConfig {
    let mut config = SdxlConfig::sdxl_base();
    config.unet.model_channels = 32;
    config.unet.transformer_depth = vec![0, 1, 2];
    config.unet.middle_depth = 2;
    config.unet.context_dim = 192;
    config.unet.adm_channels = 128 + 6 * 256;
    config.unet.time_embed_dim = 128;
    config.text_encoder_1 = TextConfig { hidden: 64, layers: 3, mlp: 256, ..config.text_encoder_1 };
    config.text_encoder_2 =
        TextConfig { hidden: 128, layers: 4, mlp: 512, projection: Some(128), ..config.text_encoder_2 };
    config.vae.channels = vec![32, 32, 64, 64];
    config
}

#[test]
fn the_sizes_are_read_back_from_the_tensors_that_they_give() {
    for config in [SdxlConfig::sdxl_base(), tiny()] {
        assert_eq!(infer(&shapes(&config)), Ok(config));
    }
}

#[test]
fn the_size_embedding_of_the_base_model_is_256_wide() {
    assert_eq!(SdxlConfig::sdxl_base().size_embedding_width(), 256);
    assert_eq!(tiny().size_embedding_width(), 256);
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    type Change = fn(&mut SdxlConfig);
    let changes: [(&str, Change); 12] = [
        ("inpainting", |config| config.unet.in_channels = 9),
        ("multiple of 32", |config| config.unet.model_channels = 48),
        ("multiple of 64", |config| config.unet.channel_mult = vec![1, 1, 4]),
        ("three levels", |config| config.unet.channel_mult = vec![1, 2]),
        ("transformers", |config| config.unet.transformer_depth = vec![0, 0, 2]),
        ("multiple of 64", |config| config.text_encoder_1.hidden = 72),
        ("fewer than two", |config| config.text_encoder_2.layers = 1),
        ("positions", |config| config.text_encoder_2.positions = 248),
        ("wide text", |config| config.unet.context_dim = 256),
        ("pooled", |config| config.unet.adm_channels = 130),
        ("latents have 16", |config| config.vae.latent = 16),
        ("multiple of 32", |config| config.vae.channels = vec![32, 32, usize::MAX, 64]),
    ];
    for (expected, change) in changes {
        let mut config = tiny();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(expected), "{message} lacks {expected}");
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let name = "unet.input_blocks.4.0.in_layers.2.weight";
    let mut shapes = shapes(&tiny());
    shapes.insert(name.to_owned(), vec![64, 32]);
    assert_eq!(infer(&shapes), Err(Error::Rank { tensor: name.to_owned(), shape: vec![64, 32] }));
    shapes.remove(name);
    assert_eq!(infer(&shapes), Err(Error::Missing { tensor: name.to_owned() }));
    assert_eq!(infer(&BTreeMap::new()).map_err(|error| error.to_string().contains("input_blocks.0.0")), Err(true));
}

#[test]
fn absurd_shapes_end_in_an_error_not_in_overflow() {
    let shapes = shapes(&tiny());
    for name in shapes.keys().filter(|name| name.ends_with(".weight")) {
        for size in [0, usize::MAX, 1 << 62] {
            let mut shapes = shapes.clone();
            let shape = shapes.get_mut(name).unwrap();
            shape.fill(size);
            // Tensors that show no size are compared with the layout later.
            if let Ok(config) = infer(&shapes) {
                assert_eq!(config, tiny(), "{name}");
            }
        }
    }
}

#[test]
fn the_sizes_survive_json() {
    let text = serde_json::to_string(&tiny()).unwrap();
    assert_eq!(serde_json::from_str::<SdxlConfig>(&text).unwrap(), tiny());
}
