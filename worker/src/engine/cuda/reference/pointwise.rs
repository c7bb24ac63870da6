//! Functions of one number.

use crate::engine::cuda::tape::Function;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The normal distribution's: `erfc(-x / sqrt 2) / 2`.
fn normal(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// The error function: its series below 2, its continued fraction above.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 2.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term.abs() > 1e-17 * sum.abs() {
            n += 1.0;
            term *= -a * a / n;
            sum += term / (2.0 * n + 1.0);
        }
        return (2.0 / PI.sqrt() * sum).copysign(x);
    }
    let fraction = (1..200).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
    (1.0 - (-a * a).exp() / PI.sqrt() / fraction).copysign(x)
}

/// The function.
pub(super) fn value(function: Function, x: f64) -> f64 {
    match function {
        Function::Silu => x * sigmoid(x),
        Function::Gelu => x * normal(x),
        Function::QuickGelu => x * sigmoid(1.702 * x),
    }
}

/// Its derivative.
pub(super) fn derivative(function: Function, x: f64) -> f64 {
    let product = |k: f64| {
        let s = sigmoid(k * x);
        s + k * x * s * (1.0 - s)
    };
    match function {
        Function::Silu => product(1.0),
        Function::QuickGelu => product(1.702),
        Function::Gelu => normal(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_is_the_tabulated_one() {
        let table = [(0.5, 0.520_499_877_813_046_5), (2.0, 0.995_322_265_018_952_7), (3.5, 0.999_999_256_901_627_7)];
        for (x, want) in table {
            assert!((erf(x) - want).abs() < 1e-12, "{x}");
            assert!((erf(-x) + want).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn derivatives_are_those_of_the_functions() {
        for function in [Function::Silu, Function::Gelu, Function::QuickGelu] {
            for x in [-4.0, -1.0, -0.1, 0.0, 0.3, 2.0, 5.0] {
                let slope = (value(function, x + 1e-5) - value(function, x - 1e-5)) / 2e-5;
                assert!((slope - derivative(function, x)).abs() < 1e-8, "{function:?} at {x}");
            }
        }
    }
}
