//! What a search leaves behind: tables and lines for people, files for programs.

pub mod block_weight;
mod conclusion;
pub mod file;
pub(crate) mod json;
pub(crate) mod listing;
pub mod report;
pub(crate) mod shell;
pub mod stdout;
mod subject;
pub mod table;
mod validations;
pub mod weights;

pub use conclusion::ConclusionReport;
pub use subject::Subject;
pub use validations::Validations;

use lora_rates_common::block::BLOCKS;
use lora_rates_common::spec::NetworkRef;

/// The rates of one network, for printing.
#[derive(Clone, Copy, Debug)]
pub struct NetworkRates<'a> {
    /// The file's name without its extension.
    pub name: &'a str,
    /// Its rates, in the order of the blocks.
    pub rates: [f64; BLOCKS],
    /// Which of them have an effect.
    pub live: [bool; BLOCKS],
}

impl<'a> NetworkRates<'a> {
    /// Splits 20 N rates among N networks; a rate that is missing is 0.
    pub fn of(networks: &'a [NetworkRef], rates: &[f64]) -> Vec<Self> {
        let mut chunks = rates.chunks(BLOCKS);
        let rates = std::iter::repeat_with(|| {
            let mut own = [0.0; BLOCKS];
            own.iter_mut().zip(chunks.next().unwrap_or_default()).for_each(|(own, rate)| *own = *rate);
            own
        });
        let networks = networks.iter().zip(rates);
        networks.map(|(network, rates)| Self { name: &network.name, rates, live: network.live }).collect()
    }

    /// The rates with 0 wherever they have no effect.
    pub fn effective(&self) -> [f64; BLOCKS] {
        let mut rates = self.rates;
        rates.iter_mut().zip(self.live).filter(|(_, live)| !live).for_each(|(rate, _)| *rate = 0.0);
        rates
    }
}

#[cfg(test)]
mod tests;
