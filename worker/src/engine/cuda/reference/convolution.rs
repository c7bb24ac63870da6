//! Convolutions channels last, as products of one pixel's channels with one place of the kernel.

use crate::engine::cuda::plan::Geometry;

/// Walks all pairs of an output pixel and an input pixel that a place of the kernel joins: their rows, and that place.
fn pairs(geometry: &Geometry, mut each: impl FnMut(usize, usize, usize)) {
    let Geometry { input, output, conv } = *geometry;
    for sample in 0..output.batch {
        for y in 0..output.height {
            for x in 0..output.width {
                let to = (sample * output.height + y) * output.width + x;
                for place in 0..conv.kernel * conv.kernel {
                    let from_y = (y * conv.stride + place / conv.kernel).checked_sub(conv.padding);
                    let from_x = (x * conv.stride + place % conv.kernel).checked_sub(conv.padding);
                    let inside = (from_y.filter(|y| *y < input.height), from_x.filter(|x| *x < input.width));
                    if let (Some(from_y), Some(from_x)) = inside {
                        each(to, (sample * input.height + from_y) * input.width + from_x, place);
                    }
                }
            }
        }
    }
}

/// `w` is `[outputs, kernel, kernel, inputs]`.
pub(super) fn forward(x: &[f32], w: &[f32], bias: Option<&[f32]>, geometry: &Geometry) -> Vec<f32> {
    let (inputs, outputs) = (geometry.conv.inputs, geometry.conv.outputs);
    let places = geometry.conv.kernel * geometry.conv.kernel;
    let mut out = vec![0.0f64; geometry.output.count()];
    if let Some(bias) = bias {
        let rows = out.chunks_exact_mut(outputs);
        rows.for_each(|row| row.iter_mut().zip(bias).for_each(|(out, bias)| *out = f64::from(*bias)));
    }
    pairs(geometry, |to, from, place| {
        let x = &x[from * inputs..(from + 1) * inputs];
        for (output, out) in out[to * outputs..(to + 1) * outputs].iter_mut().enumerate() {
            let w = &w[(output * places + place) * inputs..][..inputs];
            *out += x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
        }
    });
    out.into_iter().map(|x| x as f32).collect()
}

/// Gradient of the input.
pub(super) fn backward(g: &[f32], w: &[f32], geometry: &Geometry) -> Vec<f32> {
    let (inputs, outputs) = (geometry.conv.inputs, geometry.conv.outputs);
    let places = geometry.conv.kernel * geometry.conv.kernel;
    let mut out = vec![0.0f64; geometry.input.count()];
    pairs(geometry, |to, from, place| {
        let into = &mut out[from * inputs..(from + 1) * inputs];
        for (output, g) in g[to * outputs..(to + 1) * outputs].iter().enumerate() {
            let w = &w[(output * places + place) * inputs..][..inputs];
            into.iter_mut().zip(w).for_each(|(out, w)| *out += f64::from(*g) * f64::from(*w));
        }
    });
    out.into_iter().map(|x| x as f32).collect()
}
