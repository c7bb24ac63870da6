//! Attention row by row.

use crate::engine::cuda::plan::{Heads, SideBySide};

/// One head of one sample inside a matrix of all heads.
#[derive(Clone, Copy)]
struct Head {
    sample: usize,
    head: usize,
    sizes: Heads,
}

impl Head {
    fn all(sizes: Heads) -> impl Iterator<Item = Self> {
        (0..sizes.batch * sizes.heads).map(move |i| Self { sample: i / sizes.heads, head: i % sizes.heads, sizes })
    }

    /// Where a row of this head begins, of so many rows in a sample.
    fn row(self, rows: usize, row: usize) -> usize {
        ((self.sample * rows + row) * self.sizes.heads + self.head) * self.sizes.size
    }

    fn query(self, x: &[f32], row: usize) -> &[f32] {
        &x[self.row(self.sizes.queries, row)..][..self.sizes.size]
    }

    fn key(self, x: &[f32], row: usize) -> &[f32] {
        &x[self.row(self.sizes.keys, row)..][..self.sizes.size]
    }

    fn sum(self, row: usize) -> usize {
        (self.sample * self.sizes.heads + self.head) * self.sizes.queries + row
    }

    /// Scaled scores of a row, as far as it may see.
    fn scores(self, q: &[f32], k: &[f32], row: usize) -> Vec<f64> {
        let seen = if self.sizes.causal { self.sizes.keys.min(row + 1) } else { self.sizes.keys };
        let scale = 1.0 / (self.sizes.size as f64).sqrt();
        (0..seen).map(|key| scale * dot(self.query(q, row), self.key(k, key))).collect()
    }
}

/// q, k and v each by itself, of matrices in which they lie as the sizes say.
pub(super) fn apart(matrices: [Vec<f32>; 3], sizes: Heads) -> [Vec<f32>; 3] {
    let ([of_q, of_k], begins, width) = (sizes.strides(), sizes.begins(), sizes.channels());
    let mut places = [of_q, of_k, of_k].into_iter().zip(begins);
    matrices.map(|matrix| {
        let (stride, begin) = places.next().unwrap_or((width, 0));
        matrix.chunks_exact(stride).flat_map(|row| &row[begin..][..width]).copied().collect()
    })
}

/// The matrices again; one that holds several is there as often.
pub(super) fn together([q, k, v]: [Vec<f32>; 3], sizes: Heads) -> [Vec<f32>; 3] {
    let join = |parts: &[&Vec<f32>]| -> Vec<f32> {
        let rows = parts.first().map_or(0, |part| part.len() / sizes.channels());
        let row = |row: usize| parts.iter().flat_map(move |part| &part[row * sizes.channels()..][..sizes.channels()]);
        (0..rows).flat_map(row).copied().collect()
    };
    match sizes.side_by_side {
        SideBySide::Nothing => [q, k, v],
        SideBySide::Keys => {
            let both = join(&[&k, &v]);
            [q, both.clone(), both]
        }
        SideBySide::All => {
            let all = join(&[&q, &k, &v]);
            [all.clone(), all.clone(), all]
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The output, and the logarithm of each row's sum of exponentials.
pub(super) fn forward(q: &[f32], k: &[f32], v: &[f32], sizes: Heads) -> (Vec<f32>, Vec<f32>) {
    let mut out = vec![0.0; q.len()];
    let mut sums = vec![0.0; sizes.batch * sizes.heads * sizes.queries];
    for head in Head::all(sizes) {
        for row in 0..sizes.queries {
            let scores = head.scores(q, k, row);
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = scores.iter().map(|s| (s - most).exp()).sum::<f64>().ln() + most;
            sums[head.sum(row)] = sum as f32;
            let mut y = vec![0.0f64; sizes.size];
            for (key, score) in scores.iter().enumerate() {
                let p = (score - sum).exp();
                y.iter_mut().zip(head.key(v, key)).for_each(|(y, v)| *y += p * f64::from(*v));
            }
            let at = head.row(sizes.queries, row);
            out[at..at + sizes.size].iter_mut().zip(y).for_each(|(out, y)| *out = y as f32);
        }
    }
    (out, sums)
}

/// What the backward pass reads.
pub(super) struct Kept<'a> {
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) o: &'a [f32],
    pub(super) sums: &'a [f32],
}

/// Gradients of q, k and v: with `P` the probabilities and `D = g V^T`, the scores' is `P (D - sum over keys of g o)`.
pub(super) fn backward(kept: &Kept<'_>, g: &[f32], sizes: Heads) -> [Vec<f32>; 3] {
    let [mut by_q, mut by_k, mut by_v] = [kept.q, kept.k, kept.v].map(|x| vec![0.0f64; x.len()]);
    let scale = 1.0 / (sizes.size as f64).sqrt();
    for head in Head::all(sizes) {
        for row in 0..sizes.queries {
            let (q, g_row) = (head.query(kept.q, row), head.query(g, row));
            let along = dot(g_row, head.query(kept.o, row));
            let (sum, at) = (f64::from(kept.sums[head.sum(row)]), head.row(sizes.queries, row));
            for (key, score) in head.scores(kept.q, kept.k, row).into_iter().enumerate() {
                let (p, to) = ((score - sum).exp(), head.row(sizes.keys, key));
                let by_score = scale * p * (dot(g_row, head.key(kept.v, key)) - along);
                for i in 0..sizes.size {
                    by_q[at + i] += by_score * f64::from(kept.k[to + i]);
                    by_k[to + i] += by_score * f64::from(q[i]);
                    by_v[to + i] += p * f64::from(g_row[i]);
                }
            }
        }
    }
    [by_q, by_k, by_v].map(|x| x.into_iter().map(|x| x as f32).collect())
}
