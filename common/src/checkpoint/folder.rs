//! Diffusers' folder layout.

use super::error::Error;
use super::family::Family;
use super::source::{Naming, Source};
use crate::sdxl::Part;
use crate::sdxl::config::LATENT_SCALE;
use crate::tensor_file::TensorFile;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the weights of a UNet or VAE, without `.safetensors`.
const DIFFUSION: &str = "diffusion_pytorch_model";
/// Name of the weights of a text encoder, without `.safetensors`.
const MODEL: &str = "model";

#[derive(Deserialize)]
struct ModelIndex {
    #[serde(rename = "_class_name")]
    class: Option<String>,
}

#[derive(Deserialize)]
struct VaeFacts {
    scaling_factor: Option<f64>,
}

#[derive(Deserialize)]
struct Shards {
    weight_map: BTreeMap<String, String>,
}

/// The sources of a whole checkpoint.
pub(super) fn sources(path: &Path) -> Result<Vec<Source>, Error> {
    let other = |family| Err(Error::Family { path: path.to_owned(), family });
    let index: Option<ModelIndex> = json(&path.join("model_index.json"))?;
    let has_index = index.is_some();
    let class = index.and_then(|index| index.class).unwrap_or_default();
    if class.starts_with("Flux") {
        return other(Family::Flux);
    } else if class.starts_with("StableDiffusion3") {
        return other(Family::Sd3);
    }
    let has = |part: Part| path.join(part.prefix()).is_dir();
    if !has(Part::Unet) {
        let kind = if has_index { "a pipeline without a UNet" } else { "a folder without a subfolder unet" };
        return Err(Error::NotCheckpoint { path: path.to_owned(), kind });
    }
    let unet = part(path, Part::Unet)?;
    let both = has(Part::TextEncoder1) && has(Part::TextEncoder2);
    if !both && let Some(family) = family_of(&unet) {
        return other(family);
    }
    let mut sources = vec![unet];
    for text in [Part::TextEncoder1, Part::TextEncoder2] {
        if has(text) {
            sources.push(part(path, text)?);
        }
    }
    if has(Part::Vae) {
        sources.push(vae(path)?);
    }
    Ok(sources)
}

/// The VAE of a folder, which is its own or that of a whole checkpoint.
pub(super) fn vae(path: &Path) -> Result<Source, Error> {
    let below = path.join(Part::Vae.prefix());
    let folder = if below.is_dir() { below } else { path.to_owned() };
    let config = folder.join("config.json");
    let facts: Option<VaeFacts> = json(&config)?;
    // The VAEs of older families have the same shapes.
    match facts.and_then(|facts| facts.scaling_factor) {
        Some(scale) if (scale - LATENT_SCALE).abs() > 1e-6 => return Err(Error::VaeScale { path: config, scale }),
        _ => {}
    }
    let files = weights(&folder, DIFFUSION)?;
    Ok(Source { parts: vec![Part::Vae], naming: Naming::Diffusers(Part::Vae), files })
}

fn part(path: &Path, part: Part) -> Result<Source, Error> {
    let stem = if part == Part::Unet { DIFFUSION } else { MODEL };
    let files = weights(&path.join(part.prefix()), stem)?;
    Ok(Source { parts: vec![part], naming: Naming::Diffusers(part), files })
}

/// The family of a UNet with one text encoder. Those of the older ones have attention at the first level, to text of
/// different widths; the refiner's first level has 384 channels.
fn family_of(unet: &Source) -> Option<Family> {
    let shape = |name| unet.files.iter().find_map(|file| file.get(name)).map(|view| view.shape);
    match shape("down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight").as_deref() {
        Some([_, 1024]) => Some(Family::Sd2),
        Some(_) => Some(Family::Sd1),
        None => (shape("conv_in.weight")?.first() == Some(&384)).then_some(Family::Refiner),
    }
}

/// The files of weights in a folder: one, or several with an index; of half precision if there is no other.
fn weights(folder: &Path, stem: &'static str) -> Result<Vec<TensorFile>, Error> {
    for (file, shards) in [
        (format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json")),
        (format!("{stem}.fp16.safetensors"), format!("{stem}.safetensors.index.fp16.json")),
    ] {
        let file = folder.join(file);
        if file.exists() {
            return Ok(vec![TensorFile::open(&file)?]);
        }
        let index = folder.join(shards);
        if let Some(shards) = json::<Shards>(&index)? {
            return shard_paths(folder, &index, shards)?.iter().map(|path| Ok(TensorFile::open(path)?)).collect();
        }
    }
    Err(Error::NoWeights { folder: folder.to_owned(), stem })
}

fn shard_paths(folder: &Path, index: &Path, shards: Shards) -> Result<Vec<PathBuf>, Error> {
    let names: BTreeSet<String> = shards.weight_map.into_values().collect();
    let path = |name: String| {
        // A file beside the index: anything else could name any file of this machine.
        if Path::new(&name).file_name().is_some_and(|file| *file == *name) && !name.contains('\\') {
            return Ok(folder.join(name));
        }
        Err(Error::Json { path: index.to_owned(), what: format!("it names {name}, not a file beside it") })
    };
    names.into_iter().map(path).collect()
}

/// A JSON file's contents; `None` if there is no such file.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| Error::Json { path: path.to_owned(), what: error.to_string() })
}
