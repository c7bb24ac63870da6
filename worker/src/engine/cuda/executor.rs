//! What a device must do to run programs: the thin layer below the plans.

use super::Error;
use super::parameters::{Parameter, ParameterId};
use super::plan::{Buffer, Program};
use std::borrow::Borrow;

/// One half of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Up to the host's instruction.
    Forward,
    /// From there on.
    Backward,
}

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub enum Timed<'a> {
    /// A half, as it runs.
    Half(Part),
    /// These instructions alone, in their order.
    Alone(&'a [usize]),
    /// Both halves, again and again without a pause: one of the last so many, after as many to warm up.
    Again(usize),
}

/// A device that runs programs, one at a time.
pub trait Executor: Send {
    /// A program made ready.
    type Prepared: Send + Borrow<Program>;

    /// The device in words.
    fn name(&self) -> String;

    /// Bytes of a narrow number.
    fn narrow(&self) -> usize;

    /// Bytes that an arena may have, if the device knows a limit.
    fn room(&self) -> Option<usize>;

    /// Takes a parameter, its numbers in the device's order.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::OutOfMemory`].
    fn store(&mut self, id: ParameterId, parameter: &Parameter, values: &[f32]) -> Result<(), Error>;

    /// Forgets all parameters from this place on, and every program.
    fn forget(&mut self, from: usize);

    /// Makes a program ready. Only the program that was written to last has its numbers.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::OutOfMemory`], [`Error::NoPlan`].
    fn prepare(&mut self, program: Program) -> Result<Self::Prepared, Error>;

    /// Begins a microbatch: whatever the arena holds belongs to this program from now on.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Device`].
    fn begin(&mut self, prepared: &mut Self::Prepared) -> Result<(), Error>;

    /// Writes a buffer.
    ///
    /// # Errors
    /// [`Error::Sizes`], [`Error::Device`].
    fn write(&mut self, prepared: &mut Self::Prepared, buffer: Buffer, values: &[f32]) -> Result<(), Error>;

    /// Runs one half.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn run(&mut self, prepared: &mut Self::Prepared, part: Part) -> Result<(), Error>;

    /// Seconds that the device takes. The program must have run; what its buffers hold is lost.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn time(&mut self, prepared: &mut Self::Prepared, what: Timed<'_>) -> Result<f64, Error>;

    /// Reads a buffer as it is once all before is done, without waiting for it.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn fetch(&mut self, prepared: &mut Self::Prepared, buffer: Buffer) -> Result<(), Error>;

    /// Waits for what was fetched last of a buffer, but for nothing after it.
    ///
    /// # Errors
    /// [`Error::Device`]; [`Error::NoPlan`] if it never was.
    fn fetched(&mut self, prepared: &mut Self::Prepared, buffer: Buffer) -> Result<Vec<f32>, Error>;

    /// Reads a buffer once all before is done.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn read(&mut self, prepared: &mut Self::Prepared, buffer: Buffer) -> Result<Vec<f32>, Error> {
        self.fetch(prepared, buffer)?;
        self.fetched(prepared, buffer)
    }

    /// Waits until all is done.
    ///
    /// # Errors
    /// [`Error::Device`].
    fn synchronize(&mut self) -> Result<(), Error>;
}
