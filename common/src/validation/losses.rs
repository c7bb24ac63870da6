//! What an evaluation on held-out pictures comes to.

use crate::plan::Microbatch;
use std::collections::BTreeMap;

/// The losses of an evaluation, or differences of several, picture by picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Losses {
    /// In the order of the pictures' numbers; of each picture in the order of its timesteps.
    pictures: Vec<Vec<f64>>,
}

impl Losses {
    /// Of the losses of all samples of these microbatches, in their order. Those that are missing are left out.
    #[must_use]
    pub fn new<'a>(microbatches: &[Microbatch], losses: impl IntoIterator<Item = &'a f64>) -> Self {
        let samples = microbatches.iter().flat_map(|batch| &batch.samples);
        let mut pictures: BTreeMap<u32, BTreeMap<u32, f64>> = BTreeMap::new();
        for (sample, loss) in samples.zip(losses) {
            pictures.entry(sample.image).or_default().insert(sample.repeat, *loss);
        }
        Self { pictures: pictures.into_values().map(|losses| losses.into_values().collect()).collect() }
    }

    /// Sample by sample the sum of factor times losses. All are of the same samples.
    #[must_use]
    pub fn sum(parts: &[(f64, &Self)]) -> Self {
        let [(_, first), ..] = parts else { return Self::default() };
        let mut sum: Vec<Vec<f64>> = first.pictures.iter().map(|losses| vec![0.0; losses.len()]).collect();
        for (factor, part) in parts {
            let losses = part.pictures.iter().flatten();
            sum.iter_mut().flatten().zip(losses).for_each(|(sum, loss)| *sum += factor * loss);
        }
        Self { pictures: sum }
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.pictures.iter().map(Vec::len).sum()
    }

    /// The mean of each picture, in the order of their numbers.
    #[must_use]
    pub fn by_picture(&self) -> Vec<f64> {
        self.pictures.iter().map(|losses| average(losses)).collect()
    }

    /// The mean of the pictures' means, and its standard error.
    ///
    /// The error is that of a mean over independent pictures: their standard deviation (n - 1) over the square root of
    /// their number. It covers what differs between pictures, and what noise and timesteps leave to chance within each;
    /// what the loss varies with the timestep is no part of it, because every picture is measured over the whole range.
    ///
    /// Of a single picture it covers chance alone: with `K` timesteps, one of each part of the range, its square is the
    /// sum of squared second differences over `6 K (K - 2)`, to which a loss that changes evenly with the timestep adds
    /// nothing. It is 0 of fewer than three samples.
    #[must_use]
    pub fn mean(&self) -> (f64, f64) {
        let means = self.by_picture();
        let mean = average(&means);
        let count = means.len() as f64;
        let variance = match &self.pictures[..] {
            [] => 0.0,
            [losses] => {
                let count = losses.len() as f64;
                let second = losses.windows(3).map(|it| match it {
                    [before, this, after] => (before - 2.0 * this + after).powi(2),
                    _ => 0.0,
                });
                second.sum::<f64>() / (6.0 * count * (count - 2.0)).max(1.0)
            }
            _ => means.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0) / count,
        };
        (mean, variance.sqrt())
    }
}

fn average(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{self, Key};
    use crate::plan::PlanSample;

    /// Two pictures, two timesteps each, in another order than theirs.
    fn losses() -> Losses {
        let key = Key { seed: 0, step: 0, sample: 0 };
        let sample =
            |image, repeat| PlanSample { image, repeat, flip: false, timestep: 0, noise_key: key, negated: false };
        let batch = |samples: &[(u32, u32)]| Microbatch {
            bucket: (64, 64),
            samples: samples.iter().map(|(image, repeat)| sample(*image, *repeat)).collect(),
        };
        Losses::new(&[batch(&[(7, 1), (3, 0)]), batch(&[(7, 0), (3, 1)])], &[4.0, 1.0, 6.0, 2.0])
    }

    #[test]
    fn losses_are_sorted_by_picture_and_timestep() {
        assert_eq!(losses(), Losses { pictures: vec![vec![1.0, 2.0], vec![6.0, 4.0]] });
        assert_eq!((losses().samples(), losses().by_picture()), (4, vec![1.5, 5.0]));
    }

    #[test]
    fn the_error_is_that_of_the_pictures_means_and_of_neighbours_where_there_is_one() {
        let (mean, error) = losses().mean();
        // Two means 3.5 apart: variance 3.5^2 / 2, over 2.
        assert!(mean == 3.25 && (error - 1.75).abs() < 1e-15);
        let (mean, error) = Losses { pictures: vec![vec![1.0, 2.0, 4.0]] }.mean();
        assert!((mean - 7.0 / 3.0).abs() < 1e-15 && (error - (1.0_f64 / 18.0).sqrt()).abs() < 1e-15);
        assert_eq!(Losses { pictures: vec![vec![7.0]] }.mean(), (7.0, 0.0));
        assert_eq!(Losses::default().mean(), (0.0, 0.0));
    }

    #[test]
    fn a_sum_is_taken_sample_by_sample() {
        let second = Losses { pictures: vec![vec![1.0, 1.0], vec![0.0, 2.0]] };
        let sum = Losses::sum(&[(2.0, &losses()), (-1.0, &second)]);
        assert_eq!(sum.pictures, [vec![1.0, 3.0], vec![12.0, 6.0]]);
    }

    /// Of `pictures` at `draws` timesteps each: a level of the picture's own, a loss that falls steeply with the timestep
    /// as SDXL's does, and noise in proportion to it. The true mean is that over the range.
    fn simulated(trial: u64, pictures: u32, draws: u32, level: f64) -> Losses {
        let normal = |step, sample| f64::from(noise::latent_noise(Key { seed: trial, step, sample }, 1)[0]);
        let of = |picture: u32| {
            let own = level * normal(0, picture.into());
            let draw = |stratum: u32| {
                let sample = u64::from(picture) << 32 | u64::from(stratum);
                let key = Key { seed: trial, step: 1, sample };
                let within = f64::from(noise::timestep(key, 0, 1000)) / 1000.0;
                let place = (f64::from(stratum) + within) / f64::from(draws);
                own + 0.3 * (-4.0 * place).exp() * (1.0 + 0.1 * normal(1, sample))
            };
            (0..draws).map(draw).collect()
        };
        Losses { pictures: (0..pictures).map(of).collect() }
    }

    /// Over many evaluations of other pictures, noise and timesteps, the reported variance is that of the mean.
    #[test]
    fn the_error_is_what_the_mean_varies_by_and_less_than_that_of_independent_samples() {
        const TRIALS: u64 = 2000;
        for (pictures, draws, level) in [(8, 4, 0.01), (4, 8, 0.0), (16, 4, 0.05), (1, 32, 0.0), (1, 8, 0.0)] {
            let results: Vec<Losses> = (0..TRIALS).map(|trial| simulated(trial, pictures, draws, level)).collect();
            let means: Vec<f64> = results.iter().map(|losses| losses.mean().0).collect();
            let truth = average(&means);
            let variance = means.iter().map(|mean| (mean - truth).powi(2)).sum::<f64>() / (TRIALS - 1) as f64;
            let reported = average(&results.iter().map(|losses| losses.mean().1.powi(2)).collect::<Vec<_>>());
            // The variance of so many trials is known to within 3 percent, and of few pictures is itself uncertain.
            // Of a single picture the first and last timesteps, where this loss is steepest, count for less.
            let range = if pictures == 1 { 0.75..1.3 } else { 0.89..1.12 };
            let ratio = reported / variance;
            assert!(range.contains(&ratio), "{pictures} pictures, {draws} draws: {ratio}");
            let naive = |losses: &Losses| {
                let all: Vec<f64> = losses.pictures.concat();
                let mean = average(&all);
                let squares = all.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
                squares / (all.len() * (all.len() - 1)) as f64
            };
            let naive = average(&results.iter().map(naive).collect::<Vec<_>>());
            // Where pictures differ more than timesteps do, samples of one picture are far from independent, and the
            // naive error is too small.
            if level < 0.05 {
                assert!(reported < 0.5 * naive, "{pictures} pictures, {draws} draws: {reported} of {naive}");
            } else {
                assert!(naive < 0.9 * variance, "{naive} of {variance}");
            }
        }
    }
}
