use super::*;
use lora_rates_test_support::fixture;
use serde_json::Value;
use std::time::{Duration, Instant};

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("tokens/prompts.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    golden["cases"].as_array().unwrap().clone()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn rows_of(value: &Value) -> Vec<[u32; ROW]> {
    let rows: Vec<Vec<u32>> = serde_json::from_value(value.clone()).unwrap();
    rows.into_iter().map(|row| row.try_into().unwrap()).collect()
}

#[test]
fn ids_of_every_text_are_clips() {
    let tokenizers = Tokenizers::new().unwrap();
    assert!(cases().len() > 40);
    for case in cases() {
        let text = case["text"].as_str().unwrap();
        let expected = ids(case.get("hf_fast_ids").unwrap_or(&case["ids"]));
        assert_eq!(bpe::ids(&tokenizers.model, text).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizers.count(text).unwrap(), expected.len());
    }
}

#[test]
fn rows_of_every_text_are_the_references_at_every_length() {
    let tokenizers = Tokenizers::new().unwrap();
    for case in cases().iter().filter(|case| case.get("hf_fast_ids").is_none()) {
        let text = case["text"].as_str().unwrap();
        for (length, name) in [(TokenLength::T75, "77"), (TokenLength::T150, "150"), (TokenLength::T225, "225")] {
            let tokens = tokenizers.encode(text, length).unwrap();
            assert_eq!(tokens.clip_l, rows_of(&case[&format!("clip_l_{name}")]), "{text:?} {name}");
            assert_eq!(tokens.clip_g, rows_of(&case[&format!("clip_g_{name}")]), "{text:?} {name}");
        }
    }
}

/// The rules on bare ids, where a real 0 is taken for padding.
#[test]
fn rows_of_odd_ids_are_the_references_too() {
    let text = std::fs::read_to_string(fixture("tokens/prompts.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let cases = golden["id_level"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let given = ids(&case["ids"]);
        for (length, name) in [(TokenLength::T75, "77"), (TokenLength::T150, "150"), (TokenLength::T225, "225")] {
            if let Some(expected) = case.get(format!("clip_l_{name}")) {
                assert_eq!(rows::clip_l(&given, length), rows_of(expected), "{name}");
            }
            if let Some(expected) = case.get(format!("clip_g_{name}")) {
                assert_eq!(rows::clip_g(&given, length), rows_of(expected), "{name}");
            }
        }
    }
}

#[test]
fn marks_written_in_a_text_are_marks_in_capitals_too() {
    let tokenizers = Tokenizers::new().unwrap();
    assert_eq!(bpe::ids(&tokenizers.model, "<|ENDOFTEXT|> cat<|startoftext|>").unwrap(), [END, 2368, START]);
}

#[test]
fn a_caption_of_a_hundred_kilobytes_is_cut_quickly() {
    let tokenizers = Tokenizers::new().unwrap();
    let started = Instant::now();
    let words = "a cat, ".repeat(15_000);
    assert_eq!(tokenizers.count(&words).unwrap(), 45_000);
    for text in [words, "a".repeat(100_000), "\u{301}".repeat(50_000), "!".repeat(100_000), "\u{1F600}".repeat(25_000)]
    {
        let tokens = tokenizers.encode(&text, TokenLength::T225).unwrap();
        let last = tokens.clip_g.last().unwrap();
        assert_eq!((tokens.clip_l.len(), last[0], last[ROW - 1]), (3, START, END));
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn only_the_three_lengths_are_lengths() {
    for (text, length) in [("75", TokenLength::T75), ("150", TokenLength::T150), ("225", TokenLength::T225)] {
        assert_eq!(text.parse::<TokenLength>().unwrap(), length);
        assert_eq!(length.to_string(), text);
        assert_eq!(serde_json::to_string(&length).unwrap(), text);
        assert_eq!(serde_json::from_str::<TokenLength>(text).unwrap(), length);
    }
    assert!(TokenLength::try_from(77).is_err());
    assert!(serde_json::from_str::<TokenLength>("77").is_err());
    assert!("long".parse::<TokenLength>().unwrap_err().to_string().contains("75, 150 or 225"));
}
