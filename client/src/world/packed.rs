//! The packed form of the world's files, as `tests/world/unpack.py` describes it: a compressed safetensors file in which
//! halves are split into their high and low bytes, matrices may be 8-bit numbers with a scale for each row, and token tables
//! have only the rows in use.

use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use half::f16;
use lora_rates_common::sdxl::config::VOCABULARY;
use lora_rates_common::tensor_file::{Dtype, NewTensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;

/// Follows the name of a matrix' scales.
const SCALE: &str = ".scale";
/// Follows the name of a table of which only some rows are there.
const ROWS: &str = ".rows";
/// Which rows those are.
const PLACES: &str = "token_rows";

type Metadata = BTreeMap<String, String>;

/// The tensors, all of them halves, and the free text entries.
///
/// # Errors
/// The bytes are none of a packed file.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<NewTensor<'static>>, Metadata), anyhow::Error> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    let file = SafeTensors::deserialize(&plain)?;
    let (_, header) = SafeTensors::read_metadata(&plain)?;
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    let places = match file.tensor(PLACES) {
        Ok(places) => words(places.data()).map(|word| u32::from_le_bytes(word) as usize).collect(),
        Err(_) => Vec::new(),
    };
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let of_another = name.strip_suffix(SCALE).is_some_and(|matrix| file.tensor(matrix).is_ok());
        if of_another || name == PLACES {
            continue;
        }
        let halves = halves(&file, &name, &view).with_context(|| format!("tensor {name}"))?;
        let tensor = match name.strip_suffix(ROWS) {
            Some(table) => whole(table, &halves, &places, view.shape()).with_context(|| format!("tensor {name}"))?,
            None => tensor(name, view.shape().to_vec(), &halves),
        };
        tensors.push(tensor);
    }
    Ok((tensors, metadata))
}

fn halves(file: &SafeTensors<'_>, name: &str, view: &TensorView<'_>) -> Result<Vec<f16>, anyhow::Error> {
    let data = view.data();
    match view.dtype() {
        Dtype::F16 => {
            let (high, low) = data.split_at(data.len() / 2);
            Ok(high.iter().zip(low).map(|(high, low)| f16::from_le_bytes([*low, *high])).collect())
        }
        Dtype::I8 => {
            let scales = file.tensor(&format!("{name}{SCALE}"))?;
            let scales: Vec<f32> = words(scales.data()).map(f32::from_le_bytes).collect();
            ensure!(!scales.is_empty() && data.len().is_multiple_of(scales.len()), "its scales don't fit");
            let rows = data.chunks(data.len() / scales.len()).zip(scales);
            let number = |byte: u8, scale: f32| f16::from_f32(f32::from(byte.cast_signed()) * scale);
            Ok(rows.flat_map(|(row, scale)| row.iter().map(move |byte| number(*byte, scale))).collect())
        }
        other => anyhow::bail!("it is of type {other:?}"),
    }
}

/// A table of all tokens, from the rows in use; the others are zero.
fn whole(name: &str, rows: &[f16], places: &[usize], shape: &[usize]) -> Result<NewTensor<'static>, anyhow::Error> {
    let &[count, width] = shape else { anyhow::bail!("it has not two axes") };
    ensure!(count == places.len() && width > 0, "it has {count} rows instead of {}", places.len());
    let mut table = vec![f16::ZERO; VOCABULARY * width];
    for (row, place) in rows.chunks(width).zip(places) {
        let to = table.get_mut(place * width..(place + 1) * width).context("it has a row beyond the vocabulary")?;
        to.copy_from_slice(row);
    }
    Ok(tensor(name.to_owned(), vec![VOCABULARY, width], &table))
}

fn tensor(name: String, shape: Vec<usize>, halves: &[f16]) -> NewTensor<'static> {
    let data = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    NewTensor { name, dtype: Dtype::F16, shape, data: Cow::Owned(data) }
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.chunks_exact(4).filter_map(|word| word.try_into().ok())
}
