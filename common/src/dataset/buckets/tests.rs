use super::*;
use serde_json::Value;

fn golden() -> Value {
    let path = lora_rates_test_support::fixture("buckets/buckets.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn pair(value: &Value) -> (u32, u32) {
    serde_json::from_value(value.clone()).unwrap()
}

fn numbers(value: &Value) -> [f32; 6] {
    serde_json::from_value(value.clone()).unwrap()
}

fn golden_options(setup: &Value) -> BucketOptions {
    let options = &setup["options"];
    let number = |name: &str| options[name].as_u64().unwrap() as u32;
    BucketOptions {
        resolution: pair(&options["max_reso"]),
        enable: true,
        min: number("min"),
        max: number("max"),
        step: number("step"),
        no_upscale: options["no_upscale"].as_bool().unwrap(),
    }
}

#[test]
fn every_golden_setup_has_its_buckets() {
    let golden = golden();
    assert_eq!(golden.as_object().unwrap().len(), 6);
    for (name, setup) in golden.as_object().unwrap() {
        let buckets = Buckets::new(&golden_options(setup)).unwrap();
        let expected: Option<Vec<(u32, u32)>> = serde_json::from_value(setup["all_buckets"].clone()).unwrap();
        assert_eq!(buckets.all(), expected.unwrap_or_default(), "{name}");
    }
}

#[test]
fn every_golden_picture_fits_to_the_pixel() {
    let mut compared = 0;
    for (name, setup) in golden().as_object().unwrap() {
        let buckets = Buckets::new(&golden_options(setup)).unwrap();
        for expected in setup["images"].as_array().unwrap() {
            let image = pair(&expected["image"]);
            let fit = buckets.fit(image.0, image.1);
            let what = format!("{name} {image:?}");
            assert_eq!(fit.bucket, pair(&expected["bucket"]), "{what}");
            assert_eq!(fit.resized, pair(&expected["resized"]), "{what}");
            let cut = (fit.cut.0, fit.cut.1, fit.cut.0 + fit.bucket.0, fit.cut.1 + fit.bucket.1);
            assert_eq!(serde_json::json!(cut), expected["cut"], "{what}");
            assert_eq!(fit.time_ids(image, false), numbers(&expected["time_ids"]), "{what}");
            assert_eq!(fit.time_ids(image, true), numbers(&expected["time_ids_flipped"]), "{what}");
            compared += 1;
        }
    }
    assert_eq!(compared, 6 * 64);
}

#[test]
fn without_buckets_every_picture_is_cut_to_the_resolution() {
    let options = BucketOptions { resolution: (1024, 768), enable: false, ..Default::default() };
    let buckets = Buckets::new(&options).unwrap();
    assert_eq!(buckets.all(), [(1024, 768)]);
    let fit = buckets.fit(1000, 1000);
    assert_eq!((fit.bucket, fit.resized, fit.cut), ((1024, 768), (1024, 1024), (0, 128)));
    // Whole and upright inside 1024 x 768 the picture is 768 wide, with 128 on either side.
    assert_eq!(fit.crop, (0, 128));
}

#[test]
fn pictures_of_any_size_are_covered_by_a_bucket_the_model_can_compute() {
    let setups = [
        BucketOptions::default(),
        BucketOptions { enable: false, ..Default::default() },
        BucketOptions { no_upscale: true, ..Default::default() },
        BucketOptions { no_upscale: true, step: 32, resolution: (64, 96), ..Default::default() },
        BucketOptions { resolution: (MAX_SIDE, MAX_SIDE), max: MAX_SIDE, step: 32, min: 32, ..Default::default() },
    ];
    let edges = [0, 1, 2, 31, 63, 64, 65, 1023, 1024, 5000, 16384, 65535, 1 << 24, u32::MAX - 1, u32::MAX];
    let sizes: Vec<u32> = edges.into_iter().chain((1..3000).step_by(97)).collect();
    for options in setups {
        let buckets = Buckets::new(&options).unwrap();
        for &width in &sizes {
            for &height in &sizes {
                let fit = buckets.fit(width, height);
                let sides = [(fit.bucket.0, fit.resized.0, fit.cut.0), (fit.bucket.1, fit.resized.1, fit.cut.1)];
                for (bucket, resized, cut) in sides {
                    assert!(bucket > 0 && bucket % MULTIPLE == 0 && bucket <= MAX_SIDE, "{width}x{height} {fit:?}");
                    assert!(u64::from(cut) + u64::from(bucket) <= u64::from(resized), "{width}x{height} {fit:?}");
                }
                assert!(fit.time_ids((width, height), true).iter().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn no_upscale_never_enlarges_a_picture_that_holds_a_bucket() {
    let buckets = Buckets::new(&BucketOptions { no_upscale: true, ..Default::default() }).unwrap();
    for width in (64..4000).step_by(37) {
        for height in (64..4000).step_by(41) {
            let fit = buckets.fit(width, height);
            if fit.resized.0 > width || fit.resized.1 > height {
                // Only where shrinking to the area leaves less than a step of the short side.
                assert!(fit.bucket.0.min(fit.bucket.1) == 64, "{width}x{height} {fit:?}");
            }
        }
    }
}

#[test]
fn options_that_allow_no_computable_size_are_refused() {
    let refused = |change: fn(&mut BucketOptions)| {
        let mut options = BucketOptions::default();
        change(&mut options);
        Buckets::new(&options).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(|o| o.resolution = (0, 1024)), Error::Resolution(0, 1024));
    assert_eq!(refused(|o| o.resolution = (1024, 20000)), Error::Resolution(1024, 20000));
    assert_eq!(refused(|o| o.step = 0), Error::Step(0));
    assert_eq!(refused(|o| o.step = 8), Error::Step(8));
    assert_eq!(refused(|o| o.step = 2048), Error::StepOverResolution(2048, 1024));
    assert_eq!(refused(|o| o.min = 0), Error::Bound("min", 0, 64));
    assert_eq!(refused(|o| o.min = 300), Error::Bound("min", 300, 64));
    assert_eq!(refused(|o| o.max = 1000), Error::Bound("max", 1000, 64));
    assert_eq!(refused(|o| o.max = 1 << 20), Error::Bound("max", 1 << 20, 64));
    assert!(matches!(refused(|o| o.max = 512), Error::Range { max: 512, .. }));
    assert!(matches!(refused(|o| o.min = 1088), Error::Range { min: 1088, .. }));
    let off = refused(|o| (o.enable, o.resolution) = (false, (1000, 1024)));
    assert_eq!(off, Error::FixedResolution(1000, 1024));
}

#[test]
fn options_are_read_with_defaults_and_without_unknown_keys() {
    let options: BucketOptions = serde_json::from_str(r#"{"step": 32}"#).unwrap();
    assert_eq!(options, BucketOptions { step: 32, ..Default::default() });
    assert!(serde_json::from_str::<BucketOptions>(r#"{"steps": 32}"#).is_err());
}
