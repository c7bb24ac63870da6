//! Reading a model's parameters by several threads: making numbers, or converting and turning them, takes a core far longer
//! than the device takes to receive them.

use super::networks::singles;
use super::parameters::{Parameter, ParameterId, Parameters};
use crate::engine;
use crate::source::Source;
use burn::tensor::DType;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{available_parallelism, scope};

/// Threads that read: each holds a tensor of at most 120 MB in f32.
const THREADS: usize = 16;

/// Gives every parameter's numbers, in the device's order, to `store`; in no particular order of parameters.
///
/// # Errors
/// A tensor can't be read, or `store` fails: the first failure ends it.
pub(super) fn read_all(
    source: &Source,
    parameters: &Parameters,
    mut store: impl FnMut(ParameterId, &Parameter, Vec<f32>) -> Result<(), engine::Error>,
) -> Result<(), engine::Error> {
    let all: Vec<(ParameterId, &Parameter)> = parameters.iter().collect();
    let threads = available_parallelism().map_or(1, usize::from).min(THREADS);
    let next = AtomicUsize::new(0);
    scope(|scope| {
        let (send, receive) = sync_channel(1);
        for _ in 0..threads {
            let (send, all, next) = (send.clone(), &all, &next);
            scope.spawn(move || {
                while let Some((id, parameter)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // Nobody listens any more after a failure.
                    if send.send((*id, *parameter, read(source, parameter))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        receive.into_iter().try_for_each(|(id, parameter, values)| store(id, parameter, values?))
    })
}

fn read(source: &Source, parameter: &Parameter) -> Result<Vec<f32>, engine::Error> {
    let (mut shape, mut values) = (parameter.shape.clone(), Vec::with_capacity(parameter.count()));
    shape.iter_mut().take(1).for_each(|rows| *rows /= 1 + parameter.also.len());
    for name in std::iter::once(&parameter.name).chain(&parameter.also) {
        values.extend(singles(source.read(name, &shape, DType::F32)?)?);
    }
    Ok(parameter.arrange(values))
}
