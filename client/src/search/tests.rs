use super::differences::differences;
use super::existing::{Plan, plan};
use super::state::{Error, StateFolder};
use crate::failure::Failure;
use crate::settings::{Existing, Settings};
use lora_rates_common::block::BLOCKS;
use lora_rates_common::convert::SearchState;
use lora_rates_common::dataset::Image;
use lora_rates_common::dataset::buckets::{BucketOptions, Buckets};
use lora_rates_common::optimizer::State;
use lora_rates_common::spec::{ModelRef, NetworkRef, SearchSpec};
use lora_rates_coordinator::search::Search;
use lora_rates_coordinator::store::{Store, Stored};
use std::fs;

fn spec() -> SearchSpec {
    let network = |name: &str| NetworkRef {
        name: name.to_owned(),
        path: format!("/networks/{name}.safetensors").into(),
        sha256: "ab".repeat(32),
        live: [true; BLOCKS],
    };
    let image = |name: &str| Image {
        path: format!("/pictures/{name}.png").into(),
        sha256: "cd".repeat(32),
        caption: "a cat".to_owned(),
        size: (64, 64),
        repeats: 1,
        loss_weight: 1.0,
        fit: Buckets::new(&BucketOptions::default()).unwrap().fit(64, 64),
        held_out: false,
    };
    SearchSpec {
        model: ModelRef { path: "/model".into(), vae: None, digest: "ef".repeat(32) },
        networks: vec![network("a"), network("b")],
        images: vec![image("x"), image("y")],
        options: Settings::default().options,
        sampling: Default::default(),
    }
}

fn difference(change: impl FnOnce(&mut SearchSpec)) -> String {
    let mut new = spec();
    change(&mut new);
    differences(&spec(), &new).unwrap_or_default()
}

#[test]
fn equal_searches_have_no_differences() {
    assert_eq!(differences(&spec(), &spec()), None);
    assert_eq!(difference(|new| new.options.cache_dir = Some("/cache".into())), "");
}

#[test]
fn differences_name_the_option_with_both_values() {
    let learning_rate = difference(|new| new.options.learning_rate.learning_rate = 0.5);
    assert_eq!(learning_rate, "--learning_rate: 0.1 before, 0.5 now");
    let gamma = difference(|new| new.options.loss.min_snr_gamma = Some(5.0));
    assert_eq!(gamma, "--min_snr_gamma: not given before, 5.0 now");
    let decay = difference(|new| new.options.optimizer.weight_decay = 0.0);
    assert_eq!(decay, "--optimizer_args (weight_decay): 0.01 before, 0.0 now");
    assert!(difference(|new| new.options.optimizer.betas.1 = 0.5).starts_with("--optimizer_args (betas 2): 0.999"));
    let both = difference(|new| (new.options.seed, new.options.max_train_steps) = (7, 10));
    assert_eq!(both, "--max_train_steps: 1600 before, 10 now, --seed: 0 before, 7 now");
}

#[test]
fn differences_name_the_file_that_changed() {
    let caption = difference(|new| new.images[1].caption = "a dog".to_owned());
    assert_eq!(caption, "picture 2 (caption): a cat before, a dog now");
    assert!(difference(|new| new.networks[0].sha256 = "00".repeat(32)).contains("--network_weights, file 1 (sha256)"));
    assert!(difference(|new| new.networks.truncate(1)).contains("--network_weights: 2 before, 1 now"));
    assert!(difference(|new| new.images.clear()).contains("the number of pictures: 2 before, 0 now"));
    assert!(difference(|new| new.model.vae = Some("/v".into())).contains("--vae: not given before, /v now"));
    assert!(difference(|new| new.model.digest.clear()).contains("--pretrained_model_name_or_path (digest)"));
}

#[test]
fn many_differences_are_not_all_listed() {
    let message = difference(|new| {
        new.images.iter_mut().for_each(|image| {
            image.caption = "new".to_owned();
            image.repeats = 7;
            image.sha256.clear();
            image.size = (1, 2);
        });
    });
    assert!(message.ends_with(", and 4 more"), "{message}");
    assert!(!message.contains('\n'));
}

#[test]
fn a_state_folder_gives_back_what_it_was_made_with() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::new(folder.path(), "rates");
    assert!(state.stored().unwrap().is_none());
    state.create(&spec()).unwrap();
    assert_eq!(state.path(), folder.path().join("rates-state"));
    assert_eq!(state.stored().unwrap(), Some(spec()));
    fs::write(folder.path().join("kept"), "").unwrap();
    state.remove().unwrap();
    assert!(!state.path().exists());
    assert!(folder.path().join("kept").exists());
    state.remove().unwrap();
}

#[test]
fn a_folder_that_no_search_made_is_neither_used_nor_removed() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::new(folder.path(), "rates");
    fs::create_dir(state.path()).unwrap();
    assert!(state.stored().unwrap().is_none());
    fs::write(state.path().join("diary.txt"), "").unwrap();
    assert!(matches!(state.stored(), Err(Error::Foreign { .. })));
    assert!(matches!(state.remove(), Err(Error::Foreign { .. })));
    assert!(state.path().join("diary.txt").exists());
}

#[test]
fn a_damaged_specification_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::new(folder.path(), "rates");
    state.create(&spec()).unwrap();
    let file = state.path().join("search.json");
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let message = state.stored().unwrap_err().to_string();
    assert!(message.contains("search.json") && message.contains("--overwrite"), "{message}");
    state.remove().unwrap();
}

/// What is planned about a search that ended in this state after so many steps.
fn planned(left_as: SearchState, step: u64, existing: Existing) -> Result<Plan, String> {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::new(folder.path(), "rates");
    state.create(&spec()).unwrap();
    let spec = spec();
    let optimizer = State { step, ..Search::beginning(&spec) };
    let stored = Stored {
        number: 1,
        id: "a".to_owned(),
        name: String::new(),
        created_ms: 0,
        networks: spec.networks.clone().into(),
        request_id: spec.fingerprint(),
        fingerprint: spec.fingerprint(),
        max_train_steps: spec.options.max_train_steps,
        state: left_as,
        failure: Some("the disk is full".to_owned()),
        optimizer,
        best: None,
        conclusion: None,
    };
    Store::open(state.path()).unwrap().create(&stored, &spec).unwrap();
    plan(&state, existing).map_err(|failure| {
        assert!(matches!(failure, Failure::Usage(_)), "{failure}");
        failure.to_string()
    })
}

#[test]
fn a_failed_search_is_resumed_when_asked_for() {
    let refused = planned(SearchState::Failed, 3, Existing::Refuse).unwrap_err();
    for part in ["failed at step 3 of 1600 (the disk is full)", "--resume", "--overwrite"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(matches!(planned(SearchState::Failed, 3, Existing::Resume), Ok(Plan::GoOn(_))));
    assert!(matches!(planned(SearchState::Failed, 3, Existing::Overwrite), Ok(Plan::Replace)));
    // Nothing is lost with it.
    assert!(matches!(planned(SearchState::Failed, 0, Existing::Refuse), Ok(Plan::Replace)));
}

#[test]
fn a_cancelled_search_is_over_and_an_unfinished_one_goes_on() {
    for existing in [Existing::Refuse, Existing::Resume] {
        let refused = planned(SearchState::Cancelled, 3, existing).unwrap_err();
        assert!(refused.contains("was cancelled at step 3") && refused.contains("--overwrite"), "{refused}");
    }
    for state in [SearchState::Paused, SearchState::Running] {
        let refused = planned(state, 3, Existing::Refuse).unwrap_err();
        assert!(refused.contains("unfinished search, at step 3") && refused.contains("--resume"), "{refused}");
        assert!(matches!(planned(state, 3, Existing::Resume), Ok(Plan::GoOn(_))));
    }
    assert!(matches!(planned(SearchState::Finished, 9, Existing::Refuse), Ok(Plan::Replace)));
}
