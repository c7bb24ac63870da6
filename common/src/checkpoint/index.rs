//! Where each canonical tensor lies, and whether it is as it should be.

use super::error::Fault;
use super::source::{self, Source};
use crate::sdxl::names::{self, FromSingleFile};
use crate::sdxl::{Part, TensorSpec};
use crate::tensor_file::TensorView;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;

/// Where a canonical tensor lies.
#[derive(Debug)]
pub(super) struct Place {
    /// Index of the source.
    pub(super) source: usize,
    /// Index of the file in its source.
    pub(super) file: usize,
    /// Its name there.
    pub(super) name: String,
    /// The rows of the stored tensor that belong to it, if not all.
    pub(super) rows: Option<Range<usize>>,
    /// Whether the stored tensor is its transpose.
    pub(super) transpose: bool,
    /// Shape of the canonical tensor.
    pub(super) shape: Vec<usize>,
}

/// A tensor that isn't as it should be.
#[derive(Debug)]
pub(super) struct Misfit {
    /// The file; `None` if it is missing from a part that has none.
    pub(super) path: Option<PathBuf>,
    pub(super) tensor: String,
    pub(super) fault: Fault,
}

/// Canonical names and their places.
#[derive(Debug)]
pub(super) struct Index {
    places: BTreeMap<String, Place>,
}

impl Index {
    /// Finds all canonical tensors of the sources, and the stored ones that are none.
    pub(super) fn of(sources: &[Source]) -> (Self, Vec<Misfit>) {
        let mut index = Self { places: BTreeMap::new() };
        let mut misfits = Vec::new();
        for (at, source) in sources.iter().enumerate() {
            for (file_at, file) in source.files.iter().enumerate() {
                let views = file.names().filter(|name| !source.naming.is_harmless(name));
                for view in views.filter_map(|name| file.get(name)) {
                    if let Err(fault) = index.add(source, (at, file_at), &view) {
                        let path = Some(file.path().to_owned());
                        misfits.push(Misfit { path, tensor: view.name.to_owned(), fault });
                    }
                }
            }
        }
        (index, misfits)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }

    /// Whether any tensor of this part is there.
    pub(super) fn has(&self, part: Part) -> bool {
        self.places.keys().any(|name| names::part(name) == Some(part))
    }

    /// Compares with the tensors that the model must have. Afterwards the places have the shapes of the model where
    /// only trailing axes of length 1 differed.
    pub(super) fn fit(&mut self, specs: &[TensorSpec], sources: &[Source]) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        for spec in specs {
            let Some(place) = self.places.get_mut(&spec.name) else {
                let path = names::part(&spec.name).and_then(|part| source::path_of(sources, part));
                let path = path.map(ToOwned::to_owned);
                misfits.push(Misfit { path, tensor: spec.name.clone(), fault: Fault::Missing });
                continue;
            };
            if !same_elements(&place.shape, &spec.shape) {
                let fault = Fault::Shape { found: place.shape.clone(), expected: spec.shape.clone() };
                misfits.push(place.misfit(sources, fault));
            }
            place.shape.clone_from(&spec.shape);
            let view = place.view(sources);
            if let Some(view) = view.filter(|view| !view.is_float()) {
                misfits.push(place.misfit(sources, Fault::Type(view.dtype)));
            }
        }
        let known: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let extra = self.places.iter().filter(|(name, _)| !known.contains(name.as_str()));
        misfits.extend(extra.map(|(_, place)| place.misfit(sources, Fault::Extra)));
        misfits
    }

    fn add(&mut self, source: &Source, (at, file): (usize, usize), view: &TensorView<'_>) -> Result<(), Fault> {
        let canonical = source.naming.canonical(view.name);
        if canonical.is_empty() {
            return Err(Fault::Extra);
        }
        for FromSingleFile { name, third, transpose } in canonical {
            if !names::part(&name).is_some_and(|part| source.parts.contains(&part)) {
                continue;
            }
            let mut shape = view.shape.clone();
            let mut rows = None;
            // A number of rows that can't be cut in three is left as it is: its shape is then found to be wrong.
            if let (Some(third), Some(count)) = (third, shape.first_mut())
                && count.is_multiple_of(3)
            {
                *count /= 3;
                rows = Some(third * *count..(third + 1) * *count);
            }
            if transpose {
                shape.reverse();
            }
            let place = Place { source: at, file, name: view.name.to_owned(), rows, transpose, shape };
            if self.places.insert(name, place).is_some() {
                return Err(Fault::Twice);
            }
        }
        Ok(())
    }
}

impl Place {
    fn view<'a>(&self, sources: &'a [Source]) -> Option<TensorView<'a>> {
        sources.get(self.source)?.files.get(self.file)?.get(&self.name)
    }

    fn misfit(&self, sources: &[Source], fault: Fault) -> Misfit {
        let path = self.view(sources).map(|view| view.path.to_owned());
        Misfit { path, tensor: self.name.clone(), fault }
    }
}

/// Whether two shapes hold the same elements in the same order as far as SDXL is concerned: a 1x1 convolution is a
/// linear layer.
fn same_elements(found: &[usize], expected: &[usize]) -> bool {
    let matrix = |shape: &[usize]| match *shape {
        [outputs, inputs, 1, 1] => Some([outputs, inputs]),
        [outputs, inputs] => Some([outputs, inputs]),
        _ => None,
    };
    found == expected || matrix(found).is_some_and(|found| Some(found) == matrix(expected))
}
