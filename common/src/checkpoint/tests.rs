mod families;
mod faults;
mod vae;

use super::*;
use crate::sdxl::layout;
use crate::tensor_file::{self, NewTensor, TensorFile};
use lora_rates_test_support::{tiny_diffusers, tiny_single};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use tempfile::TempDir;

/// All tensors of a file, to be changed and written again.
fn contents(file: &TensorFile) -> Vec<NewTensor<'_>> {
    let tensor = |name: &str| {
        let view = file.get(name).unwrap();
        NewTensor { name: name.to_owned(), dtype: view.dtype, shape: view.shape, data: Cow::Borrowed(view.data) }
    };
    file.names().map(tensor).collect()
}

fn write(path: &Path, tensors: &[NewTensor<'_>]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    tensor_file::write(path, tensors, &BTreeMap::new()).unwrap();
}

/// Writes a changed copy of a file.
fn rewrite(from: &Path, to: &Path, change: impl FnOnce(&mut Vec<NewTensor<'_>>)) {
    let file = TensorFile::open(from).unwrap();
    let mut tensors = contents(&file);
    change(&mut tensors);
    write(to, &tensors);
}

/// A changed copy of the tiny single-file checkpoint, which lives as long as the folder.
fn single_with(change: impl FnOnce(&mut Vec<NewTensor<'_>>)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.safetensors");
    rewrite(&tiny_single(), &path, change);
    (folder, path)
}

/// A copy of the tiny diffusers folder, to be changed.
fn folder_copy() -> TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), &to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&tiny_diffusers(), folder.path());
    folder
}

fn named<'a, 'b>(tensors: &'a mut [NewTensor<'b>], name: &str) -> &'a mut NewTensor<'b> {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
}

fn refusal(path: &Path) -> String {
    one_line(Checkpoint::open(path))
}

fn one_line(result: Result<Checkpoint, Error>) -> String {
    let message = result.map(|checkpoint| checkpoint.path).unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message} is more than one line");
    message
}

fn assert_has(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

fn assert_same_tensors(left: &Checkpoint, right: &Checkpoint) {
    for spec in layout::tensors(left.config()) {
        let (left, right) = (left.tensor(&spec.name).unwrap(), right.tensor(&spec.name).unwrap());
        assert_eq!((&left.shape, &right.shape), (&spec.shape, &spec.shape), "{}", spec.name);
        assert_eq!(left.bytes(), right.bytes(), "{}", spec.name);
    }
}

#[test]
fn both_layouts_give_the_same_sizes_and_the_same_bytes() {
    let single = Checkpoint::open(&tiny_single()).unwrap();
    let folder = Checkpoint::open(&tiny_diffusers()).unwrap();
    assert_eq!(single.config(), folder.config());
    assert_eq!(single.config().unet.transformer_depth, [0, 1, 2]);
    assert_same_tensors(&single, &folder);
    assert_eq!(single.files(), [tiny_single()]);
    assert_eq!(folder.files().len(), 4);
    assert!(folder.files().iter().all(|file| file.starts_with(tiny_diffusers())));
    single.check_finite().unwrap();
    folder.check_finite().unwrap();
}

#[test]
fn a_tensor_holds_the_number_of_elements_of_its_shape() {
    let checkpoint = Checkpoint::open(&tiny_single()).unwrap();
    for spec in layout::tensors(checkpoint.config()) {
        let stored = checkpoint.tensor(&spec.name).unwrap();
        assert_eq!(stored.to_f32().unwrap().len(), spec.shape.iter().product::<usize>(), "{}", spec.name);
        assert_eq!(stored.transpose, spec.name == "text_encoder_2.text_projection.weight");
    }
}

#[test]
fn numbers_and_bytes_are_transposed_alike() {
    let single = Checkpoint::open(&tiny_single()).unwrap();
    let folder = Checkpoint::open(&tiny_diffusers()).unwrap();
    let name = "text_encoder_2.text_projection.weight";
    let (stored, straight) = (single.tensor(name).unwrap(), folder.tensor(name).unwrap());
    assert!(stored.transpose && !straight.transpose);
    assert_eq!(stored.to_f32().unwrap(), straight.view.to_f32().unwrap());
    assert_ne!(stored.view.data, straight.view.data, "a symmetric matrix shows nothing");
}

#[test]
fn a_name_that_the_layout_lacks_is_an_error() {
    let checkpoint = Checkpoint::open(&tiny_single()).unwrap();
    let message = checkpoint.tensor("unet.out.3.weight").unwrap_err().to_string();
    assert_has(&message, &["tiny_sdxl.safetensors", "unet.out.3.weight"]);
}

#[test]
fn half_precision_files_and_shards_are_found() {
    let folder = folder_copy();
    let text = folder.path().join("text_encoder");
    fs::rename(text.join("model.safetensors"), text.join("model.fp16.safetensors")).unwrap();
    let unet = folder.path().join("unet");
    let whole = unet.join("diffusion_pytorch_model.safetensors");
    let mut weight_map = BTreeMap::new();
    for (index, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        rewrite(&whole, &unet.join(shard), |tensors| {
            let mut count = 0;
            tensors.retain(|_| {
                count += 1;
                count % 2 == index
            });
            weight_map.extend(tensors.iter().map(|tensor| (tensor.name.clone(), shard)));
        });
    }
    fs::remove_file(&whole).unwrap();
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": weight_map});
    fs::write(unet.join("diffusion_pytorch_model.safetensors.index.json"), index.to_string()).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.files().len(), 5);
    assert_same_tensors(&checkpoint, &Checkpoint::open(&tiny_diffusers()).unwrap());
}

#[test]
fn an_index_of_shards_can_name_no_file_outside_its_folder() {
    let folder = folder_copy();
    let unet = folder.path().join("unet");
    fs::remove_file(unet.join("diffusion_pytorch_model.safetensors")).unwrap();
    for name in ["../text_encoder/model.safetensors", "/etc/passwd", "..", "", "a/b", "a\\b"] {
        let index = serde_json::json!({"weight_map": {"conv_in.weight": name}});
        fs::write(unet.join("diffusion_pytorch_model.safetensors.index.json"), index.to_string()).unwrap();
        assert_has(&refusal(folder.path()), &["index.json is broken", "not a file beside it"]);
    }
}
