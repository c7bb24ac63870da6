//! The model's and the networks' parameters as the engine wants them in memory.

use super::packed;
use super::tape::Element;
use rayon::prelude::*;

/// Which parameter: its place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub(super) usize);

/// How a stored tensor is laid out on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is stored.
    Plain,
    /// `[outputs, inputs, kernel, kernel]` as `[outputs, kernel, kernel, inputs]`.
    Filter,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Canonical name of the stored tensor; for a network's factors the layer's name and `.down` or `.up`.
    pub name: String,
    /// Tensors of the same sizes whose rows follow those of the first.
    pub also: Vec<String>,
    /// Shape as stored, of all of them together.
    pub shape: Vec<usize>,
    /// How it lies on the device.
    pub form: Form,
    /// In which type.
    pub element: Element,
    /// Whether the device keeps it in eight bits ([`super::packed`]) and unpacks it wherever it is used.
    pub packed: bool,
}

impl Parameter {
    /// Numbers in it.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Rows and columns of a weight as a matrix.
    pub fn matrix(&self) -> [usize; 2] {
        let rows = self.shape.first().copied().unwrap_or(1);
        [rows, self.count() / rows.max(1)]
    }

    /// Bytes that it takes on a device whose narrow numbers have so many.
    pub fn bytes(&self, narrow: usize) -> usize {
        let [rows, columns] = self.matrix();
        match self.element {
            _ if self.packed => packed::bytes(rows, columns),
            Element::Wide => 4 * self.count(),
            Element::Narrow => narrow * self.count(),
        }
    }

    /// The numbers, given in the stored order, in the device's.
    pub fn arrange(&self, values: Vec<f32>) -> Vec<f32> {
        match (self.form, self.shape.as_slice()) {
            (Form::Filter, &[outputs, inputs, height, width]) => {
                channels_last(&values, [outputs, inputs, height, width])
            }
            _ => values,
        }
    }
}

/// `[a, channels, height, width]` as `[a, height, width, channels]`: of a filter, or of a batch of images.
pub fn channels_last(values: &[f32], [a, channels, height, width]: [usize; 4]) -> Vec<f32> {
    swap(values, [a, channels, height * width])
}

/// `[a, height, width, channels]` as `[a, channels, height, width]`.
pub fn channels_first(values: &[f32], [a, channels, height, width]: [usize; 4]) -> Vec<f32> {
    swap(values, [a, height * width, channels])
}

/// `[a, rows, columns]` as `[a, columns, rows]`.
fn swap(values: &[f32], [a, rows, columns]: [usize; 3]) -> Vec<f32> {
    let mut swapped = vec![0.0; a * rows * columns];
    let size = (rows * columns).max(1);
    values.par_chunks_exact(size).zip(swapped.par_chunks_exact_mut(size)).for_each(|(from, to)| {
        // Long strided runs rather than many short ones.
        if rows < columns {
            for (row, numbers) in from.chunks_exact(columns).enumerate() {
                to.iter_mut().skip(row).step_by(rows).zip(numbers).for_each(|(to, number)| *to = *number);
            }
        } else {
            for (column, numbers) in to.chunks_exact_mut(rows).enumerate() {
                let column = from.iter().skip(column).step_by(columns);
                numbers.iter_mut().zip(column).for_each(|(to, number)| *to = *number);
            }
        }
    });
    swapped
}

/// All parameters: first the model's, then those of the networks attached now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    /// Adds one.
    pub fn add(&mut self, parameter: Parameter) -> ParameterId {
        self.0.push(parameter);
        ParameterId(self.0.len() - 1)
    }

    /// One by its place.
    pub fn get(&self, id: ParameterId) -> &Parameter {
        &self.0[id.0]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has all weights of matrices and filters packed, as far as their rows allow it.
    pub fn pack(&mut self) {
        for parameter in &mut self.0 {
            let [_, columns] = parameter.matrix();
            let weight = parameter.shape.len() > 1 && parameter.element == Element::Narrow;
            parameter.packed = weight && columns.is_multiple_of(packed::STEP);
        }
    }

    /// Forgets all from a place on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// All, with their places.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.0.iter().enumerate().map(|(place, parameter)| (ParameterId(place), parameter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_last_and_come_back() {
        let values: Vec<f32> = (0..2 * 3 * 2 * 2).map(|x| x as f32).collect();
        let last = channels_last(&values, [2, 3, 2, 2]);
        assert_eq!(last[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        assert_eq!(channels_first(&last, [2, 3, 2, 2]), values);
    }
}
