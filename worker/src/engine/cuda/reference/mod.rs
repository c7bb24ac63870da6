//! The reference device: the processor, one plain loop for each leaf operation, sums in f64.
//!
//! It runs programs inside one real arena and fills what is dead with NaN, so that a plan which reads what is not there, or
//! lets two buffers share what both need, can't pass for right. It is for tests and for comparing GPU kernels with.

mod attention;
mod convolution;
mod norms;
mod pointwise;
mod products;
mod run;

use super::Error;
use super::executor::{Executor, Part, Timed};
use super::packed;
use super::parameters::{Parameter, ParameterId};
use super::plan::{Buffer, Program};
use super::tape::Element;
use half::bf16;
use std::collections::HashMap;
use std::time::Instant;

/// The processor.
#[derive(Debug, Default)]
pub struct Reference {
    parameters: HashMap<ParameterId, Vec<f32>>,
    arena: Vec<f32>,
    fetched: HashMap<Buffer, Vec<f32>>,
    rounded: bool,
}

impl Reference {
    /// In f32 throughout.
    pub fn exact() -> Self {
        Self::default()
    }

    /// Rounding every narrow number to bfloat16 as it is stored, as a GPU does.
    pub fn rounded() -> Self {
        Self { rounded: true, ..Self::default() }
    }

    fn get(&self, program: &Program, buffer: Buffer) -> Result<Vec<f32>, Error> {
        let (from, count) = span(program, buffer)?;
        Ok(self.arena[from..from + count].to_vec())
    }

    fn put(&mut self, program: &Program, buffer: Buffer, mut values: Vec<f32>) -> Result<(), Error> {
        let (from, count) = span(program, buffer)?;
        if values.len() != count {
            return Err(Error::Sizes { what: format!("buffer {}", buffer.0), got: values.len(), want: count });
        }
        if program.buffers[buffer.0].element == Element::Narrow {
            values = self.stored(values);
        }
        self.arena[from..from + count].copy_from_slice(&values);
        Ok(())
    }

    /// Narrow numbers as this device stores them.
    fn stored(&self, mut values: Vec<f32>) -> Vec<f32> {
        if self.rounded {
            values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
        }
        values
    }

    /// Fills the buffers that nothing touches any more with NaN.
    fn poison(&mut self, program: &Program, done: usize) -> Result<(), Error> {
        for (place, life) in program.lives.iter().enumerate() {
            if life.is_some_and(|life| life.last == done) {
                let (from, count) = span(program, Buffer(place))?;
                self.arena[from..from + count].fill(f32::NAN);
            }
        }
        Ok(())
    }

    fn parameter(&self, id: ParameterId) -> Result<&[f32], Error> {
        let missing = || Error::Device(format!("parameter {} was never stored", id.0));
        self.parameters.get(&id).map(Vec::as_slice).ok_or_else(missing)
    }
}

/// Offset and length of a buffer in numbers: all are of four bytes here.
fn span(program: &Program, buffer: Buffer) -> Result<(usize, usize), Error> {
    let offset = program.arena.offsets.get(buffer.0).copied().flatten().ok_or(Error::NoPlan)?;
    Ok((offset / 4, program.buffers[buffer.0].count))
}

impl Executor for Reference {
    type Prepared = Program;

    fn name(&self) -> String {
        "reference".into()
    }

    fn narrow(&self) -> usize {
        4
    }

    fn room(&self) -> Option<usize> {
        None
    }

    fn store(&mut self, id: ParameterId, parameter: &Parameter, values: &[f32]) -> Result<(), Error> {
        if values.len() != parameter.count() {
            let (got, want) = (values.len(), parameter.count());
            return Err(Error::Sizes { what: parameter.name.clone(), got, want });
        }
        let round = self.rounded && parameter.element == Element::Narrow;
        let stored = |x: &f32| if round { bf16::from_f32(*x).to_f32() } else { *x };
        let [rows, columns] = parameter.matrix();
        let unpacked = parameter.packed.then(|| packed::unpack(&packed::pack(values, rows), rows, columns));
        self.parameters.insert(id, unpacked.as_deref().unwrap_or(values).iter().map(stored).collect());
        Ok(())
    }

    fn forget(&mut self, from: usize) {
        self.parameters.retain(|id, _| id.0 < from);
    }

    fn prepare(&mut self, program: Program) -> Result<Program, Error> {
        Ok(program)
    }

    fn begin(&mut self, program: &mut Program) -> Result<(), Error> {
        self.arena.clear();
        self.arena.resize(program.arena.bytes / 4, f32::NAN);
        Ok(())
    }

    fn write(&mut self, program: &mut Program, buffer: Buffer, values: &[f32]) -> Result<(), Error> {
        self.put(program, buffer, values.to_vec())
    }

    fn run(&mut self, program: &mut Program, part: Part) -> Result<(), Error> {
        let range = match part {
            Part::Forward => 0..program.host,
            Part::Backward => program.host + 1..program.instructions.len(),
        };
        for at in range {
            self.execute(program, &program.instructions[at])?;
            self.poison(program, at)?;
        }
        Ok(())
    }

    fn time(&mut self, program: &mut Program, what: Timed<'_>) -> Result<f64, Error> {
        let begin = Instant::now();
        let instructions = match what {
            Timed::Half(part) => {
                self.run(program, part)?;
                return Ok(begin.elapsed().as_secs_f64());
            }
            Timed::Again(_) => {
                self.run(program, Part::Forward)?;
                self.run(program, Part::Backward)?;
                return Ok(begin.elapsed().as_secs_f64());
            }
            Timed::Alone(instructions) => instructions,
        };
        for at in instructions {
            self.execute(program, program.instructions.get(*at).ok_or(Error::NoPlan)?)?;
        }
        Ok(begin.elapsed().as_secs_f64())
    }

    fn fetch(&mut self, program: &mut Program, buffer: Buffer) -> Result<(), Error> {
        let values = self.get(program, buffer)?;
        self.fetched.insert(buffer, values);
        Ok(())
    }

    fn fetched(&mut self, _: &mut Program, buffer: Buffer) -> Result<Vec<f32>, Error> {
        self.fetched.remove(&buffer).ok_or(Error::NoPlan)
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
