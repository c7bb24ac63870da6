use super::*;
use crate::picture;
use image::RgbImage;
use std::path::Path;
use tempfile::TempDir;

/// A folder with these files in it; pictures get the size after their name.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    fn picture(self, name: &str, width: u32, height: u32) -> Self {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 0]));
        image.save(path).unwrap();
        self
    }

    fn options(&self) -> DatasetOptions {
        let buckets = BucketOptions { resolution: (64, 64), min: 32, max: 128, step: 32, ..Default::default() };
        DatasetOptions { train_data_dir: self.0.path().into(), buckets, ..Default::default() }
    }

    fn scan(&self) -> Result<Dataset, Error> {
        Dataset::scan(&self.options())
    }

    /// With caption files `.txt`, and the warnings.
    fn scan_txt(&self) -> (Dataset, Vec<String>) {
        let mut warnings = Vec::new();
        let options = DatasetOptions { caption_extension: "txt".into(), ..self.options() };
        (Dataset::read(&options, &mut warnings).unwrap(), warnings)
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        Dataset::read(&self.options(), &mut warnings).unwrap();
        warnings
    }
}

fn names(dataset: &Dataset) -> Vec<&str> {
    dataset.images.iter().map(|image| image.path.file_name().unwrap().to_str().unwrap()).collect()
}

fn captions(dataset: &Dataset) -> Vec<&str> {
    dataset.images.iter().map(|image| image.caption.as_str()).collect()
}

#[test]
fn folders_give_repeats_and_class_and_pictures_are_sorted_by_path() {
    let folder = Folder::new()
        .picture("5_cat toy/b.png", 64, 64)
        .picture("5_cat toy/a.jpg", 64, 64)
        .picture("2_my_dog/c.WEBP", 64, 128)
        .picture("10_/d.JPeG", 64, 64);
    let dataset = folder.scan().unwrap();
    assert_eq!(names(&dataset), ["d.JPeG", "c.WEBP", "a.jpg", "b.png"]);
    assert_eq!(captions(&dataset), ["", "my_dog", "cat toy", "cat toy"]);
    assert_eq!(dataset.images.iter().map(|image| image.repeats).collect::<Vec<_>>(), [10, 2, 5, 5]);
    assert_eq!(dataset.images[1].size, (64, 128));
    assert_eq!(dataset.images[1].fit.bucket, (32, 96));
    assert!(dataset.images.iter().all(|image| image.loss_weight == 1.0));
    assert_eq!(dataset.summary(), "4 pictures, 22 with repeats, 2 buckets: 32x96 (2), 64x64 (20)");
}

#[test]
fn a_folder_of_pictures_is_one_subset_shown_once() {
    let dataset = Folder::new().picture("a.png", 64, 64).with("a.caption", "a cat").scan().unwrap();
    assert_eq!(captions(&dataset), ["a cat"]);
    assert_eq!(dataset.summary(), "1 picture, 1 with repeats, 1 bucket: 64x64 (1)");
}

#[test]
fn the_digest_is_that_of_the_file_and_equal_pictures_both_count() {
    let folder = Folder::new().picture("a.png", 64, 64).picture("b.png", 64, 64);
    let dataset = folder.scan().unwrap();
    assert_eq!(dataset.images.len(), 2);
    assert_eq!(dataset.images[0].sha256, dataset.images[1].sha256);
    let bytes = std::fs::read(&dataset.images[0].path).unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(dataset.images[0].sha256, hex);
}

#[test]
fn a_caption_is_the_trimmed_first_line_and_wins_over_the_class() {
    let folder = Folder::new()
        .picture("1_cat/a.png", 64, 64)
        .with("1_cat/a.txt", "\u{feff}  a red cat \r\nsecond line")
        .picture("1_cat/b.c.png", 64, 64)
        .with("1_cat/b.c.txt", "stem with a dot")
        .picture("1_cat/d.png", 64, 64);
    let (dataset, warnings) = folder.scan_txt();
    assert_eq!(captions(&dataset), ["a red cat", "stem with a dot", "cat"]);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_caption_extension_may_have_its_dot_or_not_but_must_be_one() {
    let folder = Folder::new().picture("a.png", 64, 64).with("a.tags", "a cat");
    for extension in ["tags", ".tags"] {
        let options = DatasetOptions { caption_extension: extension.into(), ..folder.options() };
        assert_eq!(captions(&Dataset::scan(&options).unwrap()), ["a cat"]);
    }
    for extension in ["", ".", "../secret"] {
        let options = DatasetOptions { caption_extension: extension.into(), ..folder.options() };
        assert!(matches!(Dataset::scan(&options), Err(Error::CaptionExtension(_))));
    }
}

#[test]
fn missed_captions_are_counted_and_unread_txt_files_pointed_out() {
    let folder = Folder::new().picture("a.png", 64, 64).with("a.txt", "a cat").picture("b.png", 64, 64);
    let warnings = folder.warnings();
    assert_eq!(
        warnings,
        ["2 of 2 pictures have an empty caption; 1 have no .caption file but a .txt file, which is not read: \
          set caption_extension to .txt"]
    );
    // The class takes a caption's place, which the user may not have meant either.
    let folder = Folder::new().picture("1_cat/a.png", 64, 64).with("1_cat/a.txt", "a red cat");
    assert!(folder.warnings()[0].starts_with("1 have no .caption file but a .txt file"));
}

#[test]
fn captions_in_another_encoding_or_of_absurd_length_are_named() {
    let folder = Folder::new().picture("a.png", 64, 64).with("a.caption", b"caf\xe9");
    let error = folder.scan().unwrap_err();
    assert!(matches!(&error, Error::CaptionEncoding { path } if path.ends_with("a.caption")), "{error}");
    let folder = Folder::new().picture("a.png", 64, 64).with("a.caption", vec![b'a'; (1 << 20) + 1]);
    assert!(matches!(folder.scan(), Err(Error::CaptionTooLong { .. })));
}

#[test]
fn unreadable_pictures_stop_the_scan_and_the_first_is_named() {
    let folder = (0..20).fold(Folder::new(), |folder, i| folder.picture(&format!("{i:02}.png"), 64, 64));
    let whole = std::fs::read(folder.0.path().join("00.png")).unwrap();
    let folder = folder.with("07.png", &whole[..whole.len() / 2]).with("13.png", "not a picture");
    for _ in 0..20 {
        let error = folder.scan().unwrap_err();
        assert!(matches!(&error, Error::Picture(picture::Error::Decode { .. })), "{error}");
        assert!(error.to_string().contains("07.png"), "{error}");
    }
    let folder = Folder::new().with("13.png", "not a picture");
    assert!(folder.scan().unwrap_err().to_string().contains("13.png is not a PNG, JPEG or WebP picture"));
}

#[test]
fn names_that_say_nothing_are_passed_over_with_a_warning() {
    let folder = Folder::new()
        .picture("1_cat/a.png", 64, 64)
        .with("1_cat/a.caption", "a cat")
        .with("1_cat/b.gif", "")
        .with("c.BMP", "")
        .with("notes.md", "")
        .picture("1_cat/deeper/a.png", 64, 64)
        .picture("regular images/a.png", 64, 64)
        .picture(".cache/a.png", 64, 64)
        .with("._a.png", "what some systems leave behind")
        .with("3_empty/a.txt", "");
    let warnings = folder.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    assert!(warnings[0].contains("deeper") && warnings[0].ends_with("it lies too deep"));
    assert!(warnings[1].contains("3_empty has no pictures"));
    assert!(warnings[2].contains("regular images is passed over: its name is not of the form N_class"));
    assert!(warnings[3].starts_with("2 pictures below"));
    assert_eq!(folder.scan().unwrap().images.len(), 1);
}

#[test]
fn pictures_beside_class_folders_are_an_error_that_says_which() {
    let folder = Folder::new().picture("1_cat/a.png", 64, 64).picture("b.png", 64, 64);
    let error = folder.scan().unwrap_err().to_string();
    assert!(error.contains("b.png") && error.contains("1_cat"), "{error}");
}

#[test]
fn no_repeats_and_absurdly_many_are_errors_that_name_the_folder() {
    for name in ["0_cat", "00_cat", "100001_cat", "99999999999999_cat"] {
        let error = Folder::new().picture(&format!("{name}/a.png"), 64, 64).scan().unwrap_err();
        assert!(matches!(&error, Error::Repeats { path } if path.ends_with(name)), "{error}");
    }
}

#[test]
fn a_missing_or_empty_folder_or_a_file_is_named_with_what_is_expected() {
    let folder = Folder::new().with("a.txt", "").with("holiday/b.txt", "");
    let error = folder.scan().unwrap_err();
    assert!(matches!(&error, Error::Empty { path } if path == folder.0.path()), "{error}");
    assert!(error.to_string().contains("expected .png"), "{error}");
    for name in ["a.txt", "missing"] {
        let options = DatasetOptions { train_data_dir: folder.0.path().join(name), ..folder.options() };
        let error = Dataset::scan(&options).unwrap_err();
        assert!(matches!(&error, Error::Folder { path, .. } if path.ends_with(name)), "{error}");
    }
}

#[test]
fn bucket_options_are_checked_first() {
    let options = DatasetOptions {
        train_data_dir: Path::new("missing").into(),
        buckets: BucketOptions { step: 7, ..Default::default() },
        ..Default::default()
    };
    assert!(matches!(Dataset::scan(&options), Err(Error::Buckets(buckets::Error::Step(7)))));
}

#[test]
fn a_dataset_survives_being_written_and_read() {
    let dataset = Folder::new().picture("3_cat/a.png", 70, 100).scan().unwrap();
    let text = serde_json::to_string(&dataset).unwrap();
    assert_eq!(serde_json::from_str::<Dataset>(&text).unwrap(), dataset);
}

#[test]
fn held_out_pictures_of_their_own_folder_come_last_and_are_none_to_train_on() {
    let train = Folder::new().picture("2_cat/b.png", 64, 64).picture("2_cat/c.png", 60, 64);
    let held_out = Folder::new().picture("5_dog/a.png", 50, 64).with("5_dog/a.txt", "a dog");
    let options = DatasetOptions {
        validation_data_dir: Some(held_out.0.path().into()),
        caption_extension: ".txt".into(),
        ..train.options()
    };
    let dataset = Dataset::scan(&options).unwrap();
    assert_eq!((names(&dataset), captions(&dataset)), (vec!["b.png", "c.png", "a.png"], vec!["cat", "cat", "a dog"]));
    assert_eq!(dataset.images.iter().map(|image| image.held_out).collect::<Vec<_>>(), [false, false, true]);
    assert!(dataset.summary().starts_with("2 pictures, 4 with repeats"), "{}", dataset.summary());

    let twice = held_out.picture("5_dog/z.png", 60, 64);
    let error = Dataset::scan(&options).unwrap_err().to_string();
    assert!(error.contains("z.png has the same content as") && error.contains("c.png, which is trained"), "{error}");
    drop(twice);
}
