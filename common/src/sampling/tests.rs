use super::*;
use std::fs;

const DEFAULTS: Defaults = Defaults { width: 64, height: 96, scale: 7.5, steps: 30 };

#[test]
fn a_line_is_a_prompt_and_what_it_says_of_it() {
    let plain = parse("a cat, sitting", DEFAULTS).unwrap();
    assert_eq!((plain.prompt.as_str(), plain.negative_prompt.as_str(), plain.seed), ("a cat, sitting", "", None));
    assert_eq!((plain.width, plain.height, plain.scale, plain.steps), (64, 96, 7.5, 30));
    let full = parse("a cat --n a dog, blurry --w 128 --h 32 --d 7 --l 2.5 --S 4", DEFAULTS).unwrap();
    assert_eq!((full.prompt.as_str(), full.negative_prompt.as_str(), full.seed), ("a cat", "a dog, blurry", Some(7)));
    assert_eq!((full.width, full.height, full.scale, full.steps), (128, 32, 2.5, 4));
    assert_eq!(full.latent(), (4, 16));
    assert_eq!(full.time_ids(), [32.0, 128.0, 0.0, 0.0, 32.0, 128.0]);
    // Dashes within words are no options.
    assert_eq!(parse("a well--known cat", DEFAULTS).unwrap().prompt, "a well--known cat");
}

#[test]
fn what_a_line_can_not_mean_is_named() {
    for (line, part) in [
        ("a cat --x 3", "no option --x"),
        ("a cat --cn picture.png", "no option --cn"),
        ("a cat --ss ddim", "more samplers come later"),
        ("a cat --w wide", "--w \"wide\""),
        ("a cat --d", "--d \"\""),
        ("a cat --d -1", "--d \"-1\""),
        ("a cat --w 100", "width is 100; it must be a multiple of 32"),
        ("a cat --h 8192", "height is 8192"),
        ("a cat --l NaN", "scale is NaN"),
        ("a cat --l -1", "scale is -1"),
        ("a cat --s 0", "steps is 0"),
        ("a cat --s 1000", "steps is 1000"),
        ("--n a dog", "no prompt"),
    ] {
        let said = parse(line, DEFAULTS).unwrap_err();
        assert!(said.contains(part), "{line}: {said}");
    }
}

#[test]
fn a_file_has_comments_and_empty_lines_and_errors_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompts.txt");
    fs::write(&path, "\u{feff}# two of them\n\na cat\r\n  a dog --d 3  \n# the end").unwrap();
    let found = read(&path, DEFAULTS).unwrap();
    assert_eq!(
        found.iter().map(|it| (it.prompt.as_str(), it.seed)).collect::<Vec<_>>(),
        [("a cat", None), ("a dog", Some(3))]
    );
    let refused = |name: &str, bytes: &[u8], part: &str| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let said = read(&path, DEFAULTS).unwrap_err().to_string();
        assert!(said.contains(name) && said.contains(part) && !said.contains('\n'), "{said}");
    };
    refused("a.txt", b"a cat\n# no\na dog --z 1", "line 3: there is no option --z");
    refused("b.txt", b"# nothing\n", "has no prompt");
    refused("c.txt", b"\xff\xfe", "no text file");
    refused("d.TOML", b"[prompt]", ".toml file of prompts");
    refused("e.json", b"[]", "write a prompt a line into a .txt file");
    refused("f.txt", "a cat\n".repeat(MAX_PROMPTS + 1).as_bytes(), "257 prompts");
    let said = read(&folder.path().join("nowhere.txt"), DEFAULTS).unwrap_err().to_string();
    assert!(said.contains("nowhere.txt") && said.contains("--sample_prompts"), "{said}");
}

#[test]
fn pictures_are_due_at_the_beginning_every_so_many_steps_and_at_the_end() {
    let prompts = vec![parse("a cat", DEFAULTS).unwrap()];
    let due = |options: &Options| (0..=10).filter(|step| options.is_due(*step, *step == 10)).collect::<Vec<_>>();
    let only = Options { prompts, ..Options::default() };
    assert_eq!(due(&only), [10]);
    assert_eq!(due(&Options { at_first: true, ..only.clone() }), [0, 10]);
    assert_eq!(due(&Options { every_n_steps: 4, ..only.clone() }), [4, 8, 10]);
    let nothing = Options { prompts: Vec::new(), every_n_steps: 4, at_first: true };
    assert!(due(&nothing).is_empty());
    assert_eq!(nothing.validate(), Err(Error::NoPrompts));
    assert_eq!((only.validate(), Options::default().validate()), (Ok(()), Ok(())));
}

#[test]
fn the_course_is_that_of_sdxl_with_leading_timesteps() {
    let euler = Euler::new(4).unwrap();
    assert_eq!(euler.timesteps(), [751, 501, 251, 1]);
    assert_eq!(euler.sigmas().len(), 5);
    assert_eq!(euler.sigmas().last(), Some(&0.0));
    assert!(euler.sigmas().is_sorted_by(|a, b| a > b));
    // diffusers' first timestep of the usual thirty, and the sigma there.
    let usual = Euler::new(30).unwrap();
    assert_eq!((usual.timesteps()[0], usual.timesteps()[29]), (958, 1));
    assert_eq!(Euler::new(999).unwrap().timesteps()[0], 999);
    assert!(Euler::new(0).is_err() && Euler::new(1000).is_err());
}

#[test]
fn a_perfect_prediction_of_noise_or_velocity_leads_straight_to_the_picture() {
    for velocity in [false, true] {
        let euler = Euler::new(10).unwrap();
        let (picture, noise) = (0.3_f64, -1.2_f64);
        let mut x = [(picture + f64::from(euler.sigmas()[0]) * noise) as f32];
        for (step, sigma) in euler.sigmas().iter().take(10).enumerate() {
            let sigma = f64::from(*sigma);
            let signal = (sigma * sigma + 1.0).sqrt().recip();
            let output = if velocity { signal * noise - sigma * signal * picture } else { noise };
            assert!((f64::from(euler.shown(step, &x)[0]) - signal * f64::from(x[0])).abs() < 1e-6);
            euler.step(step, &mut x, &[output as f32], velocity);
        }
        assert!((f64::from(x[0]) - picture).abs() < 1e-4, "velocity {velocity}: {}", x[0]);
    }
}

#[test]
fn guidance_goes_from_the_negative_through_the_positive() {
    let both = [1.0, 2.0, 3.0, 0.0];
    assert_eq!(guided(&both, 0.0), [1.0, 2.0]);
    assert_eq!(guided(&both, 1.0), [3.0, 0.0]);
    assert_eq!(guided(&both, 2.0), [5.0, -2.0]);
}

#[test]
fn a_seed_of_its_own_makes_a_prompts_noise_and_else_the_searchs() {
    let own = parse("a cat --d 5", DEFAULTS).unwrap();
    let open = parse("a cat", DEFAULTS).unwrap();
    assert_eq!(own.noise(4, 1), own.noise(4, 2));
    assert_eq!(open.noise(4, 5), own.noise(4, 1));
    assert_ne!(open.noise(4, 1), open.noise(4, 2));
    assert_eq!(open.noise(4, 1).len(), 4 * 12 * 8);
}
