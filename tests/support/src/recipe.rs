//! Builds the model files out of the stored parts by moving bytes: nothing is computed.
//!
//! A recipe lists files, for each its tensors, and for each tensor the operation on the parts that gives it; then files
//! to copy. The result is the same to the byte as what the golden values' own script (in Python) makes.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tensors::{Tensor, TensorFile, sizes};
use crate::{cache, fixture, golden, tests_folder};

/// The path of the file or folder `name`, built as the recipe (a fixture) says.
pub(crate) fn build(recipe: &str, name: &str) -> PathBuf {
    let path = fixture(recipe);
    let plan: Value = serde_json::from_slice(&cache::read(&path))
        .unwrap_or_else(|error| panic!("the fixture {recipe} is damaged: {error}"));
    let parts = golden().join(format!("{}.gz", text(&plan["source"])));
    let copies: Vec<(PathBuf, &str)> = match plan.get("copies") {
        Some(copies) => list(copies).iter().map(|pair| (copied_from(text(&pair[0])), text(&pair[1]))).collect(),
        None => Vec::new(),
    };
    let mut ingredients: Vec<&Path> = vec![&path, &parts];
    ingredients.extend(copies.iter().map(|(from, _)| from.as_path()));
    // This file's own text counts, so that a corrected builder never meets what a wrong one has left.
    let key = format!("{}-{:08x}", cache::stamp(&ingredients), cache::crc(include_bytes!("recipe.rs")));

    let mut source = None;
    for file in list(&plan["files"]) {
        let relative = Path::new(name).join(text(&file["path"]));
        let relative = relative.to_str().expect("recipes have plain names").trim_end_matches('/');
        cache::file(&key, relative, || {
            let source = source.get_or_insert_with(|| {
                TensorFile::parse(cache::unpack(&parts)).expect("the parts are a safetensors file")
            });
            assemble(file, source)
        });
    }
    for (from, to) in &copies {
        cache::file(&key, &format!("{name}/{to}"), || cache::read(from));
    }
    cache::folder(&key).join(name)
}

/// Where a file lies that the recipe copies: the tokenizers' vocabulary is the product's own.
fn copied_from(name: &str) -> PathBuf {
    match name.strip_prefix("tokenizer/") {
        Some(file) => tests_folder().with_file_name("common").join("assets").join("clip").join(file),
        None => fixture(name),
    }
}

/// One safetensors file: its header padded with spaces to a multiple of 8 bytes, then the tensors in their order.
fn assemble(file: &Value, source: &TensorFile) -> Vec<u8> {
    let mut header = format!(r#"{{"__metadata__":{}"#, file["metadata"]);
    let mut data = Vec::new();
    for item in list(&file["tensors"]) {
        let begin = data.len();
        let dtype = append(item, source, &mut data);
        let (name, shape, end) = (&item["name"], &item["shape"], data.len());
        header += &format!(r#",{name}:{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#);
    }
    header.push('}');
    let mut header = header.into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Appends the tensor that `item` describes to `data`; returns its element type.
fn append<'a>(item: &Value, source: &'a TensorFile, data: &mut Vec<u8>) -> &'a str {
    let begin = data.len();
    let inputs: Vec<Tensor<'_>> = list(&item["src"]).iter().map(|name| source.get(text(name))).collect();
    let (first, width) = (inputs[0], width(inputs[0].dtype));
    let shape = first.shape();
    match text(&item["op"]) {
        "copy" => data.extend_from_slice(first.bytes),
        "rows" => {
            let row = first.bytes.len() / shape[0];
            let range = sizes(&item["rows"]);
            data.extend_from_slice(&first.bytes[range[0] * row..range[1] * row]);
        }
        "transpose" => {
            let cell = |row: usize, column: usize| &first.bytes[(row * shape[1] + column) * width..][..width];
            for column in 0..shape[1] {
                (0..shape[0]).for_each(|row| data.extend_from_slice(cell(row, column)));
            }
        }
        "half_rows" => {
            let (left, right) = (shape[1] * width, inputs[1].shape()[1] * width);
            for row in 0..sizes(&item["shape"])[0] {
                data.extend_from_slice(&first.bytes[row % shape[0] * left..][..left]);
                data.extend_from_slice(&inputs[1].bytes[row / shape[0] * right..][..right]);
            }
        }
        other => panic!("the recipe has an unknown operation {other}"),
    }
    let wanted = sizes(&item["shape"]).iter().product::<usize>() * width;
    assert_eq!(data.len() - begin, wanted, "the recipe's shape of {} does not fit its source", item["name"]);
    first.dtype
}

/// Bytes of one element.
fn width(dtype: &str) -> usize {
    match dtype {
        "F64" | "I64" => 8,
        "F32" | "I32" => 4,
        "F16" | "BF16" => 2,
        "U8" => 1,
        other => panic!("the parts have an unknown element type {other}"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("a recipe has {value} where a list belongs"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a recipe has {value} where a text belongs"))
}
