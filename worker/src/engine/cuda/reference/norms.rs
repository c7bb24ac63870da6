//! Group and layer normalisation: both standardise sets of numbers, given by their places.

use super::pointwise::derivative;
use crate::engine::cuda::tape::{Function, GROUPS, Shape};

/// Places of the numbers of one group of one sample.
fn group(shape: Shape, set: usize) -> impl Iterator<Item = usize> + Clone {
    let (sample, group, width) = (set / GROUPS, set % GROUPS, shape.channels / GROUPS);
    let first = sample * shape.places() * shape.channels + group * width;
    (0..shape.places()).flat_map(move |place| (0..width).map(move |c| first + place * shape.channels + c))
}

/// How numbers fall into sets.
#[derive(Clone, Copy)]
pub(super) enum Sets {
    Groups(Shape),
    Rows { rows: usize, channels: usize },
}

impl Sets {
    fn count(self) -> usize {
        match self {
            Self::Groups(shape) => shape.batch * GROUPS,
            Self::Rows { rows, .. } => rows,
        }
    }

    fn places(self, set: usize) -> Vec<usize> {
        match self {
            Self::Groups(shape) => group(shape, set).collect(),
            Self::Rows { channels, .. } => (set * channels..(set + 1) * channels).collect(),
        }
    }

    fn channels(self) -> usize {
        match self {
            Self::Groups(shape) => shape.channels,
            Self::Rows { channels, .. } => channels,
        }
    }
}

/// Scale and shift by channel.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) scale: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) silu: bool,
}

impl Affine<'_> {
    fn apply(&self, z: f64, channel: usize) -> f64 {
        z * f64::from(self.scale[channel]) + f64::from(self.shift[channel])
    }
}

/// The normalised numbers, and mean and inverse deviation of each set.
pub(super) fn forward(x: &[f32], sets: Sets, affine: &Affine<'_>, eps: f64) -> (Vec<f32>, Vec<f32>) {
    let mut out = vec![0.0; x.len()];
    let mut statistics = Vec::with_capacity(2 * sets.count());
    for set in 0..sets.count() {
        let places = sets.places(set);
        let n = places.len() as f64;
        let mean = places.iter().map(|p| f64::from(x[*p])).sum::<f64>() / n;
        let variance = places.iter().map(|p| (f64::from(x[*p]) - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + eps).sqrt();
        for place in places {
            let y = affine.apply((f64::from(x[place]) - mean) * inverse, place % sets.channels());
            out[place] = if affine.silu { y / (1.0 + (-y).exp()) } else { y } as f32;
        }
        statistics.extend([mean as f32, inverse as f32]);
    }
    (out, statistics)
}

/// Gradient of x: `inverse (e - mean(e) - z mean(e z))`.
pub(super) fn backward(x: &[f32], statistics: &[f32], g: &[f32], sets: Sets, affine: &Affine<'_>) -> Vec<f64> {
    let mut out = vec![0.0; x.len()];
    for set in 0..sets.count() {
        let (mean, inverse) = (f64::from(statistics[2 * set]), f64::from(statistics[2 * set + 1]));
        let one = |place: usize| {
            let (channel, z) = (place % sets.channels(), (f64::from(x[place]) - mean) * inverse);
            let slope = if affine.silu { derivative(Function::Silu, affine.apply(z, channel)) } else { 1.0 };
            (place, z, f64::from(g[place]) * slope * f64::from(affine.scale[channel]))
        };
        let parts: Vec<(usize, f64, f64)> = sets.places(set).into_iter().map(one).collect();
        let n = parts.len() as f64;
        let mean = parts.iter().map(|(.., e)| e).sum::<f64>() / n;
        let along = parts.iter().map(|(_, z, e)| z * e).sum::<f64>() / n;
        parts.into_iter().for_each(|(place, z, e)| out[place] = inverse * (e - mean - z * along));
    }
    out
}
