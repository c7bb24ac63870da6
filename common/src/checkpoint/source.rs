//! Which files the parts of a model come from, and which layout's names they use.

use super::error::Error;
use super::family::Content;
use super::folder;
use crate::sdxl::Part;
use crate::sdxl::config::SdxlConfig;
use crate::sdxl::names::{self, FromSingleFile};
use crate::tensor_file::TensorFile;
use std::path::Path;

/// Files that belong together and hold some parts of the model.
#[derive(Debug)]
pub(super) struct Source {
    /// The parts that are taken from here; the file may hold more.
    pub(super) parts: Vec<Part>,
    pub(super) naming: Naming,
    pub(super) files: Vec<TensorFile>,
}

/// How a source's tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// As in the original single-file checkpoint.
    SingleFile,
    /// As in the part's folder of diffusers' layout.
    Diffusers(Part),
    /// The VAE's original names without a prefix.
    BareVae,
}

impl Source {
    /// The sources of a whole checkpoint.
    pub(super) fn of_checkpoint(path: &Path) -> Result<Vec<Self>, Error> {
        if path.is_dir() {
            return folder::sources(path);
        }
        let file = TensorFile::open(path)?;
        match Content::of(&file) {
            Content::Sdxl => {
                let parts = vec![Part::TextEncoder1, Part::TextEncoder2, Part::Unet, Part::Vae];
                Ok(vec![Self { parts, naming: Naming::SingleFile, files: vec![file] }])
            }
            Content::Other(family) => Err(Error::Family { path: path.to_owned(), family }),
            Content::Not(kind) => Err(Error::NotCheckpoint { path: path.to_owned(), kind }),
        }
    }

    fn of_vae(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            return folder::vae(path);
        }
        let file = TensorFile::open(path)?;
        let has = |prefix: &str| file.names().any(|name| name.starts_with(prefix));
        let naming = if has("first_stage_model.") {
            Naming::SingleFile
        } else if has("encoder.down_blocks.") {
            Naming::Diffusers(Part::Vae)
        } else if has("encoder.down.") {
            Naming::BareVae
        } else {
            return Err(Error::NotVae { path: path.to_owned() });
        };
        Ok(Self { parts: vec![Part::Vae], naming, files: vec![file] })
    }
}

/// The same sources with the VAE taken from `path`.
pub(super) fn replace_vae(mut sources: Vec<Source>, path: &Path) -> Result<Vec<Source>, Error> {
    for source in &mut sources {
        source.parts.retain(|part| *part != Part::Vae);
    }
    sources.retain(|source| !source.parts.is_empty());
    sources.push(Source::of_vae(path)?);
    Ok(sources)
}

/// The first file that a part may lie in.
pub(super) fn path_of(sources: &[Source], part: Part) -> Option<&Path> {
    let source = sources.iter().find(|source| source.parts.contains(&part))?;
    source.files.first().map(TensorFile::path)
}

impl Naming {
    /// The canonical tensors that a stored tensor of this name holds; none for a name that follows no rule.
    pub(super) fn canonical(self, name: &str) -> Vec<FromSingleFile> {
        // The rules need to know where transformers and levels are: in any SDXL model where the base model has them.
        let base = SdxlConfig::sdxl_base();
        let name = match self {
            Self::SingleFile => return names::from_single_file(name),
            Self::Diffusers(Part::Unet) => names::unet_from_diffusers(name, &base.unet).map(|name| (Part::Unet, name)),
            Self::Diffusers(Part::Vae) => names::vae_from_diffusers(name, &base.vae).map(|name| (Part::Vae, name)),
            Self::Diffusers(part) => Some((part, name.to_owned())),
            Self::BareVae => Some((Part::Vae, name.to_owned())),
        };
        let whole = |(part, name)| FromSingleFile { name: format!("{part}.{name}"), third: None, transpose: false };
        name.map(whole).into_iter().collect()
    }

    /// Whether a tensor of this name is one that some programs store beside the model, and that none needs.
    pub(super) fn is_harmless(self, name: &str) -> bool {
        let in_vae = |rest: &str| rest.starts_with("loss.") || rest.starts_with("model_ema.");
        let anywhere = name.ends_with("embeddings.position_ids") || name.ends_with("logit_scale");
        anywhere
            || match self {
                Self::SingleFile => {
                    is_harmless_in_single_file(name) || name.strip_prefix("first_stage_model.").is_some_and(in_vae)
                }
                Self::BareVae | Self::Diffusers(Part::Vae) => in_vae(name),
                // CLIP-L's own pooled projection, which SDXL doesn't use.
                Self::Diffusers(Part::TextEncoder1) => name == "text_projection.weight",
                Self::Diffusers(_) => false,
            }
    }
}

fn is_harmless_in_single_file(name: &str) -> bool {
    // Tables of the noise schedule, which follow from two numbers, and marks of models that predict the velocity.
    const NAMES: [&str; 12] = [
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "lvlb_weights",
        "logvar",
        "scale_factor",
        "denoiser.sigmas",
        "denoiser.log_sigmas",
        "v_pred",
        "ztsnr",
        "conditioner.embedders.0.transformer.text_projection.weight",
        "conditioner.embedders.1.model.attn_mask",
    ];
    const PREFIXES: [&str; 5] = ["model_ema.", "sqrt_", "log_", "posterior_", "edm_vpred."];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
