//! Products of matrices, and what the rates do with them.

/// `[rows, inner]` times `[columns, inner]` transposed or `[inner, columns]`, in f64.
pub(super) fn product(x: &[f32], w: &[f32], transposed: bool, [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; rows * columns];
    for (x, out) in x.chunks_exact(inner).zip(out.chunks_exact_mut(columns)).take(rows) {
        if transposed {
            for (w, out) in w.chunks_exact(inner).zip(out) {
                *out = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
            }
        } else {
            for (x, w) in x.iter().zip(w.chunks_exact(columns)) {
                out.iter_mut().zip(w).for_each(|(out, w)| *out += f64::from(*x) * f64::from(*w));
            }
        }
    }
    out
}

/// Several such products, side by side in `x [rows, parts inner]` and the result, one below the other in `w`.
pub(super) fn side_by_side(
    x: &[f32],
    w: &[f32],
    transposed: bool,
    [rows, inner, columns]: [usize; 3],
    parts: usize,
) -> Vec<f64> {
    let mut out = vec![0.0; rows * parts * columns];
    for (part, w) in w.chunks_exact(inner * columns).enumerate().take(parts) {
        let x: Vec<f32> = x.chunks_exact(parts * inner).flat_map(|x| &x[part * inner..][..inner]).copied().collect();
        let y = product(&x, w, transposed, [rows, inner, columns]);
        for (to, from) in out.chunks_exact_mut(parts * columns).zip(y.chunks_exact(columns)) {
            to[part * columns..][..columns].copy_from_slice(from);
        }
    }
    out
}

/// Sum over the rows of `h gh`, by column.
pub(super) fn by_column(h: &[f32], gh: &[f32], rank: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; rank];
    for (h, gh) in h.chunks_exact(rank).zip(gh.chunks_exact(rank)) {
        for ((sum, h), gh) in sums.iter_mut().zip(h).zip(gh) {
            *sum += f64::from(*h) * f64::from(*gh);
        }
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Each row times the rates.
pub(super) fn scale(h: &[f32], rates: &[f32]) -> Vec<f32> {
    h.chunks_exact(rates.len()).flat_map(|row| row.iter().zip(rates).map(|(h, r)| h * r)).collect()
}
