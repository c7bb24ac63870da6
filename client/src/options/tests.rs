use super::config_file::parse;
use super::*;
use clap::{Args as _, FromArgMatches as _};
use std::path::Path;

/// Options of a command line.
fn typed(line: &str) -> Result<Options, String> {
    let command = Options::augment_args(clap::Command::new("search"));
    let words = std::iter::once("search").chain(line.split_whitespace());
    let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
    Options::from_arg_matches(&matches).map_err(|error| error.to_string())
}

fn written(text: &str) -> Result<Options, String> {
    let options = parse(text, Path::new("search.toml"));
    options.map_err(|error| {
        let message = error.to_string();
        assert!(message.starts_with("search.toml"), "{message} doesn't name the file");
        assert!(!message.contains('\n'), "{message} is more than one line");
        message
    })
}

#[test]
fn the_command_line_wins_over_the_file() {
    let line = typed("--learning_rate 0.05 --enable_bucket false --network_weights a b").unwrap();
    let file = written("learning_rate = 1.0\nenable_bucket = true\nvae = \"v\"\nnetwork_weights = [\"c\"]").unwrap();
    let both = line.over(file);
    assert_eq!(both.learning_rate, Some(0.05));
    assert_eq!(both.enable_bucket, Some(false));
    assert_eq!(both.vae, Some("v".into()));
    assert_eq!(both.network_weights, Some(vec!["a".into(), "b".into()]));
    assert_eq!(both.resolution, None);
}

#[test]
fn flags_may_stand_alone_or_have_a_value() {
    assert_eq!(typed("--flip_aug --resolution 512").unwrap().flip_aug, Some(true));
    assert_eq!(typed("--cache_latents false").unwrap().cache_latents, Some(false));
    assert_eq!(typed("").unwrap(), Options::default());
    assert!(typed("--flip_aug maybe").unwrap_err().contains("--flip_aug"));
}

#[test]
fn headings_of_a_file_mean_nothing() {
    let flat = written("vae = \"v\"\nseed = 7\nmax_token_length = 150\nlr_scheduler = \"cosine\"").unwrap();
    let headed = "[model]\nvae = \"v\"\n[anything]\nseed = 7\nmax_token_length = 150\nlr_scheduler = \"cosine\"";
    assert_eq!(written(headed).unwrap(), flat);
    let again = typed("--vae v --seed 7 --max_token_length 150 --lr_scheduler cosine").unwrap();
    assert_eq!(again, flat);
    assert!(written("seed = 7\n[a]\nseed = 8").unwrap_err().contains("seed is given twice"));
}

#[test]
fn a_resolution_is_one_number_or_two() {
    let both = |width, height| Some(Resolution { width, height });
    assert_eq!(typed("--resolution 512").unwrap().resolution, both(512, 512));
    assert_eq!(typed("--resolution 1024,768").unwrap().resolution, both(1024, 768));
    for text in ["resolution = \"1024, 768\"", "resolution = [1024, 768]"] {
        assert_eq!(written(text).unwrap().resolution, both(1024, 768), "{text}");
    }
    assert_eq!(written("resolution = 64").unwrap().resolution, both(64, 64));
    for text in ["--resolution x", "--resolution 1,2,3", "--resolution -1", "--resolution 64,"] {
        assert!(typed(text).unwrap_err().contains("--resolution"), "{text}");
    }
    for text in ["resolution = true", "resolution = -1", "resolution = [1]", "resolution = 1.5"] {
        assert!(written(text).unwrap_err().contains("resolution"), "{text}");
    }
}

#[test]
fn devices_are_one_or_more() {
    let devices = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    for line in ["--device cuda:0,cuda:1", "--device cuda:0 --device cuda:1"] {
        assert_eq!(typed(line).unwrap().device, devices(&["cuda:0", "cuda:1"]), "{line}");
    }
    for text in ["device = [\"cuda:0\", \"cuda:1\"]", "device = \"cuda:0, cuda:1\""] {
        assert_eq!(written(text).unwrap().device, devices(&["cuda:0", "cuda:1"]), "{text}");
    }
    assert_eq!(written("device = \"cpu\"").unwrap().device, devices(&["cpu"]));
    assert!(written("device = 1").unwrap_err().contains("device"));
    let validation = written("validation_split = 0.2\nvalidate_every_n_steps = 50\nearly_stop = 3").unwrap();
    assert_eq!(validation, typed("--validation_split 0.2 --validate_every_n_steps 50 --early_stop 3").unwrap());
}

#[test]
fn an_unknown_key_is_refused_and_a_near_one_suggested() {
    assert!(written("learning_rat = 0.1").unwrap_err().contains("no option learning_rat; did you mean learning_rate?"));
    assert!(written("[x]\nnonsense = 1").unwrap_err().contains("no option nonsense; see"));
    assert!(written("config_file = \"x\"").is_err());
    assert!(written("resume = true").is_err());
}

#[test]
fn a_value_of_the_wrong_kind_names_its_key() {
    for (text, key) in [
        ("train_batch_size = -1", "train_batch_size"),
        ("train_batch_size = \"two\"", "train_batch_size"),
        ("network_weights = 3", "network_weights"),
        ("flip_aug = 1", "flip_aug"),
        ("max_token_length = 100", "max_token_length"),
        ("lr_scheduler = \"sine\"", "lr_scheduler"),
        ("seed = -1", "seed"),
        ("vae = { a = 1 }", "there is no option a"),
    ] {
        assert!(written(text).unwrap_err().contains(key), "{text}: {}", written(text).unwrap_err());
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    let message = written("seed = 1\nflip_aug = = true\n").unwrap_err();
    assert!(message.starts_with("search.toml, line 2: "), "{message}");
}

#[test]
fn negative_numbers_are_values_and_not_options() {
    for option in ["train_batch_size", "max_train_steps", "seed", "resolution", "max_timestep"] {
        let message = typed(&format!("--{option} -1")).unwrap_err();
        assert!(message.contains("invalid value '-1'") && message.contains(option), "{message}");
    }
    assert_eq!(typed("--learning_rate -0.1").unwrap().learning_rate, Some(-0.1));
}
