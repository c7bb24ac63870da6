//! The same prediction and the same gradient as engine burn's, whose graph and backward pass share no code with the tape's.

use super::*;
use lora_rates_common::diffusion::LossOptions;

#[track_caller]
fn compare(what: &str, burn: &mut dyn GradientEngine, tape: &mut Engine, networks: &[Network], batch: &Microbatch) {
    burn.attach(networks).unwrap();
    tape.attach(networks).unwrap();
    let rates = rates(networks.len());
    let want = burn.gradient(batch, &rates, &LossOptions::default()).unwrap();
    let got = tape.gradient(batch, &rates, &LossOptions::default()).unwrap();
    let prediction = error(&got.prediction, &want.prediction);
    assert!(prediction < 1e-5, "{what}: the prediction is off by {prediction:.1e}");
    if networks.is_empty() {
        assert!(got.grad.is_empty());
        return;
    }
    for (network, (got, want)) in got.grad.chunks(BLOCKS).zip(want.grad.chunks(BLOCKS)).enumerate() {
        let gradient = error(got, want);
        eprintln!("{what}, network {network}: prediction {prediction:.1e}, gradient {gradient:.1e}");
        assert!(gradient < 1e-4, "{what}: the gradient of network {network} is off by {gradient:.1e}");
    }
    let again = tape.gradient(batch, &rates, &LossOptions::default()).unwrap();
    assert_eq!((&got.grad, &got.prediction), (&again.grad, &again.prediction), "{what}: twice the same");
    let alone = tape.predict(&batch.shown(&crate::engine::loss::noisy(batch).unwrap()), &rates).unwrap();
    assert_eq!(alone, got.prediction, "{what}: the prediction alone is the same");
}

#[test]
fn attention_feed_forward_convolution_and_text_networks_have_burns_gradients() {
    let (mut burn, mut tape) = (burn(golden()), taped(golden(), Reference::exact(), false));
    let batch = microbatch(2, (16, 16), TokenLength::T75);
    for files in [
        vec![],
        vec!["L1_attention"],
        vec!["L2_unet_te"],
        vec!["L3_locon"],
        vec!["L1_attention", "L2_unet_te", "L3_locon"],
    ] {
        compare(&files.join(" + "), &mut burn, &mut tape, &golden_networks(&files), &batch);
    }
}

#[test]
fn activation_checkpointing_gives_the_same_bits() {
    let batch = microbatch(1, (16, 8), TokenLength::T75);
    let networks = golden_networks(&["L2_unet_te", "L3_locon"]);
    let gradient = |checkpointing| {
        let mut engine = taped(golden(), Reference::exact(), checkpointing);
        engine.attach(&networks).unwrap();
        engine.gradient(&batch, &rates(2), &LossOptions::default()).unwrap()
    };
    let (kept, computed) = (gradient(false), gradient(true));
    assert_eq!(kept.prediction, computed.prediction);
    assert_eq!(kept.grad, computed.grad);
}

#[test]
fn every_bucket_batch_and_prompt_length_has_burns_gradient() {
    let config = SdxlConfig::tiny();
    let (mut burn, mut tape) = (burn(random(&config)), taped(random(&config), Reference::exact(), false));
    let cases = [
        (1, (8, 8), TokenLength::T75, 1, 1),
        (3, (8, 16), TokenLength::T75, 2, 5),
        (2, (20, 12), TokenLength::T150, 3, 12),
    ];
    for (batch, bucket, length, count, rank) in cases {
        let (_folder, networks) = random_networks(&config, count, rank);
        let what = format!("{batch} of {bucket:?}, {count} of rank {rank}");
        compare(&what, &mut burn, &mut tape, &networks, &microbatch(batch, bucket, length));
    }
}

/// q, k and v are computed as one, whichever of them networks touch, and with whichever ranks.
#[test]
fn networks_on_some_of_the_layers_that_are_one_have_burns_gradient() {
    let config = SdxlConfig::tiny();
    let (mut burn, mut tape) = (burn(random(&config)), taped(random(&config), Reference::exact(), false));
    let (_folders, mut of_12): (Vec<_>, Vec<_>) = (0..3).map(|_| random_networks(&config, 1, 12)).unzip();
    let (_others, mut of_5): (Vec<_>, Vec<_>) = (0..3).map(|_| random_networks(&config, 1, 5)).unzip();
    let only = |networks: &mut Vec<Vec<Network>>, layers: &[&str]| {
        let mut network = networks.pop().unwrap().remove(0);
        network.modules.retain(|module| layers.iter().any(|layer| module.layer.contains(layer)));
        assert!(!network.modules.is_empty());
        network
    };
    let batch = microbatch(1, (16, 16), TokenLength::T75);
    for (what, networks) in [
        ("q alone", vec![only(&mut of_12, &["to_q"])]),
        ("v of the text alone", vec![only(&mut of_5, &["attn2.to_v"])]),
        ("q and v, and k", vec![only(&mut of_12, &["to_q", "to_v"]), only(&mut of_5, &["to_k"])]),
        ("all, and k of another rank", vec![only(&mut of_5, &["attn1"]), only(&mut of_12, &["to_k", "middle_block"])]),
    ] {
        compare(what, &mut burn, &mut tape, &networks, &batch);
    }
}

#[test]
fn a_model_of_other_widths_and_depths_has_burns_gradient() {
    let mut config = SdxlConfig::tiny();
    config.unet.model_channels = 64;
    config.unet.channel_mult = vec![1, 2, 3];
    config.unet.transformer_depth = vec![0, 2, 1];
    config.unet.middle_depth = 1;
    config.unet.time_embed_dim = 96;
    let (mut burn, mut tape) = (burn(random(&config)), taped(random(&config), Reference::exact(), false));
    let (_folder, networks) = random_networks(&config, 2, 4);
    compare("wider", &mut burn, &mut tape, &networks, &microbatch(2, (8, 12), TokenLength::T75));
}

/// The plan of what is narrow and what is wide, with bfloat16's rounding on the processor. The model is 32 to 128 channels
/// wide, so few roundings average out: at full size the error is smaller.
#[test]
fn rounded_to_bfloat16_the_gradient_keeps_its_direction() {
    let batch = microbatch(2, (16, 16), TokenLength::T75);
    let networks = golden_networks(&["L1_attention"]);
    let gradient = |device| {
        let mut engine = taped(golden(), device, false);
        engine.attach(&networks).unwrap();
        engine.gradient(&batch, &rates(1), &LossOptions::default()).unwrap().grad
    };
    let (exact, rounded) = (gradient(Reference::exact()), gradient(Reference::rounded()));
    let (cosine, error) = (cosine(&rounded, &exact), error(&rounded, &exact));
    eprintln!("bfloat16: cosine {cosine}, error {error:.1e}");
    assert!(cosine > 0.99 && error < 0.15, "cosine {cosine}, error {error:.1e}");
}

#[test]
fn requests_that_make_no_sense_are_refused_and_the_engine_goes_on() {
    let config = SdxlConfig::tiny();
    let mut tape = taped(random(&config), Reference::exact(), false);
    let (_folder, networks) = random_networks(&config, 1, 2);
    tape.attach(&networks).unwrap();
    let batch = microbatch(1, (8, 8), TokenLength::T75);
    let refused = tape.gradient(&batch, &[0.5; 3], &LossOptions::default()).unwrap_err();
    assert_eq!(refused.to_string(), "3 rates were given, the networks have 20");
    let mut short = batch.clone();
    short.noise.pop();
    assert!(tape.gradient(&short, &rates(1), &LossOptions::default()).is_err());
    assert!(tape.gradient(&batch, &rates(1), &LossOptions::default()).is_ok());
}

#[test]
fn with_weights_in_eight_bits_the_gradient_keeps_its_direction() {
    let batch = microbatch(2, (16, 16), TokenLength::T75);
    let networks = golden_networks(&["L1_attention"]);
    let gradient = |fp8_base| {
        let mut engine = taped_as(golden(), Reference::exact(), EngineOptions { fp8_base, ..options() });
        engine.attach(&networks).unwrap();
        engine.gradient(&batch, &rates(1), &LossOptions::default()).unwrap().grad
    };
    let (exact, packed) = (gradient(false), gradient(true));
    let (cosine, error) = (cosine(&packed, &exact), error(&packed, &exact));
    eprintln!("e4m3: cosine {cosine}, error {error:.1e}");
    // Three bits are rounded by 2 % in the mean, and a model of 32 to 128 channels averages few of these roundings.
    assert!(cosine > 0.9 && (1e-3..0.5).contains(&error), "cosine {cosine}, error {error:.1e}");
}
