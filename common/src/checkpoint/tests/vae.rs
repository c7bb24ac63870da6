use super::*;

const PREFIX: &str = "first_stage_model.";

/// The tiny checkpoint's VAE with every weight halved, as a file whose names `rename` makes of the original ones.
fn other_vae(folder: &TempDir, rename: impl Fn(&str) -> String) -> PathBuf {
    let path = folder.path().join("other.safetensors");
    rewrite(&tiny_single(), &path, |tensors| {
        tensors.retain(|tensor| tensor.name.starts_with(PREFIX));
        for tensor in tensors {
            tensor.name = rename(&tensor.name[PREFIX.len()..]);
            for number in tensor.data.to_mut().as_chunks_mut::<2>().0 {
                *number = half::f16::from_f32(half::f16::from_le_bytes(*number).to_f32() / 2.0).to_le_bytes();
            }
        }
    });
    path
}

fn assert_is_other_vae(path: &Path, vae: &Path) {
    let before = Checkpoint::open(path).unwrap();
    let after = Checkpoint::open(path).unwrap().with_vae(vae).unwrap();
    assert_eq!(before.config(), after.config());
    for spec in layout::tensors(before.config()) {
        let [before, after] = [&before, &after].map(|model| model.tensor(&spec.name).unwrap().to_f32().unwrap());
        let factor = if spec.name.starts_with("vae.") { 0.5 } else { 1.0 };
        assert!(before.iter().zip(&after).all(|(before, after)| before * factor == *after), "{}", spec.name);
    }
}

#[test]
fn the_vae_of_a_file_replaces_that_of_both_layouts_whatever_its_names() {
    let config = Checkpoint::open(&tiny_single()).unwrap().config().vae.clone();
    let diffusers = |name: &str| crate::sdxl::names::vae_to_diffusers(name, &config).unwrap();
    let renames: [&dyn Fn(&str) -> String; 3] = [&str::to_owned, &|name| format!("{PREFIX}{name}"), &diffusers];
    for rename in renames {
        let folder = tempfile::tempdir().unwrap();
        let vae = other_vae(&folder, rename);
        for checkpoint in [tiny_single(), tiny_diffusers()] {
            assert_is_other_vae(&checkpoint, &vae);
        }
    }
}

#[test]
fn the_vae_of_a_folder_replaces_the_own_one_and_its_file() {
    let own = tiny_diffusers();
    for vae in [own.clone(), own.join("vae")] {
        let checkpoint = Checkpoint::open(&own).unwrap().with_vae(&vae).unwrap();
        assert_same_tensors(&checkpoint, &Checkpoint::open(&tiny_single()).unwrap());
        assert_eq!(checkpoint.files().len(), 4, "the old VAE's file is still there");
    }
    let both = Checkpoint::open(&tiny_single()).unwrap().with_vae(&own).unwrap();
    let vae = own.join("vae/diffusion_pytorch_model.safetensors");
    assert_eq!(both.files(), [tiny_single(), vae]);
}

#[test]
fn a_whole_checkpoint_can_lend_its_vae() {
    let checkpoint = Checkpoint::open(&tiny_diffusers()).unwrap().with_vae(&tiny_single()).unwrap();
    assert_same_tensors(&checkpoint, &Checkpoint::open(&tiny_single()).unwrap());
    let distinct: BTreeSet<_> = checkpoint.files().into_iter().collect();
    assert_eq!(distinct.len(), 4);
}

#[test]
fn a_checkpoint_without_a_vae_opens_with_another() {
    let (_folder, path) = single_with(|tensors| tensors.retain(|tensor| !tensor.name.starts_with(PREFIX)));
    let checkpoint = Checkpoint::open_with_vae(&path, &tiny_diffusers()).unwrap();
    assert_same_tensors(&checkpoint, &Checkpoint::open(&tiny_single()).unwrap());
}

#[test]
fn what_is_no_vae_or_a_broken_one_is_refused_by_name() {
    let open = |vae: &Path| one_line(Checkpoint::open(&tiny_single()).unwrap().with_vae(vae));
    let network = lora_rates_test_support::fixture("lora/L1_attention.safetensors");
    assert_has(&open(&network), &["L1_attention.safetensors is no VAE"]);
    let folder = tempfile::tempdir().unwrap();
    assert_has(&open(folder.path()), &["holds no diffusion_pytorch_model.safetensors"]);
    let vae = other_vae(&folder, |name| name.replace("decoder.conv_out.bias", "decoder.conv_out.tilt"));
    assert_has(&open(&vae), &["other.safetensors", "vae.decoder.conv_out.bias is missing", "1 more tensor is wrong"]);
}

#[test]
fn a_vae_that_states_another_scale_is_refused() {
    let folder = folder_copy();
    let config = folder.path().join("vae/config.json");
    fs::write(&config, r#"{"scaling_factor": 0.18215}"#).unwrap();
    assert_has(&refusal(folder.path()), &["vae/config.json", "0.18215", "0.13025"]);
    fs::write(&config, "{}").unwrap();
    Checkpoint::open(folder.path()).unwrap();
}
