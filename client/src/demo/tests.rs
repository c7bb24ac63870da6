use super::*;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

#[test]
fn the_command_that_is_shown_names_the_files_that_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = Line::parse_from(["demo", "--output_dir", &folder.path().display().to_string()]).args;
    let world = World::below(&args.output_dir);
    world.write(false).expect("the files can be written");
    let settings = command::settings(&command::arguments(&args, &world)).expect("the options make sense");
    for path in settings.networks.iter().chain([&settings.model, &settings.dataset.train_data_dir]) {
        assert!(path.exists(), "{}", path.display());
    }
}
