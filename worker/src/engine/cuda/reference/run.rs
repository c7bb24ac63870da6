//! One leaf operation after another.

use super::norms::{Affine, Sets};
use super::{Reference, attention, convolution, norms, pointwise, products};
use crate::engine::cuda::Error;
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::plan::{Buffer, CHUNK, Instruction, Program, Weight};
use crate::engine::cuda::tape::Norm;
use Instruction as I;
use std::borrow::Cow;

impl Reference {
    fn affine(&self, norm: &Norm, silu: bool) -> Result<Affine<'_>, Error> {
        Ok(Affine { scale: self.parameter(norm.scale)?, shift: self.parameter(norm.shift)?, silu })
    }

    fn optional(&self, id: &Option<ParameterId>) -> Result<Option<&[f32]>, Error> {
        id.map(|id| self.parameter(id)).transpose()
    }

    /// Runs one instruction.
    pub(in crate::engine::cuda) fn execute(
        &mut self,
        program: &Program,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        let get = |buffer: &Buffer| self.get(program, *buffer);
        let written: Vec<(Buffer, Vec<f32>)> = match instruction {
            I::Product { x, weight, transposed, bias, addend, out, rows, inner, columns, parts } => {
                let w = match weight {
                    Weight::Parameter(weight) => Cow::Borrowed(self.parameter(*weight)?),
                    Weight::Merged(merged) => Cow::Owned(get(merged)?),
                };
                let mut y = products::side_by_side(&get(x)?, &w, *transposed, [*rows, *inner, *columns], *parts);
                if let Some(bias) = self.optional(bias)? {
                    y.iter_mut().enumerate().for_each(|(i, y)| *y += f64::from(bias[i % columns]));
                }
                if let Some(addend) = addend {
                    y.iter_mut().zip(get(addend)?).for_each(|(y, a)| *y += f64::from(a));
                }
                vec![(*out, single(y))]
            }
            I::Conv { x, weight, bias, out, geometry } => {
                let y = convolution::forward(&get(x)?, self.parameter(*weight)?, self.optional(bias)?, geometry);
                vec![(*out, y)]
            }
            I::ConvBackward { g, weight, out, geometry } => {
                vec![(*out, convolution::backward(&get(g)?, self.parameter(*weight)?, geometry))]
            }
            I::GroupNorm { .. } | I::GroupNormBackward { .. } | I::LayerNorm { .. } | I::LayerNormBackward { .. } => {
                self.normalise(program, instruction)?
            }
            I::Attention { q, k, v, out, sums, sizes } => {
                let [q, k, v] = attention::apart([get(q)?, get(k)?, get(v)?], *sizes);
                let (y, sum) = attention::forward(&q, &k, &v, *sizes);
                vec![(*out, y), (*sums, sum)]
            }
            I::AttentionBackward { q, k, v, o, sums, g, by_q, by_kv, sizes } => {
                let [q, k, v] = attention::apart([get(q)?, get(k)?, get(v)?], *sizes);
                let (o, sums) = (get(o)?, get(sums)?);
                let kept = attention::Kept { q: &q, k: &k, v: &v, o: &o, sums: &sums };
                let by = attention::backward(&kept, &get(g)?, *sizes);
                let [q, k, v] = attention::together(by, *sizes);
                let kv = by_kv.map(|[by_k, by_v]| [(by_k, k), (by_v, v)]);
                std::iter::once((*by_q, q)).chain(kv.into_iter().flatten()).collect()
            }
            I::Geglu { x, out, channels, .. } => vec![(*out, geglu(&get(x)?, *channels))],
            I::GegluBackward { x, g, out, channels, .. } => vec![(*out, geglu_backward(&get(x)?, &get(g)?, *channels))],
            I::Pointwise { function, x, out, .. } => {
                let y = get(x)?.into_iter().map(|x| pointwise::value(*function, x.into()) as f32).collect();
                vec![(*out, y)]
            }
            I::PointwiseBackward { function, x, g, out, .. } => {
                let slope = |(x, g): (f32, f32)| (f64::from(g) * pointwise::derivative(*function, x.into())) as f32;
                vec![(*out, get(x)?.into_iter().zip(get(g)?).map(slope).collect())]
            }
            I::Add { x, y, bias, out, .. } => {
                let bias = bias.map(|(bias, _)| self.parameter(bias)).transpose()?.unwrap_or(&[0.0]);
                let sum = |((x, y), b): ((f32, f32), &f32)| x + y + b;
                vec![(*out, get(x)?.into_iter().zip(get(y)?).zip(bias.iter().cycle()).map(sum).collect())]
            }
            I::Cast { x, out, .. } => vec![(*out, get(x)?)],
            I::AddToPixels { x, y, bias, out, shape } => {
                let (y, one) = (get(y)?, shape.places() * shape.channels);
                let bias = bias.map(|bias| self.parameter(bias)).transpose()?.unwrap_or(&[0.0]);
                let sum = |((i, x), b): ((usize, f32), &f32)| x + y[i / one * shape.channels + i % shape.channels] + b;
                vec![(*out, get(x)?.into_iter().enumerate().zip(bias.iter().cycle()).map(sum).collect())]
            }
            I::SumPixels { g, out, shape } => {
                let mut sums = vec![0.0f64; shape.batch * shape.channels];
                for (row, g) in get(g)?.chunks_exact(shape.channels).enumerate() {
                    let sums = &mut sums[row / shape.places() * shape.channels..];
                    sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += f64::from(*g));
                }
                vec![(*out, single(sums))]
            }
            I::Concat { x, y, out, channels: [cx, cy], .. } => {
                let (x, y) = (get(x)?, get(y)?);
                let rows = x.chunks_exact(*cx).zip(y.chunks_exact(*cy));
                vec![(*out, rows.flat_map(|(x, y)| x.iter().chain(y)).copied().collect())]
            }
            I::Slice { g, out, width, from, columns, .. } => {
                let cut = |row: &[f32]| row[*from..from + columns].to_vec();
                vec![(*out, get(g)?.chunks_exact(*width).flat_map(cut).collect())]
            }
            I::Upsample { x, out, shape } => vec![(*out, resize(&get(x)?, *shape, false))],
            I::UpsampleBackward { g, out, shape } => vec![(*out, resize(&get(g)?, *shape, true))],
            I::ScaleColumns { h, rates, from, out, rank, .. } => {
                vec![(*out, products::scale(&get(h)?, &get(rates)?[*from..from + rank]))]
            }
            I::Merge { weight, down, up, rates, from, scaled, out, rows, columns, rank, parts } => {
                let (up, down, rates) = (self.parameter(*up)?, self.parameter(*down)?, get(rates)?);
                let (mut turned, mut sum) = (Vec::new(), Vec::new());
                for part in 0..*parts {
                    let rates = &rates[from + part * rank..][..*rank];
                    let up = self.stored(products::scale(&up[part * rows * rank..][..rows * rank], rates));
                    let down = &down[part * rank * columns..][..rank * columns];
                    sum.extend(products::product(&up, down, false, [*rows, *rank, *columns]));
                    turned.extend(up);
                }
                sum.iter_mut().zip(self.parameter(*weight)?).for_each(|(sum, weight)| *sum += f64::from(*weight));
                vec![(*scaled, turned), (*out, single(sum))]
            }
            I::RateGradient { h, gh, rates, from, partial, columns, to, out, rank, .. } => {
                let (h, gh, mut all) = (get(h)?, get(gh)?, get(partial)?);
                let mut chunks = h.chunks(CHUNK * rank).zip(gh.chunks(CHUNK * rank));
                for all in all.chunks_exact_mut(*columns) {
                    let (h, gh) = chunks.next().unwrap_or_default();
                    all[*to..to + rank].copy_from_slice(&products::by_column(h, gh, *rank));
                }
                let scaled = products::scale(&gh, &get(rates)?[*from..from + rank]);
                std::iter::once((*partial, all)).chain(out.map(|out| (out, scaled))).collect()
            }
            I::SumChunks { partial, out, columns, .. } => {
                let mut sums = vec![0.0f64; *columns];
                for chunk in get(partial)?.chunks_exact(*columns) {
                    sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += f64::from(*x));
                }
                vec![(*out, single(sums))]
            }
            I::Host { .. } => Vec::new(),
            I::Compare { prediction, target, slopes, out, shape } => {
                let (slopes, one) = (get(slopes)?, shape.places() * shape.channels);
                let both = get(prediction)?.into_iter().zip(get(target)?).enumerate();
                vec![(*out, both.map(|(i, (p, t))| slopes[i / one] * (p - t)).collect())]
            }
        };
        written.into_iter().try_for_each(|(buffer, values)| self.put(program, buffer, values))
    }

    fn normalise(&self, program: &Program, instruction: &Instruction) -> Result<Vec<(Buffer, Vec<f32>)>, Error> {
        let get = |buffer: &Buffer| self.get(program, *buffer);
        let add = |mut y: Vec<f64>, addend: &Option<Buffer>| -> Result<Vec<f32>, Error> {
            if let Some(addend) = addend {
                y.iter_mut().zip(get(addend)?).for_each(|(y, a)| *y += f64::from(a));
            }
            Ok(single(y))
        };
        Ok(match instruction {
            I::GroupNorm { x, norm, eps, silu, out, statistics, shape } => {
                let (y, s) = norms::forward(&get(x)?, Sets::Groups(*shape), &self.affine(norm, *silu)?, *eps);
                vec![(*out, y), (*statistics, s)]
            }
            I::LayerNorm { x, norm, out, statistics, rows, channels } => {
                let sets = Sets::Rows { rows: *rows, channels: *channels };
                let (y, s) = norms::forward(&get(x)?, sets, &self.affine(norm, false)?, 1e-5);
                vec![(*out, y), (*statistics, s)]
            }
            I::GroupNormBackward { x, norm, silu, statistics, g, addend, out, shape } => {
                let (sets, affine) = (Sets::Groups(*shape), self.affine(norm, *silu)?);
                let y = norms::backward(&get(x)?, &get(statistics)?, &get(g)?, sets, &affine);
                vec![(*out, add(y, addend)?)]
            }
            I::LayerNormBackward { x, norm, statistics, g, addend, out, rows, channels } => {
                let (sets, affine) = (Sets::Rows { rows: *rows, channels: *channels }, self.affine(norm, false)?);
                let y = norms::backward(&get(x)?, &get(statistics)?, &get(g)?, sets, &affine);
                vec![(*out, add(y, addend)?)]
            }
            _ => Vec::new(),
        })
    }
}

fn single(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|x| x as f32).collect()
}

fn geglu(x: &[f32], channels: usize) -> Vec<f32> {
    let row = |row: &[f32]| -> Vec<f32> {
        let (a, b) = row.split_at(channels);
        let one = |(a, b): (&f32, &f32)| {
            f64::from(*a) * pointwise::value(crate::engine::cuda::tape::Function::Gelu, f64::from(*b))
        };
        a.iter().zip(b).map(one).map(|y| y as f32).collect()
    };
    x.chunks_exact(2 * channels).flat_map(row).collect()
}

fn geglu_backward(x: &[f32], g: &[f32], channels: usize) -> Vec<f32> {
    use crate::engine::cuda::tape::Function::Gelu;
    let row = |(x, g): (&[f32], &[f32])| -> Vec<f32> {
        let (a, b) = x.split_at(channels);
        let by_a = g.iter().zip(b).map(|(g, b)| f64::from(*g) * pointwise::value(Gelu, f64::from(*b)));
        let slope = |(g, b): (&f32, &f32)| f64::from(*g) * pointwise::derivative(Gelu, f64::from(*b));
        let by_b = g.iter().zip(b).map(slope).zip(a).map(|(slope, a)| slope * f64::from(*a));
        by_a.chain(by_b).map(|y| y as f32).collect()
    };
    x.chunks_exact(2 * channels).zip(g.chunks_exact(channels)).flat_map(row).collect()
}

/// Doubles an image of this shape, or adds up what it was doubled to.
fn resize(x: &[f32], shape: crate::engine::cuda::tape::Shape, back: bool) -> Vec<f32> {
    let (height, width, channels) = (shape.height, shape.width, shape.channels);
    let mut out = vec![0.0; if back { shape.count() } else { 4 * shape.count() }];
    for row in 0..4 * shape.rows() {
        let (sample, y, column) = (row / (4 * height * width), row / (2 * width) % (2 * height), row % (2 * width));
        let small = ((sample * height + y / 2) * width + column / 2) * channels;
        for c in 0..channels {
            let large = row * channels + c;
            if back {
                out[small + c] += x[large];
            } else {
                out[large] = x[small + c];
            }
        }
    }
    out
}
