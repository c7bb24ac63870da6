//! Leaf operations to kernels and library calls.

use super::{Address, Conv, Launch, Product, Step, Steps};
use crate::engine::cuda::Error;
use crate::engine::cuda::packed;
use crate::engine::cuda::parameters::ParameterId;
use crate::engine::cuda::plan::{Buffer, CHUNK, Geometry, Instruction, Program, Weight};
use crate::engine::cuda::tape::{Element, Function, Shape};
use Instruction as I;
use std::collections::HashMap;

/// Threads of a block of an elementwise kernel; each does eight numbers.
const THREADS: usize = 256;

pub(super) struct Lowering<'a> {
    program: &'a Program,
    packed: &'a Packed,
    pub(super) steps: Vec<Step>,
    pub(super) scratch: usize,
}

/// Weights that are kept in eight bits: their rows and columns.
pub type Packed = HashMap<ParameterId, [usize; 2]>;

/// Lowers a program whose narrow numbers have two bytes.
///
/// # Errors
/// [`Error::NotRecorded`] for sizes that the kernels are not written for.
pub fn lower(program: &Program, packed: &Packed) -> Result<Steps, Error> {
    let mut lowering = Lowering { program, packed, steps: Vec::new(), scratch: 0 };
    let mut by_instruction = Vec::with_capacity(program.instructions.len());
    for instruction in &program.instructions {
        lowering.instruction(instruction)?;
        by_instruction.push(std::mem::take(&mut lowering.steps));
    }
    Ok(Steps { by_instruction, scratch: lowering.scratch })
}

/// A size as the kernels take it.
fn int(size: usize) -> Result<i32, Error> {
    i32::try_from(size).map_err(|_| Error::NotRecorded("an activation of more than 2^31 numbers"))
}

/// Channels must come in eights.
pub(super) fn eights(channels: usize) -> Result<usize, Error> {
    if channels.is_multiple_of(8) { Ok(channels) } else { Err(Error::NotRecorded("channels in no multiple of 8")) }
}

impl Lowering<'_> {
    pub(super) fn at(&self, buffer: Buffer) -> Result<Address, Error> {
        let offset = self.program.arena.offsets.get(buffer.0).copied().flatten();
        offset.map(Address::Arena).ok_or(Error::NoPlan)
    }

    pub(super) fn optional(&self, buffer: Option<Buffer>) -> Result<Address, Error> {
        buffer.map_or(Ok(Address::Null), |buffer| self.at(buffer))
    }

    /// Where a weight lies for the operation that comes next: a packed one is unpacked for it.
    fn weight(&mut self, weight: ParameterId) -> Result<Address, Error> {
        let stored = Address::Parameter(weight);
        let Some([rows, columns]) = self.packed.get(&weight).copied() else { return Ok(stored) };
        let (count, unpacked) = (rows * columns, Address::Scratch(0));
        self.scratch = self.scratch.max(2 * count);
        let numbers = [count, columns, packed::scales_at(rows, columns)];
        let grid = [count.div_ceil(packed::STEP * THREADS), 1, 1];
        self.launch("unpack", grid, THREADS, vec![stored, unpacked], &numbers, Vec::new())?;
        Ok(unpacked)
    }

    pub(super) fn element(&self, buffer: Buffer) -> Element {
        self.program.buffers[buffer.0].element
    }

    /// A kernel's flag.
    pub(super) fn wide(&self, buffer: Buffer) -> usize {
        usize::from(self.element(buffer) == Element::Wide)
    }

    pub(super) fn launch(
        &mut self,
        kernel: &'static str,
        grid: [usize; 3],
        block: usize,
        pointers: Vec<Address>,
        numbers: &[usize],
        factors: Vec<f32>,
    ) -> Result<(), Error> {
        let numbers = numbers.iter().map(|n| int(*n)).collect::<Result<_, _>>()?;
        let grid = [int(grid[0])? as u32, int(grid[1])? as u32, int(grid[2])? as u32];
        self.steps.push(Step::Launch(Launch { kernel, grid, block: int(block)? as u32, pointers, numbers, factors }));
        Ok(())
    }

    /// A kernel of which each thread does eight of `numbers[0]` numbers, rows of `channels`.
    pub(super) fn elementwise(
        &mut self,
        kernel: &'static str,
        channels: usize,
        pointers: Vec<Address>,
        numbers: &[usize],
    ) -> Result<(), Error> {
        eights(channels)?;
        let count = numbers.first().copied().unwrap_or(0);
        self.launch(kernel, [count.div_ceil(8 * THREADS), 1, 1], THREADS, pointers, numbers, Vec::new())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match instruction {
            I::Product { x, weight, transposed, bias, addend, out, rows, inner, columns, parts } => {
                let weight = match weight {
                    Weight::Parameter(weight) => self.weight(*weight)?,
                    Weight::Merged(merged) => self.at(*merged)?,
                };
                let product = Product {
                    x: self.at(*x)?,
                    weight,
                    transposed: *transposed,
                    bias: bias.map(Address::Parameter),
                    addend: addend.map(|addend| self.at(addend)).transpose()?,
                    out: self.at(*out)?,
                    wide: self.wide(*out) == 1,
                    rows: *rows,
                    inner: *inner,
                    columns: *columns,
                    parts: *parts,
                    below: false,
                };
                self.steps.push(Step::Product(product));
                Ok(())
            }
            I::Conv { x, weight, bias, out, geometry } => {
                let at = self.at(*out)?;
                let weight = self.weight(*weight)?;
                self.convolution([self.at(*x)?, weight, at], geometry, false)?;
                let Some(bias) = bias else { return Ok(()) };
                let (count, channels) = (geometry.output.count(), geometry.output.channels);
                let pointers = vec![at, Address::Parameter(*bias), at, Address::Null];
                // In place: every number is read and written by one thread.
                let kernel = if channels.is_multiple_of(8) { "add_to_pixels" } else { "add_few" };
                let numbers = [count, channels, count, 0, 0, 0];
                let threads = if channels.is_multiple_of(8) { 8 * THREADS } else { THREADS };
                self.launch(kernel, [count.div_ceil(threads), 1, 1], THREADS, pointers, &numbers, Vec::new())
            }
            I::ConvBackward { g, weight, out, geometry } => {
                let weight = self.weight(*weight)?;
                self.convolution([self.at(*g)?, weight, self.at(*out)?], geometry, true)
            }
            I::GroupNorm { .. } | I::GroupNormBackward { .. } | I::LayerNorm { .. } | I::LayerNormBackward { .. } => {
                self.normalise(instruction)
            }
            I::Attention { .. } | I::AttentionBackward { .. } => self.attention(instruction),
            I::Merge { .. } | I::ScaleColumns { .. } | I::RateGradient { .. } | I::SumChunks { .. } => {
                self.rates(instruction)
            }
            pointwise => self.pointwise(pointwise),
        }
    }

    fn convolution(
        &mut self,
        [x, weight, out]: [Address; 3],
        geometry: &Geometry,
        backward: bool,
    ) -> Result<(), Error> {
        let Geometry { input, output, conv } = *geometry;
        let (kernel, written) = if backward { ("convolution_backward", input) } else { ("convolution", output) };
        let sizes = [input.height, input.width, input.channels, output.height, output.width, output.channels];
        let numbers = [vec![written.count()], sizes.to_vec(), vec![conv.kernel, conv.stride, conv.padding]].concat();
        let grid = [written.count().div_ceil(THREADS), 1, 1];
        self.launch(kernel, grid, THREADS, vec![x, weight, out], &numbers, Vec::new())?;
        if let Some(Step::Launch(own)) = self.steps.pop() {
            self.steps.push(Step::Conv(Conv { x, weight, out, geometry: *geometry, backward, own }));
        }
        Ok(())
    }

    fn pointwise(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match instruction {
            I::Add { x, y, bias, out, count } => {
                let (bias, channels) = bias.map_or((Address::Null, *count), |(bias, c)| (Address::Parameter(bias), c));
                let numbers = [*count, self.wide(*x), self.wide(*y), self.wide(*out), channels];
                let pointers = vec![self.at(*x)?, self.at(*y)?, self.at(*out)?, bias];
                self.elementwise("add", channels, pointers, &numbers)
            }
            I::Cast { x, out, count } => {
                let numbers = [*count, self.wide(*x), self.wide(*out)];
                self.elementwise("cast", *count, vec![self.at(*x)?, self.at(*out)?], &numbers)
            }
            I::Pointwise { function, x, out, count } => {
                let numbers = [*count, self.wide(*x), self.wide(*out), code(*function)];
                self.elementwise("pointwise", *count, vec![self.at(*x)?, self.at(*out)?], &numbers)
            }
            I::PointwiseBackward { function, x, g, out, count } => {
                let numbers = [*count, self.wide(*x), self.wide(*g), self.wide(*out), code(*function)];
                let pointers = vec![self.at(*x)?, self.at(*g)?, self.at(*out)?];
                self.elementwise("pointwise_backward", *count, pointers, &numbers)
            }
            I::Geglu { x, out, rows, channels } => {
                let numbers = [rows * channels, *channels, self.wide(*x), self.wide(*out)];
                self.elementwise("geglu", *channels, vec![self.at(*x)?, self.at(*out)?], &numbers)
            }
            I::GegluBackward { x, g, out, rows, channels } => {
                let numbers = [rows * channels, *channels, self.wide(*x), self.wide(*g), self.wide(*out)];
                let pointers = vec![self.at(*x)?, self.at(*g)?, self.at(*out)?];
                self.elementwise("geglu_backward", *channels, pointers, &numbers)
            }
            I::AddToPixels { x, y, bias, out, shape } => {
                let sample = shape.places() * shape.channels;
                let numbers = [shape.count(), shape.channels, sample, self.wide(*x), self.wide(*y), self.wide(*out)];
                let bias = bias.map_or(Address::Null, Address::Parameter);
                let pointers = vec![self.at(*x)?, self.at(*y)?, self.at(*out)?, bias];
                self.elementwise("add_to_pixels", shape.channels, pointers, &numbers)
            }
            I::Compare { prediction, target, slopes, out, shape } => {
                let count = shape.count();
                let numbers = [count, shape.places() * shape.channels, self.wide(*prediction), self.wide(*out)];
                let pointers = [prediction, target, slopes, out].map(|buffer| self.at(*buffer));
                let pointers = pointers.into_iter().collect::<Result<_, _>>()?;
                // There are four channels, and few numbers.
                self.launch("compare", [count.div_ceil(THREADS), 1, 1], THREADS, pointers, &numbers, Vec::new())
            }
            I::SumPixels { g, out, shape } => {
                let count = shape.batch * shape.channels;
                let numbers = [count, shape.channels, shape.places(), self.wide(*g), self.wide(*out)];
                self.elementwise("sum_pixels", shape.channels, vec![self.at(*g)?, self.at(*out)?], &numbers)
            }
            I::Concat { x, y, out, rows, channels: [cx, cy] } => {
                eights(*cx)?;
                let numbers = [rows * (cx + cy), *cx, *cy, self.wide(*x), self.wide(*y), self.wide(*out)];
                self.elementwise("concat", *cy, vec![self.at(*x)?, self.at(*y)?, self.at(*out)?], &numbers)
            }
            I::Slice { g, out, rows, width, from, columns } => {
                eights(*width)?;
                eights(*from)?;
                let numbers = [rows * columns, *columns, *width, *from, self.wide(*g), self.wide(*out)];
                self.elementwise("slice", *columns, vec![self.at(*g)?, self.at(*out)?], &numbers)
            }
            I::Upsample { x, out, shape: Shape { height, width, channels, .. } } => {
                let count = self.program.buffers[out.0].count;
                let numbers = [count, *height, *width, *channels, self.wide(*x), self.wide(*out)];
                self.elementwise("upsample", *channels, vec![self.at(*x)?, self.at(*out)?], &numbers)
            }
            I::UpsampleBackward { g, out, shape: Shape { height, width, channels, .. } } => {
                let count = self.program.buffers[out.0].count;
                let numbers = [count, *height, *width, *channels, self.wide(*g), self.wide(*out)];
                self.elementwise("upsample_backward", *channels, vec![self.at(*g)?, self.at(*out)?], &numbers)
            }
            _ => Ok(()),
        }
    }

    fn rates(&mut self, instruction: &Instruction) -> Result<(), Error> {
        match instruction {
            I::ScaleColumns { h, rates, from, out, rows, rank } => {
                let pointers = vec![self.at(*h)?, self.at(*rates)?, self.at(*out)?];
                self.elementwise("scale_columns", *rank, pointers, &[rows * rank, *rank, *from, rows * rank])
            }
            I::Merge { weight, down, up, rates, from, scaled, out, rows, columns, rank, parts } => {
                // The sum is read as it is stored.
                if self.packed.contains_key(weight) {
                    return Err(Error::NotRecorded("a weight in eight bits with its networks"));
                }
                let turned = self.at(*scaled)?;
                let pointers = vec![Address::Parameter(*up), self.at(*rates)?, turned];
                let numbers = [parts * rows * rank, *rank, *from, rows * rank];
                self.elementwise("scale_columns", *rank, pointers, &numbers)?;
                self.steps.push(Step::Product(Product {
                    x: turned,
                    weight: Address::Parameter(*down),
                    transposed: false,
                    bias: None,
                    addend: Some(Address::Parameter(*weight)),
                    out: self.at(*out)?,
                    wide: false,
                    rows: *rows,
                    inner: *rank,
                    columns: *columns,
                    parts: *parts,
                    below: true,
                }));
                Ok(())
            }
            I::RateGradient { h, gh, rates, from, partial, chunks, columns, to, out, rows, rank } => {
                let (partial, out) = (self.at(*partial)?, self.optional(*out)?);
                let pointers = vec![self.at(*h)?, self.at(*gh)?, self.at(*rates)?, partial, out];
                let numbers = [*rows, *rank, *from, CHUNK, *columns, *to];
                self.launch("rate_gradient", [*chunks, rank.div_ceil(32), 1], 256, pointers, &numbers, Vec::new())
            }
            I::SumChunks { partial, out, chunks, columns } => {
                let (pointers, numbers) = (vec![self.at(*partial)?, self.at(*out)?], [*chunks, *columns]);
                self.launch("sum_chunks", [columns.div_ceil(64), 1, 1], 64, pointers, &numbers, Vec::new())
            }
            _ => Ok(()),
        }
    }
}

fn code(function: Function) -> usize {
    match function {
        Function::Silu => 0,
        Function::Gelu => 1,
        Function::QuickGelu => 2,
    }
}
