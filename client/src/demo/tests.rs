use super::*;
use lora_rates_common::block::Block;
use lora_rates_common::checkpoint::Checkpoint;
use lora_rates_common::dataset::buckets::BucketOptions;
use lora_rates_common::dataset::{Dataset, DatasetOptions};
use lora_rates_common::network::{Unmatched, open_all};
use lora_rates_common::sdxl::config::SdxlConfig;
use std::collections::BTreeSet;
use std::fs;

fn made(folder: &Path) -> Files {
    let files = Files::below(folder);
    files.make(1, false).expect("the demonstration's files can be written");
    files
}

/// All files below a folder with their bytes, by path.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                found.push((path.strip_prefix(folder).expect("below the folder").to_owned(), bytes));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_model_opens_with_the_sizes_it_was_made_with_and_the_networks_fit_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = made(folder.path());
    let checkpoint = Checkpoint::open(&files.model).expect("the model opens");
    assert_eq!(checkpoint.config(), &SdxlConfig::tiny());
    checkpoint.check_finite().expect("all weights are numbers");

    let networks = open_all(&files.networks, checkpoint.config(), Unmatched::Refuse).expect("the networks open");
    let live = |network: usize, block: Block| networks[network].live()[block.index()];
    let out08 = Block::output(8).expect("OUT08");
    assert_eq!((live(0, Block::BASE), live(0, Block::MID), live(0, out08)), (false, true, false));
    assert_eq!((live(1, Block::BASE), live(1, Block::MID), live(1, out08)), (true, true, true));
}

#[test]
fn the_pictures_are_read_with_their_captions_and_fill_two_buckets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    pictures::write(folder.path()).expect("the pictures can be written");
    let buckets = BucketOptions { resolution: (64, 64), min: 32, max: 96, step: 32, ..Default::default() };
    let options = DatasetOptions {
        train_data_dir: folder.path().into(),
        caption_extension: ".txt".into(),
        buckets,
        ..DatasetOptions::default()
    };
    let images = Dataset::scan(&options).expect("the pictures are read").images;
    assert_eq!(images.iter().map(|image| image.repeats).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
    assert!(images.iter().all(|image| image.caption.contains(" ground")), "{images:?}");
    assert_eq!(images.iter().map(|image| image.fit.bucket).collect::<BTreeSet<_>>().len(), 2);
}

#[test]
fn the_same_seed_gives_the_same_bytes_over_older_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    made(folder.path());
    let before = contents(folder.path());
    made(folder.path());
    assert!(before == contents(folder.path()), "the second time gives other files");
}

#[test]
fn bfloat16_is_rounded_to_the_nearest_with_halves_to_even() {
    let cases = [(0.0, 0x0000), (1.0, 0x3f80), (-2.5, 0xc020), (1.003_906_2, 0x3f80), (1.011_718_8, 0x3f82)];
    for (value, bits) in cases {
        assert_eq!(model::bf16(value), bits, "{value}");
    }
}
