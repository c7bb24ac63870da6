//! `lora-rates sample`: pictures at given rates.

use super::rates_file;
use crate::failure::Failure;
use crate::options::Resolution;
use crate::output::file::replace;
use crate::pictures::{Base, Sampler};
use crate::progress::note;
use anyhow::{Context as _, anyhow};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::convert::MAX_NETWORKS;
use lora_rates_common::picture::to_png;
use lora_rates_common::sampling::{self, Defaults, Prompt};
use lora_rates_common::spec::Precision;
use lora_rates_common::tokenizer::TokenLength;
use lora_rates_worker::device::Device;
use std::path::PathBuf;

/// Sample pictures at given rates, without a search
///
/// Prompts are lines as `lora-rates search --sample_prompts` reads them: --n what to avoid, --w and --h the size, --d the
/// seed, --l the guidance's scale, --s Euler's steps. The pictures are OUTPUT_DIR/NAME_PLACE_SEED.png.
#[derive(Clone, Debug, clap::Args)]
#[command(rename_all = "snake_case", allow_negative_numbers = true)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["rates", "rate"])))]
#[command(group(clap::ArgGroup::new("what").required(true).args(["sample_prompts", "prompt"])))]
pub struct Args {
    /// The base model: a single-file SDXL checkpoint or a diffusers folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    pretrained_model_name_or_path: PathBuf,

    /// Another VAE than the checkpoint's: a file or a folder
    #[arg(long, value_name = "PATH", help_heading = "Model")]
    vae: Option<PathBuf>,

    /// The model predicts velocity, not noise
    #[arg(long, help_heading = "Model")]
    v_parameterization: bool,

    /// The networks, in the order of their rates
    #[arg(long, required = true, num_args = 1.., value_name = "FILE", help_heading = "Networks")]
    network_weights: Vec<PathBuf>,

    /// Leave out keys of a network that match no layer of the model instead of refusing the file
    #[arg(long, help_heading = "Networks")]
    skip_unmatched_keys: bool,

    /// The rates: NAME.safetensors or NAME.json of a search, or a JSON list of a list of 20 numbers for each network
    #[arg(long, value_name = "FILE", help_heading = "Rates")]
    rates: Option<PathBuf>,

    /// All rates the same
    #[arg(long, value_name = "RATE", help_heading = "Rates")]
    rate: Option<f64>,

    /// A file of prompts, one a line
    #[arg(long, value_name = "FILE", help_heading = "Pictures")]
    sample_prompts: Option<PathBuf>,

    /// A prompt, as a line of such a file
    #[arg(long, value_name = "TEXT", help_heading = "Pictures")]
    prompt: Option<String>,

    /// Size of pictures whose prompt says nothing of it: N, or WIDTH,HEIGHT
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Pictures")]
    resolution: Resolution,

    /// Seed of pictures whose prompt has none
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Pictures")]
    seed: u64,

    /// Tokens of a prompt that are read: 75, 150 or 225
    #[arg(long, value_name = "N", default_value = "75", help_heading = "Pictures")]
    max_token_length: TokenLength,

    /// Where to compute: cpu, cuda or cuda:K [default: the first GPU, else the CPU]
    #[arg(long, help_heading = "Device")]
    device: Option<Device>,

    /// What the model is computed in: no (f32) or bf16
    #[arg(long, default_value = "no", value_name = "no|bf16", help_heading = "Device")]
    mixed_precision: Precision,

    /// Folder for the pictures; it is made if it is missing
    #[arg(long, value_name = "FOLDER", default_value = "./output", help_heading = "Output")]
    output_dir: PathBuf,

    /// What the pictures' names begin with
    #[arg(long, value_name = "NAME", default_value = "sample", help_heading = "Output")]
    output_name: String,
}

/// Samples the pictures.
///
/// # Errors
/// Options that make no sense, and files that can't be read, written or computed.
pub fn run(args: Args) -> Result<(), Failure> {
    crate::settings::file_name(&args.output_name).map_err(Failure::usage)?;
    // What is wrong with small files is said before a model is loaded.
    let prompts = prompts(&args)?;
    let rates = rates(&args)?;
    let folder = &args.output_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make {}; check --output_dir", folder.display()))?;
    let mut sampler = Sampler::load(&Base {
        model: args.pretrained_model_name_or_path,
        vae: args.vae,
        networks: args.network_weights,
        skip_unmatched_keys: args.skip_unmatched_keys,
        device: args.device,
        precision: args.mixed_precision,
        v_parameterization: args.v_parameterization,
        max_token_length: args.max_token_length,
    })?;
    for (place, prompt) in prompts.iter().enumerate() {
        let picture = sampler.picture(prompt, args.seed, &rates, &mut |_, _| ())?;
        let seed = prompt.seed.unwrap_or(args.seed);
        let path = folder.join(format!("{}_{place:02}_{seed}.png", args.output_name));
        let write = || anyhow::Ok(replace(&path, &to_png(&picture)?)?);
        write().with_context(|| format!("can't write {}; check --output_dir", path.display()))?;
        note(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn prompts(args: &Args) -> Result<Vec<Prompt>, Failure> {
    let defaults = Defaults::of_size(args.resolution.width, args.resolution.height);
    match (&args.sample_prompts, &args.prompt) {
        (Some(path), _) => Ok(sampling::read(path, defaults)?),
        (None, Some(line)) => {
            let prompt = sampling::parse(line, defaults);
            Ok(vec![prompt.map_err(|why| Failure::Usage(anyhow!("--prompt {line:?}: {why}")))?])
        }
        (None, None) => Ok(Vec::new()),
    }
}

fn rates(args: &Args) -> Result<Vec<f64>, Failure> {
    let networks = args.network_weights.len();
    if networks > MAX_NETWORKS {
        return Err(Failure::Usage(anyhow!(
            "--network_weights has {networks} files; at most {MAX_NETWORKS} are taken"
        )));
    }
    match (&args.rates, args.rate) {
        (Some(path), _) => rates_file::read(path, networks),
        (None, Some(rate)) if (rate as f32).is_finite() => Ok(vec![rate; BLOCKS * networks]),
        (None, rate) => {
            let rate = rate.unwrap_or(f64::NAN);
            Err(Failure::Usage(anyhow!("--rate is {rate}; it must be a number that F32 holds")))
        }
    }
}
