use std::fs;
use std::thread;

use super::*;

/// Length and CRC-32 of a file.
fn checksum(path: &Path) -> (usize, u32) {
    let bytes = fs::read(path).unwrap();
    (bytes.len(), cache::crc(&bytes))
}

// The expected numbers are zlib.crc32 in Python over what the golden values' own materialize.py makes.

#[test]
fn the_single_file_is_the_one_that_the_python_script_makes() {
    let path = tiny_single();
    assert_eq!(path.file_name().unwrap(), "tiny_sdxl.safetensors");
    assert_eq!(checksum(&path), (41_184_128, 0xc558_8b28));
}

#[test]
fn the_folder_is_the_one_that_the_python_script_makes() {
    let expected = [
        ("model_index.json", (532, 0x8405_3e64)),
        ("scheduler/scheduler_config.json", (299, 0x7eec_17a9)),
        ("text_encoder/config.json", (497, 0xbeeb_e3ba)),
        ("text_encoder/model.safetensors", (6_640_128, 0xf87c_09fd)),
        ("text_encoder_2/config.json", (507, 0x36bf_d9dc)),
        ("text_encoder_2/model.safetensors", (14_295_616, 0x834e_61b3)),
        ("tokenizer/merges.txt", (524_619, 0x1691_648b)),
        ("tokenizer/special_tokens_map.json", (129, 0xef40_3ade)),
        ("tokenizer/tokenizer_config.json", (265, 0x5464_f62e)),
        ("tokenizer/vocab.json", (862_328, 0x8f76_da1c)),
        ("tokenizer_2/merges.txt", (524_619, 0x1691_648b)),
        ("tokenizer_2/special_tokens_map.json", (117, 0xcb06_6c1f)),
        ("tokenizer_2/tokenizer_config.json", (253, 0x138f_2902)),
        ("tokenizer_2/vocab.json", (862_328, 0x8f76_da1c)),
        ("unet/config.json", (1_679, 0xb88e_252c)),
        ("unet/diffusion_pytorch_model.safetensors", (17_406_800, 0x1069_a121)),
        ("vae/config.json", (712, 0x33d6_caf2)),
        ("vae/diffusion_pytorch_model.safetensors", (2_825_814, 0xb000_53ec)),
    ];
    let folder = tiny_diffusers();
    for (name, sum) in expected {
        assert_eq!(checksum(&folder.join(name)), sum, "{name}");
    }
    let folders = expected.iter().filter_map(|(name, _)| name.split_once('/')).map(|(folder, _)| folder);
    let mut entries: Vec<&str> = folders.chain(["model_index.json"]).collect();
    entries.dedup();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), entries.len(), "nothing else lies in the folder");
}

#[test]
fn a_compressed_fixture_is_unpacked_and_a_small_one_is_the_file_in_the_repository() {
    let unpacked = fixture("lora/L1_attention.safetensors");
    assert_eq!(unpacked.file_name().unwrap(), "L1_attention.safetensors");
    assert_eq!(checksum(&unpacked).0, 315_864);
    assert!(!unpacked.starts_with(golden()));
    assert_eq!(fixture("image/vae.json"), golden().join("image/vae.json"));
}

#[test]
#[should_panic(expected = "there is no fixture lora/L99.safetensors")]
fn a_missing_fixture_is_named() {
    let _ = fixture("lora/L99.safetensors");
}

#[test]
fn threads_that_ask_for_the_same_file_at_once_all_get_the_whole_file() {
    let key = format!("race-{}", std::process::id());
    let bytes = vec![7; 3_000_000];
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(fs::read(cache::file(&key, "a/b", || bytes.clone())).unwrap(), bytes));
        }
    });
    let made: Vec<_> = fs::read_dir(cache::folder(&key).join("a")).unwrap().collect();
    assert_eq!(made.len(), 1, "no partial file is left");
    fs::remove_dir_all(cache::folder(&key)).unwrap();
}

#[test]
fn a_tensor_is_read_with_its_type_its_shape_and_its_numbers() {
    let file = TensorFile::open(&fixture("traj/expected_output_constant.safetensors"));
    assert_eq!(file.names().collect::<Vec<_>>(), ["weights"]);
    let weights = file.get("weights");
    assert_eq!((weights.dtype, weights.shape(), weights.bytes.len()), ("F32", vec![40], 160));
    let printed = fs::read_to_string(fixture("traj/trajectories.json")).unwrap();
    let first = format!("Network 0 weights: {:.3},", weights.floats()[0]);
    assert!(printed.contains(&first), "the golden values print {first}");
    assert!(TensorFile::parse(b"not a safetensors file".to_vec()).is_none());
}
