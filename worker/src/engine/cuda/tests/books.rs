//! What SDXL at full size takes, by the arena's own books.

use super::model::plan;
use crate::engine::cuda::plan::Wanted;
use crate::engine::cuda::tape::Case;
use lora_rates_common::sdxl::config::SdxlConfig;
use std::time::Instant;

/// Gigabytes of weights, networks and the arena in bfloat16 at 1024 x 1024 with one network of rank 32.
fn gigabytes(batch: usize, checkpointing: bool, packed: bool) -> [f64; 3] {
    let wanted = Wanted { rates: true, conditions: false, checkpointing, merging: !packed };
    let case = Case { batch, height: 128, width: 128, tokens: 77 };
    let begin = Instant::now();
    let rated = |name: &str| name.starts_with("unet.") && name.contains("transformer_blocks");
    let mut planned = plan(&SdxlConfig::sdxl_base(), case, wanted, 32, 2, rated);
    if packed {
        planned.parameters.pack();
    }
    let seconds = begin.elapsed().as_secs_f64();
    let (mut weights, mut networks) = (0, 0);
    for (id, parameter) in planned.parameters.iter() {
        let bytes = parameter.bytes(2);
        *(if id.0 < planned.own { &mut weights } else { &mut networks }) += bytes;
    }
    let books = planned.program.books(2);
    let in_all = [weights, networks, books.arena].map(|bytes| bytes as f64 / 1e9);
    eprintln!(
        "batch {batch}, checkpointing {checkpointing}, packed {packed}: weights, networks, arena {in_all:.2?} GB, of which kept {:.2} GB; \
         {} instructions planned in {seconds:.1} s",
        books.kept as f64 / 1e9,
        planned.program.instructions.len()
    );
    in_all
}

#[test]
fn sdxl_at_1024_with_one_network_fits_in_ten_gigabytes_with_checkpointing() {
    let [weights, networks, arena] = gigabytes(1, true, false);
    assert!((5.0..5.3).contains(&weights), "{weights}");
    assert!(weights + networks + arena < 10.0);
}

#[test]
fn weights_in_eight_bits_take_half_the_memory() {
    let [weights, networks, arena] = gigabytes(1, true, true);
    // 2.57 billion numbers, their rows' scales, biases and norms. (The networks are packed here too, by an engine not.)
    assert!((2.57..2.65).contains(&weights), "{weights}");
    assert!(weights + networks + arena < 4.0);
}

#[test]
fn an_image_keeps_less_than_in_the_reference() {
    // The reference keeps 8.6 GB of activations an image.
    let [.., one] = gigabytes(1, false, false);
    let [.., four] = gigabytes(4, false, false);
    assert!((four - one) / 3.0 < 8.6);
}
