//! Programs on the GPU: made ready once, captured as graphs, replayed.

use super::memory::{Staging, decode, encode_into};
use super::{Gpu, driver, width};
use crate::engine::cuda::Error;
use crate::engine::cuda::executor::{Executor, Part, Timed};
use crate::engine::cuda::launch::{Address, Launch, Product, Step, Steps, lower};
use crate::engine::cuda::parameters::{Parameter, ParameterId};
use crate::engine::cuda::plan::{Buffer, Command, Lane, Program};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph};
use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Memory that is left to everything else when an arena is planned.
const SPARE: usize = 1 << 30;

/// Launches of a graph that are timed, an odd number.
const TIMED: usize = 3;

/// A program made ready.
pub struct Ready {
    program: Program,
    steps: Steps,
    /// Bytes that the libraries work in.
    workspace: usize,
    halves: [Half; 2],
    /// Of buffers that the host has written or read.
    staging: HashMap<Buffer, Staging>,
}

/// How far one half of a program has come.
#[derive(Default)]
enum Half {
    /// It never ran.
    #[default]
    New,
    /// It ran, so that everything it needs is loaded, and may be captured.
    Ran,
    /// It is captured, at the addresses of this generation.
    Captured(Graph, u64),
}

struct Graph(CudaGraph);

// SAFETY: a graph is used by the one thread that has the device.
#[allow(unsafe_code)]
unsafe impl Send for Graph {}

impl Borrow<Program> for Ready {
    fn borrow(&self) -> &Program {
        &self.program
    }
}

impl Ready {
    /// The instructions of a half.
    fn half(&self, part: Part) -> Range<usize> {
        match part {
            Part::Forward => 0..self.program.host,
            Part::Backward => self.program.host + 1..self.program.instructions.len(),
        }
    }

    fn steps(&self, part: Part) -> impl Iterator<Item = &Step> {
        self.steps.by_instruction[self.half(part)].iter().flatten()
    }

    /// The lane of an instruction. There is one scratch, and it is the main lane's.
    fn lane(&self, at: usize) -> Lane {
        let scratch = |address: &Address| matches!(address, Address::Scratch(_));
        let aside = self.steps.by_instruction[at].iter().all(|step| match step {
            Step::Launch(launch) => !launch.pointers.iter().any(scratch),
            Step::Product(product) => !scratch(&product.weight),
            Step::Conv(_) | Step::Attention(_) => false,
        });
        if aside { self.program.lanes[at] } else { Lane::Main }
    }

    fn staging(&mut self, buffer: Buffer, bytes: usize, context: &Arc<CudaContext>) -> Result<&mut Staging, Error> {
        match self.staging.entry(buffer) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(Staging::new(context, bytes)?)),
        }
    }

    fn span(&self, buffer: Buffer) -> Result<(usize, usize), Error> {
        let offset = self.program.arena.offsets.get(buffer.0).copied().flatten().ok_or(Error::NoPlan)?;
        let info = self.program.buffers[buffer.0];
        Ok((offset, info.count * width(info.element)))
    }
}

impl Gpu {
    /// Makes the shared buffers at least so large.
    fn reserve(&mut self, arena: usize, scratch: usize, workspace: usize) -> Result<(), Error> {
        let wanted = [(&mut self.arena, arena), (&mut self.scratch, scratch), (&mut self.workspace, workspace)];
        for (memory, bytes) in wanted {
            let grown = memory.grow(&self.stream, bytes);
            // What failed to grow has moved too.
            self.generation += u64::from(!matches!(grown, Ok(false)));
            grown?;
        }
        Ok(())
    }

    /// Runs one instruction: for comparing it with another device's.
    #[cfg(test)]
    pub(in crate::engine::cuda) fn run_one(&self, ready: &Ready, at: usize) -> Result<(), Error> {
        ready.steps.by_instruction[at].iter().try_for_each(|step| self.enqueue(step, Lane::Main))
    }

    /// Runs what cuDNN has planned but never done, so that what it then refuses is left to our own kernels. Overwrites
    /// what the arena holds.
    fn try_library(&mut self, steps: &Steps) -> Result<(), Error> {
        for step in steps.by_instruction.iter().flatten() {
            match step {
                Step::Conv(conv) => {
                    let places = [self.resolve(conv.x)?, self.resolve(conv.weight)?, self.resolve(conv.out)?];
                    self.convolutions.attempt(conv, places, &self.workspace);
                }
                Step::Attention(attention) => {
                    let [q, k, v, out, sums] = attention.places.map(|place| self.resolve(place));
                    let places = [q?, k?, v?, out?, sums?];
                    self.attentions.attempt(attention.sizes, places, &self.workspace);
                }
                Step::Launch(_) | Step::Product(_) => {}
            }
        }
        self.stream.synchronize().map_err(driver)
    }

    /// Gives a product numbers in place of those of the arena, which may be zeros: with these it draws less power than ever
    /// again, and other algorithms are the fastest.
    fn fill(&mut self, product: &Product) -> Result<(), Error> {
        let Product { x, weight, rows, inner, columns, parts, .. } = *product;
        self.kernels.prepare("noise")?;
        for (place, count) in [(x, rows * inner * parts), (weight, inner * columns * parts)] {
            if matches!(place, Address::Arena(_)) {
                let launch = Launch {
                    kernel: "noise",
                    grid: [count.div_ceil(8 * 256) as u32, 1, 1],
                    block: 256,
                    pointers: vec![place],
                    numbers: vec![count as i32],
                    factors: Vec::new(),
                };
                self.launch(&launch, &self.stream)?;
            }
        }
        Ok(())
    }

    /// Seconds of both halves, launched so many times after as many to warm up.
    fn time_again(&self, ready: &Ready, times: usize) -> Result<f64, Error> {
        let mut halves = Vec::new();
        for part in [Part::Forward, Part::Backward] {
            if !ready.half(part).is_empty() {
                halves.push(self.capture_half(ready, part)?);
            }
        }
        let launch = || (0..times).flat_map(|_| &halves).try_for_each(|half| half.0.launch().map_err(driver));
        launch()?;
        self.stream.synchronize().map_err(driver)?;
        let begin = Instant::now();
        launch()?;
        self.stream.synchronize().map_err(driver)?;
        Ok(begin.elapsed().as_secs_f64() / times.max(1) as f64)
    }

    /// A half as a graph, its lanes side by side.
    fn capture_half(&self, ready: &Ready, part: Part) -> Result<Graph, Error> {
        let commands = ready.program.schedule(ready.half(part), |at| ready.lane(at), 2);
        let mut events: HashMap<usize, CudaEvent> = HashMap::new();
        self.capture(|| {
            for command in commands {
                match command {
                    Command::Run(at) => {
                        let (mut steps, lane) = (ready.steps.by_instruction[at].iter(), ready.lane(at));
                        steps.try_for_each(|step| self.enqueue(step, lane))?;
                    }
                    Command::Record(lane, event) => {
                        events.insert(event, self.queue(lane).0.record_event(None).map_err(driver)?);
                    }
                    Command::Wait(lane, event) => {
                        let event = events.get(&event).ok_or(Error::NoPlan)?;
                        self.queue(lane).0.wait(event).map_err(driver)?;
                    }
                }
            }
            Ok(())
        })
    }

    fn capture(&self, enqueue: impl FnOnce() -> Result<(), Error>) -> Result<Graph, Error> {
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(driver)?;
        let enqueued = enqueue();
        // The capture ends whatever came of it, or the stream would be of no more use.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(driver);
        enqueued?;
        graph?.map(Graph).ok_or_else(|| Error::Device("the driver captured no graph".into()))
    }
}

impl Executor for Gpu {
    type Prepared = Ready;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn narrow(&self) -> usize {
        2
    }

    fn room(&self) -> Option<usize> {
        let (free, _) = self.context.mem_get_info().ok()?;
        Some((free + self.arena.len()).saturating_sub(SPARE + super::convolutions::MOST))
    }

    fn store(&mut self, id: ParameterId, parameter: &Parameter, values: &[f32]) -> Result<(), Error> {
        self.keep(id, parameter, values)
    }

    fn forget(&mut self, from: usize) {
        self.parameters.retain(|id, _| id.0 < from);
        self.packed.retain(|id, _| id.0 < from);
    }

    fn prepare(&mut self, program: Program) -> Result<Ready, Error> {
        self.context.bind_to_thread().map_err(driver)?;
        let steps = lower(&program, &self.packed)?;
        let mut workspace = super::products::WORKSPACE;
        for step in steps.by_instruction.iter().flatten() {
            match step {
                Step::Launch(launch) => self.kernels.prepare(launch.kernel)?,
                Step::Conv(conv) => {
                    self.kernels.prepare(conv.own.kernel)?;
                    workspace = workspace.max(self.convolutions.prepare(conv));
                }
                Step::Attention(attention) => {
                    self.kernels.prepare(attention.own.kernel)?;
                    workspace = workspace.max(self.attentions.prepare(attention.sizes));
                }
                Step::Product(_) => {}
            }
        }
        self.reserve(program.arena.bytes, steps.scratch, workspace)?;
        let known = self.products.known();
        for step in steps.by_instruction.iter().flatten() {
            if let Step::Product(product) = step {
                let places = self.product_places(product)?;
                if !self.products.is_planned(product) {
                    self.fill(product)?;
                }
                self.products.prepare(&self.stream, product, &places, &self.workspace)?;
            }
        }
        if self.products.known() > known {
            self.products.remember();
        }
        self.try_library(&steps)?;
        Ok(Ready { program, steps, workspace, halves: Default::default(), staging: HashMap::new() })
    }

    fn begin(&mut self, ready: &mut Ready) -> Result<(), Error> {
        self.context.bind_to_thread().map_err(driver)?;
        self.reserve(ready.program.arena.bytes, ready.steps.scratch, ready.workspace)
    }

    fn write(&mut self, ready: &mut Ready, buffer: Buffer, values: &[f32]) -> Result<(), Error> {
        let (offset, bytes) = ready.span(buffer)?;
        let info = ready.program.buffers[buffer.0];
        if values.len() != info.count {
            return Err(Error::Sizes { what: format!("buffer {}", buffer.0), got: values.len(), want: info.count });
        }
        let staging = ready.staging(buffer, bytes, &self.context)?;
        encode_into(staging.free()?, values, info.element);
        self.arena.write_staged(&self.stream, offset, staging)
    }

    fn run(&mut self, ready: &mut Ready, part: Part) -> Result<(), Error> {
        let half = match part {
            Part::Forward => 0,
            Part::Backward => 1,
        };
        if ready.steps(part).next().is_none() {
            return Ok(());
        }
        match &ready.halves[half] {
            Half::New => {
                ready.steps(part).try_for_each(|step| self.enqueue(step, Lane::Main))?;
                ready.halves[half] = Half::Ran;
                return Ok(());
            }
            Half::Captured(_, generation) if *generation == self.generation => {}
            Half::Ran | Half::Captured(..) => {
                ready.halves[half] = Half::Captured(self.capture_half(ready, part)?, self.generation);
            }
        }
        match &ready.halves[half] {
            Half::Captured(graph, _) => graph.0.launch().map_err(driver),
            Half::New | Half::Ran => Err(Error::NoPlan),
        }
    }

    fn time(&mut self, ready: &mut Ready, what: Timed<'_>) -> Result<f64, Error> {
        let graph = match what {
            Timed::Again(times) => return self.time_again(ready, times),
            Timed::Half(part) if ready.half(part).is_empty() => return Ok(0.0),
            Timed::Half(part) => self.capture_half(ready, part)?,
            Timed::Alone(instructions) => {
                let steps = instructions.iter().filter_map(|at| ready.steps.by_instruction.get(*at)).flatten();
                let steps: Vec<&Step> = steps.collect();
                if steps.is_empty() {
                    return Ok(0.0);
                }
                self.capture(|| steps.into_iter().try_for_each(|step| self.enqueue(step, Lane::Main)))?
            }
        };
        let mut times = Vec::with_capacity(TIMED);
        // The first launch of a graph uploads it.
        for launch in 0..=TIMED {
            self.stream.synchronize().map_err(driver)?;
            let begin = Instant::now();
            graph.0.launch().map_err(driver)?;
            self.stream.synchronize().map_err(driver)?;
            if launch > 0 {
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        times.sort_by(f64::total_cmp);
        Ok(times[TIMED / 2])
    }

    fn fetch(&mut self, ready: &mut Ready, buffer: Buffer) -> Result<(), Error> {
        let (offset, bytes) = ready.span(buffer)?;
        let staging = ready.staging(buffer, bytes, &self.context)?;
        self.arena.read_staged(&self.stream, offset, staging)
    }

    fn fetched(&mut self, ready: &mut Ready, buffer: Buffer) -> Result<Vec<f32>, Error> {
        let staging = ready.staging.get_mut(&buffer).ok_or(Error::NoPlan)?;
        Ok(decode(staging.free()?, ready.program.buffers[buffer.0].element))
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.stream.synchronize().map_err(driver)
    }
}
