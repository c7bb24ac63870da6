use super::*;
use std::borrow::Cow;
use std::fs;

/// A file of this header and this many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn open(bytes: &[u8]) -> Result<TensorFile, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    fs::write(&path, bytes).unwrap();
    TensorFile::open(&path)
}

fn refusal(bytes: &[u8]) -> String {
    let message = open(bytes).unwrap_err().to_string();
    assert!(message.contains("weights.safetensors"), "{message} doesn't name the file");
    assert!(!message.contains('\n'), "{message} is more than one line");
    message
}

fn written(tensors: &[NewTensor<'_>]) -> (tempfile::TempDir, TensorFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(&path, tensors, &BTreeMap::new()).unwrap();
    let file = TensorFile::open(&path).unwrap();
    (folder, file)
}

fn tensor(name: &str, dtype: Dtype, shape: &[usize], data: impl Into<Vec<u8>>) -> NewTensor<'static> {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_vec(), data: Cow::Owned(data.into()) }
}

#[test]
fn files_that_end_too_early_or_too_late_are_refused() {
    let sound = file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8);
    assert!(open(&sound).is_ok());
    assert!(refusal(&[]).contains("empty"));
    assert!(refusal(&sound[..5]).contains("ends after 5 bytes"));
    for end in [8, 20, sound.len() - 1] {
        assert!(refusal(&sound[..end]).contains(&format!("cut short at {end} bytes")), "{end}");
    }
    assert!(refusal(&[sound, vec![0; 3]].concat()).contains("3 bytes follow"));
}

#[test]
fn absurd_header_lengths_are_refused() {
    for length in [1 << 63, u64::MAX, 100_000_001] {
        assert!(refusal(&[&length.to_le_bytes()[..], b"{}"].concat()).contains("header would be"), "{length}");
    }
}

#[test]
fn headers_that_contradict_themselves_are_refused() {
    let info = |range: &str| format!(r#"{{"dtype":"F32","shape":[2],"data_offsets":{range}}}"#);
    let two = |first: &str, second: &str| format!(r#"{{"a":{},"b":{}}}"#, info(first), info(second));
    let one = |shape: &str, end: &str| format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#);
    for (what, header, data) in [
        ("no JSON", "{]".to_owned(), 0),
        ("no object", "[1,2]".to_owned(), 0),
        ("overlap", two("[0,8]", "[4,12]"), 12),
        ("a gap", two("[0,8]", "[12,20]"), 20),
        ("a range that ends before it starts", two("[0,8]", "[8,0]"), 16),
        ("more bytes than the shape", one("[2]", "12"), 12),
        ("fewer bytes than the shape", one("[4]", "8"), 8),
        ("a shape whose product overflows", one("[4294967296,4294967296]", "0"), 0),
        ("a shape whose bytes overflow", one("[4611686018427387904]", "0"), 0),
        ("a negative size", one("[-1]", "8"), 8),
        ("an unknown type", one("[2]", "8").replace("F32", "F31"), 8),
    ] {
        assert!(refusal(&file(&header, data)).contains("header is invalid"), "{what}");
    }
    assert!(refusal(&file(&one("[4]", "16"), 8)).contains("cut short"));
}

#[test]
fn offsets_whose_sum_overflows_are_refused() {
    // Each tensor is possible by itself; the last ends 8 bytes before the end of the address space, so that adding the
    // header's length comes out near the file's.
    let huge = 1u64 << 60;
    let ranges = (0..16).map(|index| (index * huge, if index < 15 { (index + 1) * huge } else { u64::MAX - 7 }));
    let infos = ranges.map(|(from, to)| {
        format!(r#""t{from}":{{"dtype":"U8","shape":[{}],"data_offsets":[{from},{to}]}}"#, to - from)
    });
    let header = format!("{{{}}}", infos.collect::<Vec<_>>().join(","));
    assert!(refusal(&file(&header, 8)).contains("cut short"));
}

#[test]
fn other_kinds_of_file_are_told_what_they_are() {
    assert!(refusal(b"PK\x03\x04 archive/data.pkl").contains("convert it to safetensors"));
    assert!(refusal(b"\x80\x02}q\x00(X\x0a\x00\x00\x00state_dict").contains("convert it to safetensors"));
    assert!(refusal(b"version https://git-lfs.github.com/spec/v1\noid").contains("git lfs pull"));
    assert!(refusal(b"GGUF\x03\x00\x00\x00\x00\x00\x00\x00").contains("GGUF"));
    assert!(refusal(b"just some text, longer than eight bytes").contains("give a .safetensors file"));
}

#[test]
fn a_header_that_begins_like_a_pickle_is_read() {
    let header = format!("{:640}", r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#);
    let bytes = file(&header, 1);
    assert_eq!(bytes[..2], [0x80, 0x02]);
    assert_eq!(open(&bytes).unwrap().names().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_folder_and_a_missing_file_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let message = TensorFile::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("is a folder"), "{message}");
    let message = TensorFile::open(&folder.path().join("absent.safetensors")).unwrap_err().to_string();
    assert!(message.contains("absent.safetensors") && message.contains("check the path"), "{message}");
}

#[test]
fn every_floating_type_becomes_f32_and_no_other_does() {
    let f16 = [half::f16::from_f32(1.5), half::f16::from_f32(-0.25)].map(half::f16::to_le_bytes).concat();
    let bf16 = [half::bf16::from_f32(1.5), half::bf16::from_f32(-0.25)].map(half::bf16::to_le_bytes).concat();
    let (_folder, file) = written(&[
        tensor("f16", Dtype::F16, &[2], f16),
        tensor("bf16", Dtype::BF16, &[2], bf16),
        tensor("f32", Dtype::F32, &[2], [1.5f32, -0.25].map(f32::to_le_bytes).concat()),
        tensor("f64", Dtype::F64, &[2], [1.5f64, -0.25].map(f64::to_le_bytes).concat()),
        tensor("i64", Dtype::I64, &[1], 7i64.to_le_bytes()),
        tensor("f8", Dtype::F8_E4M3, &[1], [0]),
    ]);
    for name in ["f16", "bf16", "f32", "f64"] {
        assert_eq!(file.get(name).unwrap().to_f32().unwrap(), [1.5, -0.25], "{name}");
    }
    for name in ["i64", "f8"] {
        let message = file.get(name).unwrap().to_f32().unwrap_err().to_string();
        assert!(message.contains("weights.safetensors") && message.contains(name), "{message}");
    }
    assert!(file.get("absent").is_none());
}

#[test]
fn the_first_number_that_is_not_finite_is_found_in_every_type() {
    let place = 5000;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut values = vec![f32::from(half::f16::MAX); 10_000];
        (values[place], values[place + 7]) = (bad, bad);
        let bytes =
            |convert: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|value| convert(*value)).collect::<Vec<u8>>();
        let (_folder, file) = written(&[
            tensor("f16", Dtype::F16, &[10_000], bytes(&|value| half::f16::from_f32(value).to_le_bytes().to_vec())),
            tensor("bf16", Dtype::BF16, &[10_000], bytes(&|value| half::bf16::from_f32(value).to_le_bytes().to_vec())),
            tensor("f32", Dtype::F32, &[10_000], bytes(&|value| value.to_le_bytes().to_vec())),
            tensor("f64", Dtype::F64, &[10_000], bytes(&|value| f64::from(value).to_le_bytes().to_vec())),
        ]);
        for name in ["f16", "bf16", "f32", "f64"] {
            let view = file.get(name).unwrap();
            assert_eq!(view.first_non_finite(), Some(place), "{name} {bad}");
            assert_eq!(view.rows(0..place).unwrap().first_non_finite(), None, "{name} {bad}");
        }
    }
}

#[test]
fn rows_are_cut_out_and_impossible_ones_are_none() {
    let (_folder, file) = written(&[
        NewTensor::from_f32("matrix", &[3, 2], &[1., 2., 3., 4., 5., 6.]),
        NewTensor::from_f32("scalar", &[], &[1.]),
        NewTensor::from_f32("empty", &[0, 2], &[]),
    ]);
    let matrix = file.get("matrix").unwrap();
    let middle = matrix.rows(1..2).unwrap();
    assert_eq!((middle.shape.as_slice(), middle.to_f32().unwrap()), (&[1, 2][..], vec![3., 4.]));
    assert_eq!(matrix.rows(0..3).unwrap(), matrix);
    assert!(matrix.rows(2..4).is_none());
    assert!(matrix.rows(usize::MAX - 1..usize::MAX).is_none());
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
    let reversed = matrix.rows(2..1);
    assert!(reversed.is_none());
    assert!(file.get("scalar").unwrap().rows(0..1).is_none());
    assert_eq!(file.get("empty").unwrap().rows(0..0).unwrap().data, b"");
}

#[test]
fn what_was_written_is_read_back_and_the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let metadata: BTreeMap<String, String> =
        (0..20).map(|index| (format!("key {index}"), format!("\"quoted\" {index}"))).collect();
    let tensors = [
        tensor("byte", Dtype::U8, &[3], [1, 2, 3]),
        NewTensor::from_f32("z", &[2], &[1., 2.]),
        NewTensor::from_f32("a", &[1, 2], &[3., 4.]),
    ];
    let paths = ["first", "second"].map(|name| folder.path().join(name));
    for path in &paths {
        write(path, &tensors, &metadata).unwrap();
    }
    let files = paths.map(|path| TensorFile::open(&path).unwrap());
    assert_eq!(files[0].bytes(), files[1].bytes());
    assert_eq!(files[0].metadata(), &metadata);
    assert_eq!(files[0].names().collect::<Vec<_>>(), ["a", "byte", "z"]);
    for tensor in &tensors {
        let view = files[0].get(&tensor.name).unwrap();
        assert_eq!((view.dtype, &view.shape, view.data), (tensor.dtype, &tensor.shape, &*tensor.data));
        let distance = view.data.as_ptr() as usize - files[0].bytes().as_ptr() as usize;
        assert_eq!(distance * 8 % tensor.dtype.bitsize(), 0, "{} isn't aligned", tensor.name);
    }
    // The library's own reader agrees.
    let theirs = safetensors::SafeTensors::deserialize(files[0].bytes()).unwrap();
    assert_eq!(theirs.tensor("z").unwrap().data(), files[0].get("z").unwrap().data);
}

#[test]
fn a_file_without_tensors_is_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none");
    for metadata in [BTreeMap::new(), BTreeMap::from([("a".to_owned(), "b".to_owned())])] {
        write(&path, &[], &metadata).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!((file.names().count(), file.metadata()), (0, &metadata));
    }
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write(&path, &[NewTensor::from_f32("a", &[1], &[1.])], &BTreeMap::new()).unwrap();
    let before = fs::read(&path).unwrap();
    let twice = [NewTensor::from_f32("a", &[1], &[1.]), NewTensor::from_f32("a", &[1], &[2.])];
    for bad in [
        &twice[..],
        &[NewTensor::from_f32("a", &[2], &[1.])],
        &[NewTensor::from_f32("a", &[usize::MAX, 2], &[1.])],
        &[NewTensor::from_f32("__metadata__", &[1], &[1.])],
    ] {
        let error = write(&path, bad, &BTreeMap::new()).unwrap_err();
        assert!(matches!(error, Error::BadTensor { .. }), "{error}");
    }
    // A folder can't be replaced by a file: the write itself fails, after the partial file was filled.
    let taken = folder.path().join("taken");
    fs::create_dir(&taken).unwrap();
    let error = write(&taken, &twice[..1], &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert!(write(&folder.path().join("absent/x"), &[], &BTreeMap::new()).is_err());
    assert_eq!(fs::read(&path).unwrap(), before);
    let left: BTreeMap<_, ()> =
        fs::read_dir(folder.path()).unwrap().map(|entry| (entry.unwrap().file_name(), ())).collect();
    assert_eq!(left.into_keys().collect::<Vec<_>>(), ["taken", "weights.safetensors"]);
}

#[test]
fn the_digest_is_that_of_the_whole_file() {
    let bytes = file("{}", 0);
    // Of 02 00 00 00 00 00 00 00 7b 7d, by sha256sum.
    assert_eq!(open(&bytes).unwrap().sha256(), "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd");
}
