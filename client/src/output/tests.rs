use super::report::{Report, StepReport};
use super::{NetworkRates, Subject, Validations, block_weight, table, weights};
use lora_rates_common::block::{BLOCKS, NAMES};
use lora_rates_common::spec::{ModelRef, NetworkRef, SearchSpec};
use lora_rates_common::tensor_file::TensorFile;
use std::path::PathBuf;

/// A network with modules in these blocks.
fn network(name: &str, blocks: &[&str]) -> NetworkRef {
    let mut live = [false; BLOCKS];
    live.iter_mut().zip(NAMES).for_each(|(live, block)| *live = blocks.contains(&block));
    NetworkRef { name: name.to_owned(), path: PathBuf::from(format!("/{name}")), sha256: "ab".repeat(32), live }
}

/// Rates of 0, 0.1, 0.2, ...
fn rates(count: usize) -> Vec<f64> {
    (0..count).map(|place| place as f64 / 10.0).collect()
}

fn spec(networks: Vec<NetworkRef>) -> SearchSpec {
    let model = ModelRef { path: "/model".into(), vae: None, digest: "cd".repeat(32) };
    let options = crate::settings::Settings::default().options;
    SearchSpec { model, networks, images: Vec::new(), options, sampling: Default::default() }
}

#[test]
fn the_table_has_a_row_for_each_network_and_a_column_for_each_block() {
    let networks = [network("a", &["BASE", "OUT08"]), network("a_name_that_is_long_enough_to_cut", &["MID"])];
    let text = table::table(&NetworkRates::of(&networks, &rates(40)), None);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), NAMES);
    let first: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!((first.len(), first[0], first[1], first[2], first[20]), (21, "a", "0.000", "-", "1.900"));
    assert!(lines[2].starts_with("a_name_that_is_… "), "{}", lines[2]);
    assert_eq!(lines[2].split_whitespace().nth(11), Some("3.000"));
    assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()));
}

#[test]
fn a_narrow_terminal_gets_several_tables() {
    let networks = [network("a", &["BASE", "OUT08"]), network("b", &["MID"])];
    let networks = NetworkRates::of(&networks, &rates(40));
    for width in [1, 20, 80, 100, 140] {
        let text = table::table(&networks, Some(width));
        let lines: Vec<&str> = text.lines().collect();
        assert!(width < 20 || lines.iter().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        let headings: Vec<&str> = lines.iter().step_by(3).flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(headings, NAMES, "{width}");
        assert_eq!(text.matches("1.900").count(), 1);
    }
    assert_eq!(table::table(&networks, Some(80)).lines().count(), 6);
}

#[test]
fn without_the_files_a_rate_of_exactly_zero_is_a_slot_without_modules() {
    let subject = Subject::named([("a".to_owned(), "ab".repeat(32))], 7);
    let mut values = [0.0; BLOCKS];
    (values[0], values[5]) = (0.25, -0.5);
    let report = Report::new(&subject, true, &values, Vec::new(), &Validations::default());
    assert_eq!(report.networks[0].rates["BASE"], Some(0.25));
    assert_eq!(report.networks[0].rates["IN00"], None);
    assert_eq!(report.networks[0].block_weight.split(',').count(), 12);
    assert_eq!((report.fingerprint, report.settings, report.images.len()), (None, None, 0));
}

#[test]
fn a_network_on_transformers_alone_gets_twelve_values() {
    let networks = [network("style", &["IN04", "IN05", "MID", "OUT05"])];
    let rates = NetworkRates::of(&networks, &rates(20));
    let line = block_weight::preset(&rates[0]);
    assert_eq!(line, "style:0.000,0.500,0.600,0.000,0.000,1.000,0.000,0.000,0.000,0.000,0.000,1.600");
}

#[test]
fn a_network_with_a_module_elsewhere_gets_twenty_values() {
    for block in ["IN00", "IN03", "IN06", "OUT06", "OUT08"] {
        let networks = [network("style", &["IN04", block])];
        let values = block_weight::values(&NetworkRates::of(&networks, &rates(20))[0]);
        let values: Vec<&str> = values.split(',').collect();
        assert_eq!(values.len(), 20);
        let place = NAMES.iter().position(|name| *name == block).unwrap();
        assert_eq!(values[place], format!("{:.3}", place as f64 / 10.0));
    }
}

#[test]
fn a_name_can_not_break_the_line_that_it_stands_in() {
    let networks = [network("a:b,c\nd", &["MID"])];
    let line = block_weight::preset(&NetworkRates::of(&networks, &rates(20))[0]);
    assert!(line.starts_with("a_b_c_d:0.000,"), "{line}");
}

#[test]
fn the_references_line_has_all_rates_and_no_negative_zero() {
    let networks = [network("a", &["BASE"])];
    let rates: Vec<f64> = (0..20).map(|place| if place == 1 { -1e-5 } else { -0.5 }).collect();
    let line = block_weight::reference_line(0, &NetworkRates::of(&networks, &rates)[0]);
    assert!(line.starts_with("Network 0 weights: -0.500,0.000,-0.500,"), "{line}");
    assert_eq!(line.split(',').count(), 20);
}

#[test]
fn the_file_of_weights_is_one_f32_tensor_as_the_reference_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rates.safetensors");
    weights::save(&path, &rates(40)).unwrap();
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["weights"]);
    let tensor = file.get("weights").unwrap();
    assert_eq!(tensor.shape, [40]);
    let expected: Vec<f32> = rates(40).into_iter().map(|rate| rate as f32).collect();
    assert_eq!(tensor.to_f32().unwrap(), expected);
}

#[test]
fn the_report_reads_back_with_rates_by_network_and_block() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rates.json");
    let spec = spec(vec![network("a", &["BASE"]), network("b", &["MID", "OUT00"])]);
    let step = StepReport { step: 1, loss: 0.1 + 0.2, penalty: 10.0, learning_rate: 0.1, gradient_norm: 1e-300 };
    let report = Report::new(&spec.into(), false, &rates(40), vec![step], &Validations::default());
    report.save(&path).unwrap();

    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["finished"], false);
    assert_eq!(value["step"], 1);
    assert_eq!(value["networks"][0]["rates"]["BASE"], 0.0);
    assert_eq!(value["networks"][0]["rates"]["MID"], serde_json::Value::Null);
    assert_eq!(value["networks"][1]["rates"]["OUT00"], 3.1);
    assert_eq!(value["networks"][1]["sha256"], "ab".repeat(32));
    assert_eq!(value["settings"]["max_train_steps"], 1600);
    assert_eq!(value["history"][0]["loss"], 0.1 + 0.2);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "a partial file is left behind");
}
