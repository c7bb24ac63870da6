use super::*;
use std::os::unix::fs::symlink;

/// `models/` with a file, a folder and links, and `secret/` beside it.
struct Place {
    folder: tempfile::TempDir,
    models: Models,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["models/deep/er", "models/pipe/unet", "secret/unet"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        for name in ["models/a.safetensors", "models/deep/er/b.safetensors", "models/pipe/unet/w", "secret/s"] {
            fs::write(at(name), "x").unwrap();
        }
        let models = Models::below(&at("models")).unwrap();
        Self { folder, models }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    fn refusal(&self, path: &str) -> String {
        self.models.find(Path::new(path)).unwrap_err().to_string()
    }
}

#[test]
fn models_below_the_folder_are_found() {
    let place = Place::new();
    for name in ["a.safetensors", "deep/er/b.safetensors", "pipe"] {
        assert_eq!(place.models.find(Path::new(name)).unwrap(), place.at("models").join(name));
    }
}

#[test]
fn links_that_stay_inside_are_followed() {
    let place = Place::new();
    symlink("a.safetensors", place.at("models/alias")).unwrap();
    symlink("../../a.safetensors", place.at("models/pipe/unet/link")).unwrap();
    assert_eq!(place.models.find(Path::new("alias")).unwrap(), place.at("models/a.safetensors"));
    assert!(place.models.find(Path::new("pipe")).is_ok());
}

#[test]
fn whatever_leads_out_is_refused_in_the_same_words_as_what_is_missing() {
    let place = Place::new();
    symlink(place.at("secret/s"), place.at("models/out")).unwrap();
    symlink("../secret", place.at("models/folder-out")).unwrap();
    // A chain: inside, inside, outside.
    symlink("second", place.at("models/first")).unwrap();
    symlink("out", place.at("models/second")).unwrap();
    symlink("loop", place.at("models/loop")).unwrap();
    symlink("..", place.at("models/up")).unwrap();
    let absolute = place.at("secret/s").display().to_string();
    let within = place.at("models/a.safetensors").display().to_string();
    for path in [
        "missing",
        "out",
        "folder-out",
        "folder-out/s",
        "first",
        "second",
        "loop",
        "up/secret/s",
        "../secret/s",
        "deep/../../secret/s",
        "deep/../a.safetensors",
        "./a.safetensors",
        "..",
        ".",
        "",
        "/",
        "/etc/passwd",
        "up/models/a.safetensors/",
        &absolute,
        &within,
    ] {
        // What is inside by a way that leaves is as good as inside.
        if path == "up/models/a.safetensors/" {
            assert!(place.models.find(Path::new("up/models/a.safetensors")).is_ok());
            continue;
        }
        assert_eq!(place.refusal(path), format!("there is no model {path} below the worker's model folder"));
    }
}

#[test]
fn a_folder_with_a_link_out_anywhere_in_it_is_refused() {
    let place = Place::new();
    assert!(place.models.find(Path::new("pipe")).is_ok());
    symlink(place.at("secret/s"), place.at("models/pipe/unet/shard")).unwrap();
    assert_eq!(place.refusal("pipe"), "there is no model pipe below the worker's model folder");
    fs::remove_file(place.at("models/pipe/unet/shard")).unwrap();
    symlink("../../secret/unet", place.at("models/pipe/vae")).unwrap();
    assert_eq!(place.refusal("pipe"), "there is no model pipe below the worker's model folder");
}

#[test]
fn a_folder_that_links_to_itself_is_refused_soon() {
    let place = Place::new();
    symlink(".", place.at("models/pipe/again")).unwrap();
    assert_eq!(place.refusal("pipe"), "there is no model pipe below the worker's model folder");
}

#[test]
fn a_description_names_nothing_outside() {
    let place = Place::new();
    let describe = |path: &str, vae: Option<&str>| {
        let describe = Describe { number: 1, path: path.into(), vae: vae.map(Into::into) };
        place.models.describe(&describe).unwrap_err()
    };
    let root = place.folder.path().display().to_string();
    for (path, vae) in [("a.safetensors", None), ("pipe", None), ("pipe/unet", None), ("deep", Some("a.safetensors"))] {
        let failure = describe(path, vae);
        assert!(!failure.contains(&root) && !failure.is_empty(), "{failure}");
    }
    assert!(describe("a.safetensors", None).contains("a.safetensors"));
    assert_eq!(describe("/etc/passwd", None), "there is no model /etc/passwd below the worker's model folder");
    let vae = describe("a.safetensors", Some("../secret/s"));
    assert_eq!(vae, "there is no model ../secret/s below the worker's model folder");
}

#[test]
fn a_model_folder_must_be_one() {
    let place = Place::new();
    for name in ["missing", "secret/s"] {
        let error = Models::below(&place.at(name)).unwrap_err().to_string();
        assert!(error.starts_with("--model-dir ") && error.contains(name), "{error}");
    }
}
