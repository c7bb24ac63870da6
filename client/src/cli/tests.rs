use super::*;
use clap::CommandFactory as _;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_groups_the_options_and_ends_with_examples() {
    let mut command = Cli::command();
    let search = command.find_subcommand_mut("search").unwrap();
    let help = search.render_help().to_string();
    for heading in ["Model:", "Networks:", "Data:", "Search:", "Loss:", "Device:", "Output:", "Examples:"] {
        assert!(help.contains(&format!("\n{heading}\n")), "no heading {heading} in\n{help}");
    }
    for option in ["--pretrained_model_name_or_path", "--network_weights", "--resume", "--overwrite", "--config_file"] {
        assert!(help.contains(option), "{option}");
    }
    let names: Vec<&str> = search.get_arguments().map(|argument| argument.get_id().as_str()).collect();
    assert!(names.iter().all(|name| !name.contains('-')), "{names:?}");
}

#[test]
fn what_clap_says_becomes_one_line() {
    for line in ["search --train_batch_size -1", "search --learning_rat 1", "nonsense", "search --resume --overwrite"] {
        let words = std::iter::once("lora-rates").chain(line.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err();
        let message = one_line(&error.to_string());
        assert!(!message.contains('\n') && !message.starts_with("error"), "{message}");
        assert!(message.ends_with("; see --help"), "{message}");
    }
}

#[test]
fn a_file_and_the_command_line_make_settings_together() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("search.toml");
    std::fs::write(&file, "[any]\npretrained_model_name_or_path = 'm'\nnetwork_weights = ['a', 'b']\nseed = 3\n")
        .unwrap();
    let words = ["lora-rates", "search", "--seed", "4", "--train_data_dir", "p", "--resume", "--config_file"];
    let words = words.into_iter().chain(file.to_str());
    let Command::Search(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another command") };
    let settings = args.settings().unwrap();
    assert_eq!((settings.seed, settings.networks.len(), settings.existing), (Some(4), 2, Existing::Resume));
    assert_eq!(settings.model, PathBuf::from("m"));
}
