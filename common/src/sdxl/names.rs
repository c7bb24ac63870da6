//! From the names of other layouts to canonical ones and back, by rule.
//!
//! The rules move whole dotted segments and leave what follows a module's name (`.weight`, nothing, a network's
//! suffix) as it is. They don't look whether the model has such a layer; [`super::layout`] knows that.

mod single_file;
mod unet;
mod vae;

#[cfg(test)]
mod tests;

pub use single_file::{FromSingleFile, from_single_file};
pub use unet::{unet_from_diffusers, unet_to_diffusers};
pub use vae::{vae_from_diffusers, vae_to_diffusers};

use super::Part;

/// The part that a canonical name begins with: `unet.out.2.weight` gives the UNet.
pub fn part(canonical: &str) -> Option<Part> {
    let parts = [Part::TextEncoder1, Part::TextEncoder2, Part::Unet, Part::Vae];
    parts.into_iter().find(|part| after(canonical, part.prefix()).is_some())
}

/// Pairs of names for the same module.
type Pairs = [(&'static str, &'static str)];

/// Replaces the module's name at the beginning by the other name of its pair, forwards.
fn forwards(pairs: &Pairs, name: &str) -> Option<String> {
    pairs.iter().find_map(|(from, to)| after(name, from).map(|rest| format!("{to}{rest}")))
}

/// Replaces the module's name at the beginning by the other name of its pair, backwards.
fn backwards(pairs: &Pairs, name: &str) -> Option<String> {
    pairs.iter().find_map(|(to, from)| after(name, from).map(|rest| format!("{to}{rest}")))
}

/// What follows the module's name in `name`: nothing, or a dot and more.
fn after<'a>(name: &'a str, module: &str) -> Option<&'a str> {
    name.strip_prefix(module).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Splits `3.rest` into 3 and `rest`. Takes plain decimal numbers only, so that every number has one name.
fn number(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.split_once('.').unwrap_or((text, ""));
    let number: usize = digits.parse().ok()?;
    (number.to_string() == digits).then_some((number, rest))
}
