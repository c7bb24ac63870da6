use super::*;
use lora_rates_test_support::fixture;
use serde_json::Value;

/// Options and number of updates as `schedule/learning_rate.json` names them.
fn golden_schedule(name: &str, entry: &Value) -> Schedule {
    let told = &entry["options"];
    let shape = name.strip_suffix("_no_warmup").unwrap_or(name);
    let options = Options {
        learning_rate: entry["base_lr"].as_f64().unwrap(),
        lr_scheduler: shape.parse().unwrap(),
        lr_warmup_steps: told["num_warmup_steps"].as_u64().unwrap_or(0),
        lr_scheduler_num_cycles: told["num_cycles"].as_u64().unwrap_or(1).try_into().unwrap(),
        lr_scheduler_power: told["power"].as_f64().unwrap_or(1.0),
    };
    Schedule::new(&options, told["num_training_steps"].as_u64().unwrap_or(20)).unwrap()
}

#[test]
fn every_schedule_gives_the_learning_rates_of_diffusers() {
    let text = std::fs::read_to_string(fixture("schedule/learning_rate.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let golden = golden.as_object().unwrap();
    assert_eq!(golden.len(), 7);
    for (name, entry) in golden {
        let schedule = golden_schedule(name, entry);
        let expected = entry["lr_of_update"].as_array().unwrap();
        assert_eq!(expected.len(), 24);
        for (update, expected) in (0..).zip(expected) {
            let (ours, theirs) = (schedule.rate(update), expected.as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-16, "{name}, update {update}: {ours} for {theirs}");
        }
    }
}

#[test]
fn names_are_the_references_in_text_and_in_files() {
    for scheduler in LrScheduler::ALL {
        assert_eq!(scheduler.to_string().parse(), Ok(scheduler));
        assert_eq!(serde_json::to_value(scheduler).unwrap(), scheduler.name());
    }
    let error = "adafactor".parse::<LrScheduler>().unwrap_err();
    assert!(error.to_string().contains("cosine_with_restarts"), "{error}");
    assert!(serde_json::from_str::<Options>(r#"{"lr_warmup": 3}"#).is_err());
    assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let refused = |change: &dyn Fn(&mut Options), total| {
        let mut options = Options { lr_scheduler: LrScheduler::Linear, ..Options::default() };
        change(&mut options);
        Schedule::new(&options, total).unwrap_err()
    };
    assert_eq!(refused(&|_| (), 0), Error::NoUpdates);
    assert_eq!(refused(&|o| o.lr_warmup_steps = 5, 5), Error::EndlessWarmup { warmup: 5, total: 5 });
    assert_eq!(refused(&|o| o.lr_scheduler_num_cycles = 0, 5), Error::NoCycles);
    assert_eq!(refused(&|o| o.lr_scheduler_power = -1.0, 5), Error::Power(-1.0));
    assert_eq!(refused(&|o| o.learning_rate = 0.0, 5), Error::LearningRate(0.0));
    assert!(matches!(refused(&|o| o.learning_rate = f64::NAN, 5), Error::LearningRate(_)));
    let needless = |o: &mut Options| (o.lr_scheduler, o.lr_warmup_steps) = (LrScheduler::Constant, 2);
    assert_eq!(refused(&needless, 5), Error::NeedlessWarmup(2));
    let tiny = |o: &mut Options| (o.lr_scheduler, o.learning_rate) = (LrScheduler::Polynomial, 1e-8);
    assert_eq!(refused(&tiny, 5), Error::BelowPolynomialEnd(1e-8));
}

#[test]
fn updates_far_past_the_end_are_still_defined() {
    for lr_scheduler in LrScheduler::ALL {
        let schedule = Schedule::new(&Options { lr_scheduler, ..Options::default() }, 3).unwrap();
        for update in [3, 4, u64::MAX] {
            assert!((0.0..=0.1).contains(&schedule.rate(update)), "{lr_scheduler} {update}");
        }
    }
}
