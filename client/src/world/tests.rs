use super::*;
use lora_rates_common::block::Block;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::dataset::buckets::BucketOptions;
use lora_rates_common::dataset::{Dataset, DatasetOptions};
use lora_rates_common::network::{Unmatched, open_all};

fn written() -> (tempfile::TempDir, World) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let world = World::below(folder.path());
    world.write(false).expect("the files can be written");
    (folder, world)
}

#[test]
fn the_model_is_an_sdxl_whose_numbers_are_finite_and_the_networks_fit_it() {
    let (_folder, world) = written();
    let checkpoint = Checkpoint::open(&world.model()).expect("the model opens");
    checkpoint.check_finite().expect("all weights are numbers");
    let names = ["character1", "style2", "useless"];
    let files = names.map(|name| world.network(name));
    let networks = open_all(&files, checkpoint.config(), Unmatched::Refuse).expect("the networks open");
    for network in networks {
        assert!(network.live()[Block::MID.index()] && !network.live()[Block::BASE.index()]);
    }
}

#[test]
fn every_example_has_pictures_with_captions() {
    let (folder, world) = written();
    let examples = std::fs::read_dir(folder.path().join("examples")).expect("a folder");
    let mut count = 0;
    for example in examples {
        let example = example.expect("an entry").file_name();
        for part in ["train", "heldout"] {
            let train_data_dir = world.pictures(&example.to_string_lossy(), part);
            let buckets = BucketOptions { resolution: (128, 128), enable: false, ..Default::default() };
            let options =
                DatasetOptions { train_data_dir, validation_data_dir: None, caption_extension: ".txt".into(), buckets };
            let images = Dataset::scan(&options).expect("the pictures are read").images;
            assert!(images.iter().all(|image| image.caption.contains(' ')), "{images:?}");
            count += images.len();
        }
    }
    assert!(count >= 5 * 33, "{count}");
}

#[test]
fn files_that_are_there_are_kept_only_when_asked() {
    let (_folder, world) = written();
    let caption = world.pictures("character_in_style", "train").join("00.txt");
    let made = std::fs::read(&caption).expect("a caption");
    std::fs::write(&caption, "mine").expect("a caption can be written");
    world.write(true).expect("the files can be written");
    assert_eq!(std::fs::read(&caption).expect("a caption"), b"mine");
    world.write(false).expect("the files can be written");
    assert_eq!(std::fs::read(&caption).expect("a caption"), made);
}

#[test]
fn packed_bytes_are_read_as_they_are_described() {
    use std::io::Write as _;
    // [2, 2] of 8 bits with a scale for each row; a half 1.5 = 0x3e00, split; row 3 of a table.
    let header = br#"{"a":{"dtype":"I8","shape":[2,2],"data_offsets":[0,4]},
        "a.scale":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},
        "b":{"dtype":"F16","shape":[2],"data_offsets":[12,16]},
        "t.rows":{"dtype":"F16","shape":[1,1],"data_offsets":[16,18]},
        "token_rows":{"dtype":"I32","shape":[1],"data_offsets":[18,22]}}"#;
    let mut plain = (header.len() as u64).to_le_bytes().to_vec();
    plain.extend(header);
    plain.extend([1, 0xff, 2, 0x80]);
    plain.extend([0.5_f32, 0.25].map(f32::to_le_bytes).concat());
    plain.extend([0x3e, 0xbe, 0x00, 0x01, 0x3e, 0x00]);
    plain.extend(3_i32.to_le_bytes());
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&plain).expect("memory");
    let bytes = packer.finish().expect("memory");
    let (tensors, _) = packed::read(&bytes).expect("it is well formed");
    let of = |name: &str| tensors.iter().find(|tensor| tensor.name == name).expect("the tensor");
    let halves = |name: &str| {
        let pairs = of(name).data.chunks(2).map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32());
        pairs.collect::<Vec<_>>()
    };
    assert_eq!(halves("a"), [0.5, -0.5, 0.5, -32.0]);
    assert_eq!(halves("b"), [1.5, -1.500_976_6]);
    assert_eq!((tensors.len(), of("t").shape[..].to_vec()), (3, vec![49408, 1]));
    assert_eq!((halves("t")[3], halves("t").iter().sum::<f32>()), (1.5, 1.5));
    assert!(packed::read(&bytes[..bytes.len() / 2]).is_err());
}
