//! What a report is about.

use super::NetworkRates;
use lora_rates_common::block::BLOCKS;
use lora_rates_common::spec::{NetworkRef, SearchSpec};
use std::path::PathBuf;

/// A search, as far as it is known here.
#[derive(Clone, Debug)]
pub struct Subject {
    /// All of it, where it was made here.
    pub(super) spec: Option<SearchSpec>,
    /// Its networks; which slots are live is only known with the specification.
    pub(super) networks: Vec<NetworkRef>,
    /// Its steps.
    steps: u64,
}

impl Subject {
    /// A search of which only names and digests of its networks are known.
    pub(crate) fn named(networks: impl IntoIterator<Item = (String, String)>, steps: u64) -> Self {
        let network = |(name, sha256)| NetworkRef { name, path: PathBuf::new(), sha256, live: [true; BLOCKS] };
        Self { spec: None, networks: networks.into_iter().map(network).collect(), steps }
    }

    /// Steps in all.
    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    /// The rates network by network. Where the networks' files are not at hand, a slot whose rate is exactly 0 counts
    /// as one without modules: such rates never move.
    pub(crate) fn with_rates(&self, rates: &[f64]) -> Vec<NetworkRates<'_>> {
        let mut networks = NetworkRates::of(&self.networks, rates);
        if self.spec.is_none() {
            networks.iter_mut().for_each(|network| network.live = network.rates.map(|rate| rate != 0.0));
        }
        networks
    }
}

impl From<SearchSpec> for Subject {
    fn from(spec: SearchSpec) -> Self {
        let (networks, steps) = (spec.networks.clone(), spec.options.max_train_steps);
        Self { spec: Some(spec), networks, steps }
    }
}
