//! Where the time of a gradient goes: each kind of work timed by itself.

use super::{CudaEngine, Executor};
use crate::engine::breakdown::{Breakdown, PartTime, Work};
use crate::engine::cuda::Error;
use crate::engine::cuda::executor::{Part, Timed};
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::plan::{Program, Wanted};
use crate::engine::cuda::tape::Case;
use burn::tensor::backend::Backend;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Seconds that everything is launched again and again to warm up, and then to be timed.
const LOAD: f64 = 2.0;
/// Times of that at most.
const MOST: usize = 200;

impl<E: Executor, B: Backend> CudaEngine<E, B> {
    /// Times the parts of a program that has run. What the arena holds is lost.
    pub(super) fn time_parts(&mut self, case: Case, wanted: Wanted) -> Result<Breakdown, Error> {
        let networks = ParameterId(self.own);
        let (executor, prepared) = self.prepared(case, wanted)?;
        let narrow = executor.narrow();
        let program: &Program = (*prepared).borrow();
        let mut places: BTreeMap<Work, (Vec<usize>, PartTime)> = BTreeMap::new();
        for (at, instruction) in program.instructions.iter().enumerate() {
            let Some(work) = instruction.work(networks) else { continue };
            let none = PartTime { work, seconds: 0.0, count: 0, operations: 0.0, bytes: 0.0 };
            let (at_work, part) = places.entry(work).or_insert_with(|| (Vec::new(), none));
            at_work.push(at);
            part.count += 1;
            part.operations += instruction.operations();
            part.bytes += program.traffic(instruction, narrow) as f64;
        }
        let mut parts = Vec::with_capacity(places.len());
        for (at_work, part) in places.into_values() {
            parts.push(PartTime { seconds: executor.time(prepared, Timed::Alone(&at_work))?, ..part });
        }
        let mut device = 0.0;
        for half in [Part::Forward, Part::Backward] {
            device += executor.time(prepared, Timed::Half(half))?;
        }
        // Some seconds of load, after which the clock no longer sinks.
        let times = (LOAD / device.max(1e-9)).ceil() as usize;
        let sustained = executor.time(prepared, Timed::Again(times.clamp(1, MOST)))?;
        Ok(Breakdown { parts, device, sustained })
    }
}
