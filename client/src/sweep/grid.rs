//! The searches of a sweep: the product of its lists.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Most searches of a sweep.
pub(super) const MAX_SEARCHES: usize = 1000;

/// Which of the networks a search has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subsets {
    /// All of them.
    All,
    /// Each alone.
    Singles,
    /// Every two.
    Pairs,
    /// All but one.
    LeaveOneOut,
}

impl FromStr for Subsets {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "all" => Self::All,
            "singles" => Self::Singles,
            "pairs" => Self::Pairs,
            "leave_one_out" => Self::LeaveOneOut,
            _ => return Err("there are all, singles, pairs and leave_one_out".to_owned()),
        })
    }
}

/// The lists of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axes {
    /// Which networks.
    pub(crate) subsets: Vec<Subsets>,
    /// Weights of the penalty.
    pub(crate) application_loss_weights: Vec<f64>,
    /// Learning rates.
    pub(crate) learning_rates: Vec<f64>,
    /// Seeds.
    pub(crate) seeds: Vec<u64>,
}

/// One search of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    /// Says what is different about it: `all,w0.0001,lr0.1,seed7`.
    pub(super) label: String,
    /// Places of its networks.
    pub(super) networks: Vec<usize>,
    pub(super) application_loss_weight: f64,
    pub(super) learning_rate: f64,
    pub(super) seed: u64,
}

/// Too many searches.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sweep has {0} searches; at most {MAX_SEARCHES} are made at once: shorten the lists")]
pub(super) struct TooMany(usize);

impl Axes {
    /// All searches over networks of these names, every one once.
    ///
    /// # Errors
    /// There are more than [`MAX_SEARCHES`].
    pub(super) fn points(&self, names: &[String]) -> Result<Vec<Point>, TooMany> {
        let subsets = self.chosen(names);
        let (weights, rates) = (distinct(&self.application_loss_weights), distinct(&self.learning_rates));
        let seeds = distinct(&self.seeds);
        let count = [subsets.len(), weights.len(), rates.len(), seeds.len()];
        let count = count.into_iter().fold(1_usize, usize::saturating_mul);
        if count > MAX_SEARCHES {
            return Err(TooMany(count));
        }
        let mut points = Vec::with_capacity(count);
        for (subset, networks) in &subsets {
            for &application_loss_weight in &weights {
                for &learning_rate in &rates {
                    for &seed in &seeds {
                        let label = format!("{subset},w{application_loss_weight},lr{learning_rate},seed{seed}");
                        let networks = networks.clone();
                        points.push(Point { label, networks, application_loss_weight, learning_rate, seed });
                    }
                }
            }
        }
        Ok(points)
    }

    /// The sets of networks with what they are called, every set once and none of them empty.
    fn chosen(&self, names: &[String]) -> Vec<(String, Vec<usize>)> {
        let all: Vec<usize> = (0..names.len()).collect();
        let name = |place: usize| names.get(place).map(String::as_str).unwrap_or_default();
        let without = |left: usize| all.iter().copied().filter(|place| *place != left).collect::<Vec<_>>();
        let sets = self.subsets.iter().flat_map(|subsets| -> Vec<(String, Vec<usize>)> {
            match subsets {
                Subsets::All => vec![("all".to_owned(), all.clone())],
                Subsets::Singles => all.iter().map(|&one| (name(one).to_owned(), vec![one])).collect(),
                Subsets::Pairs => {
                    let pairs = all.iter().flat_map(|&a| (a + 1..names.len()).map(move |b| (a, b)));
                    pairs.map(|(a, b)| (format!("{}+{}", name(a), name(b)), vec![a, b])).collect()
                }
                Subsets::LeaveOneOut => {
                    all.iter().map(|&left| (format!("without {}", name(left)), without(left))).collect()
                }
            }
        });
        let mut seen = BTreeSet::new();
        sets.filter(|(_, set)| !set.is_empty() && seen.insert(set.clone())).collect()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// The values without repetitions, in their order.
fn distinct<T: PartialEq + Copy>(values: &[T]) -> Vec<T> {
    let mut found: Vec<T> = Vec::with_capacity(values.len());
    for value in values {
        if !found.contains(value) {
            found.push(*value);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(subsets: &[Subsets]) -> Axes {
        Axes {
            subsets: subsets.to_vec(),
            application_loss_weights: vec![1e-4, 1e-3, 1e-4],
            learning_rates: vec![0.1],
            seeds: vec![7, 8],
        }
    }

    fn names(count: usize) -> Vec<String> {
        ["a", "b", "c", "d"].into_iter().take(count).map(Into::into).collect()
    }

    #[test]
    fn the_grid_is_the_product_of_its_lists_without_repetitions() {
        let points = axes(&[Subsets::All]).points(&names(2)).unwrap();
        let labels: Vec<&str> = points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(
            labels,
            ["all,w0.0001,lr0.1,seed7", "all,w0.0001,lr0.1,seed8", "all,w0.001,lr0.1,seed7", "all,w0.001,lr0.1,seed8"]
        );
        assert!(points.iter().all(|point| point.networks == [0, 1]));
    }

    #[test]
    fn subsets_are_sets_and_come_once() {
        let sets = |subsets: &[Subsets], count| axes(subsets).chosen(&names(count));
        let places =
            |subsets: &[Subsets], count| sets(subsets, count).into_iter().map(|(_, set)| set).collect::<Vec<_>>();
        assert_eq!(places(&[Subsets::Pairs], 3), [vec![0, 1], vec![0, 2], vec![1, 2]]);
        assert_eq!(sets(&[Subsets::LeaveOneOut], 3)[1], ("without b".to_owned(), vec![0, 2]));
        assert_eq!(sets(&[Subsets::Pairs], 3)[1].0, "a+c");
        // With three networks all but one are pairs; with two they are singles.
        assert_eq!(places(&[Subsets::Pairs, Subsets::LeaveOneOut], 3).len(), 3);
        assert_eq!(places(&[Subsets::All, Subsets::Singles, Subsets::Pairs, Subsets::LeaveOneOut], 2).len(), 3);
        // A single network can't be left out.
        assert_eq!(places(&[Subsets::LeaveOneOut, Subsets::Pairs], 1), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn too_many_searches_are_refused_with_their_number() {
        let mut axes = axes(&[Subsets::All, Subsets::Singles]);
        axes.seeds = (0..1000).collect();
        assert_eq!(axes.points(&names(4)), Err(TooMany(10_000)));
        axes.subsets = vec![Subsets::All];
        axes.application_loss_weights = vec![0.0];
        assert_eq!(axes.points(&names(4)).unwrap().len(), 1000);
    }

    #[test]
    fn subsets_are_given_by_name() {
        assert_eq!("leave_one_out".parse(), Ok(Subsets::LeaveOneOut));
        assert!("some".parse::<Subsets>().unwrap_err().contains("singles"));
    }
}
