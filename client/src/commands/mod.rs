//! The commands, one module each: what its command line is (`Args`) and what it does (`run`).

pub mod bench;
pub mod evaluate;
pub mod gradient;
pub mod sample;
pub mod synthetic;
pub mod trajectory;
pub mod variance;

pub(crate) mod control;
pub(crate) mod list;
pub(crate) mod rates;
pub(crate) mod watch;

mod batch;
mod model;
mod output;
mod rate_lines;
mod rates_file;
mod subject;
mod tensors;

use lora_rates_common::sdxl::config::SdxlConfig;

/// Size of a model of random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModelSize {
    Full,
    Tiny,
}

impl ModelSize {
    fn config(self) -> SdxlConfig {
        match self {
            Self::Full => SdxlConfig::sdxl_base(),
            Self::Tiny => SdxlConfig::tiny(),
        }
    }
}
