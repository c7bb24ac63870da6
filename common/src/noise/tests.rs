use super::*;
use std::collections::HashSet;

fn key(seed: u64, step: u64, sample: u64) -> Key {
    Key { seed, step, sample }
}

/// These numbers decide every search's results: when this fails after an upgrade, the upgrade changed the stream.
#[test]
fn the_streams_are_the_ones_that_results_were_made_with() {
    let key = key(42, 7, 3);
    assert_eq!(latent_noise(key, 4), [0.4316472, -0.0741805, 2.2211149, -0.021360634]);
    assert_eq!(posterior_noise(key, 2), [0.19698237, -0.22647403]);
    assert_eq!(noise_offset(key, 2, 1.0), [0.4583909, 0.14409102]);
    assert_eq!([timestep(key, 0, 1000), timestep(key, 100, 900)], [300, 340]);
    let flips: Vec<_> = (0..16).map(|sample| u8::from(flip(Key { sample, ..key }))).collect();
    assert_eq!(flips, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1]);
    let mut order = [0, 1, 2, 3, 4, 5, 6, 7];
    shuffle(key, &mut order);
    assert_eq!(order, [5, 6, 0, 4, 3, 1, 2, 7]);
}

#[test]
fn a_draw_depends_on_its_key_alone_and_a_shorter_one_is_its_beginning() {
    let first = latent_noise(key(1, 2, 3), 64);
    let _ = latent_noise(key(9, 9, 9), 1000);
    let _ = timestep(key(1, 2, 3), 0, 1000);
    assert_eq!(latent_noise(key(1, 2, 3), 64), first);
    assert_eq!(latent_noise(key(1, 2, 3), 10), first[..10]);
}

#[test]
fn every_part_of_the_key_and_every_domain_makes_another_stream() {
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    let mut seen = HashSet::new();
    for place in 0..3 {
        for value in [1, 2, 1 << 32, u64::MAX] {
            let mut words = [0; 3];
            words[place] = value;
            let [seed, step, sample] = words;
            let key = key(seed, step, sample);
            for draw in [latent_noise(key, 8), posterior_noise(key, 8), noise_offset(key, 8, 1.0)] {
                assert!(seen.insert(bits(draw)), "{key:?}");
            }
        }
    }
}

#[test]
fn noise_is_standard_normal() {
    let count = 64 * 4096;
    let values: Vec<f64> = (0..64).flat_map(|sample| latent_noise(key(5, 0, sample), 4096)).map(f64::from).collect();
    let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / f64::from(count);
    // Five standard errors of each: 1, sqrt 2, sqrt 15 and sqrt 96 over sqrt count.
    let error = 5.0 / f64::from(count).sqrt();
    assert!(moment(1).abs() < error, "mean {}", moment(1));
    assert!((moment(2) - 1.0).abs() < error * 2.0_f64.sqrt(), "variance {}", moment(2));
    assert!(moment(3).abs() < error * 15.0_f64.sqrt(), "skew {}", moment(3));
    assert!((moment(4) - 3.0).abs() < error * 96.0_f64.sqrt(), "kurtosis {}", moment(4));
    let neighbours = values.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / f64::from(count);
    assert!(neighbours.abs() < error, "correlation {neighbours}");
}

#[test]
fn timesteps_are_uniform_and_within_their_range() {
    let (min, max, draws) = (100, 900, 80_000);
    let mut counts = [0_u32; 80];
    for step in 0..draws {
        let t = timestep(key(11, step, 4), min, max);
        assert!((min..max).contains(&t));
        counts[((t - min) / 10) as usize] += 1;
    }
    let expected = draws as f64 / 80.0;
    let chi_square: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum();
    // 79 degrees of freedom: five standard deviations about the mean.
    assert!((79.0 - 63.0..79.0 + 63.0).contains(&chi_square), "{chi_square}");
    assert_eq!(timestep(key(1, 1, 1), 7, 8), 7);
    assert_eq!(timestep(key(1, 1, 1), 9, 9), 9);
}

#[test]
fn half_of_the_samples_are_flipped() {
    let flipped = (0..10_000).filter(|&sample| flip(key(3, 0, sample))).count();
    assert!((4750..5250).contains(&flipped), "{flipped}");
}

#[test]
fn an_offset_moves_each_channel_as_a_whole() {
    let offsets = noise_offset(key(1, 2, 3), 4, 0.05);
    let plain = latent_noise(key(1, 2, 3), 4 * 6);
    let mut moved = plain.clone();
    add_by_channel(&mut moved, &offsets);
    for (i, (moved, plain)) in moved.iter().zip(&plain).enumerate() {
        assert_eq!(*moved, plain + offsets[i / 6]);
    }
    assert_eq!(noise_offset(key(1, 2, 3), 4, 0.1)[2], 2.0 * offsets[2]);
    add_by_channel(&mut moved, &[]);
    add_by_channel(&mut [], &offsets);
}

#[test]
fn shuffling_keeps_every_item_and_favours_no_place() {
    let mut firsts = [0_u32; 5];
    for epoch in 0..5000 {
        let mut items = [0, 1, 2, 3, 4];
        shuffle(key(8, epoch, 0), &mut items);
        firsts[items[0]] += 1;
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3, 4]);
    }
    assert!(firsts.iter().all(|count| (850..1150).contains(count)), "{firsts:?}");
}
