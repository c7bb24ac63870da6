//! Text encoders, VAE and UNet on the CPU in f32, against PyTorch's numbers.

use lora_rates_common::picture;
use lora_rates_test_support::tiny_diffusers;
use lora_rates_tests::golden::{Numbers, close, engine, engine_of};
use lora_rates_worker::engine::{GradientEngine, Shown};

const BOUND: f64 = 1e-4;

#[test]
fn text_encoders_give_the_reference_states_for_77_152_and_227_tokens() {
    let numbers = Numbers::open("te/text_encoders.safetensors");
    let mut engine = engine(false);
    for mode in ["77", "150", "225"] {
        let prompts = numbers.prompts(&format!("{mode}/ids_clip_l"), &format!("{mode}/ids_clip_g"));
        let text = engine.encode_text(&prompts, &[]).expect("prompts are encoded");
        let (l, g) = (numbers.floats(&format!("{mode}/clip_l")), numbers.floats(&format!("{mode}/clip_g")));
        let want: Vec<f64> = l.chunks(64).zip(g.chunks(128)).flat_map(|(l, g)| [l, g].concat()).collect();
        close(&format!("{mode} context"), &text.context, &want, BOUND);
        close(&format!("{mode} pooled"), &text.pooled, &numbers.floats(&format!("{mode}/pooled_f64")), BOUND);
    }
}

#[test]
fn the_vae_encodes_and_decodes_as_the_reference() {
    let numbers = Numbers::open("image/vae.safetensors");
    let mut engine = engine(false);
    for file in ["astronaut_64x64.png", "coffee_96x64.png"] {
        let shape = numbers.shape(&format!("{file}/input"));
        let pixels = picture::Pixels {
            height: shape[2] as u32,
            width: shape[3] as u32,
            data: numbers.singles(&format!("{file}/input")),
        };
        let moments = engine.encode(&pixels).expect("a picture is encoded");
        let (mean, logvar) = moments.values.split_at(moments.values.len() / 2);
        close("mean", mean, &numbers.floats(&format!("{file}/mean_f64")), BOUND);
        close("logvar", logvar, &numbers.floats(&format!("{file}/logvar")), BOUND);
        let noise = numbers.singles(&format!("{file}/noise"));
        let sample = moments.sample(&noise);
        close("scaled sample", &sample, &numbers.floats(&format!("{file}/scaled_sample")), BOUND);
        let decoded = engine.decode(&noise, moments.height, moments.width).expect("latents are decoded");
        close("decoded", &decoded, &numbers.floats(&format!("{file}/decoded")), BOUND);
    }
}

#[test]
fn the_unet_predicts_as_the_reference_in_every_bucket_shape_and_from_both_layouts() {
    let numbers = Numbers::open("unet/unet.safetensors");
    for mut engine in [engine(false), engine_of(&tiny_diffusers(), false)] {
        for case in ["square", "wide", "tall_small", "long_context"] {
            let name = |part: &str| format!("{case}/{part}");
            let shape = numbers.shape(&name("x"));
            let (noisy, timesteps) = (numbers.singles(&name("x")), numbers.timesteps(&name("timesteps")));
            let prompts = numbers.prompts(&name("ids_clip_l"), &name("ids_clip_g"));
            let time_ids = numbers.time_ids(&name("time_ids"));
            let shown = Shown {
                height: shape[2],
                width: shape[3],
                noisy: &noisy,
                timesteps: &timesteps,
                prompts: &prompts,
                time_ids: &time_ids,
            };
            let prediction = engine.predict(&shown, &[]).expect("a prediction");
            close(case, &prediction, &numbers.floats(&name("eps_f64")), BOUND);
        }
    }
}
