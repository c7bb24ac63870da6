//! Kinds of modules that are recognised in order to refuse them by name.

use super::key;

/// Segments of keys that only the named kind has; `*` stands for any ending.
const MARKS: [(&str, &str); 18] = [
    ("hada_*", "LoHa"),
    ("lokr_*", "LoKr"),
    ("lora_mid", "Tucker LoCon"),
    ("dora_scale", "DoRA"),
    ("lora_magnitude_vector", "DoRA"),
    ("oft_*", "OFT"),
    ("boft_*", "OFT"),
    ("diff", "full difference"),
    ("diff_b", "full difference"),
    ("w_norm", "norm"),
    ("b_norm", "norm"),
    ("on_input", "(IA)^3"),
    ("a1", "GLoRA"),
    ("a2", "GLoRA"),
    ("b1", "GLoRA"),
    ("b2", "GLoRA"),
    ("lora_embedding_*", "embedding LoRA"),
    ("bias_*", "sparse bias"),
];

/// The kind of module that a key speaks of, if that is none we support.
pub(super) fn kind(key: &str) -> Option<&'static str> {
    let biased = |body: &str| key::parse(&format!("{body}.weight")).is_some();
    if key.strip_suffix(".bias").is_some_and(biased) {
        return Some("biased LoRA");
    }
    key.split('.').skip(1).find_map(|segment| {
        let is = |mark: &str| match mark.strip_suffix('*') {
            Some(start) => segment.starts_with(start),
            None => segment == mark,
        };
        MARKS.iter().find(|(mark, _)| is(mark)).map(|(_, kind)| *kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_known_by_its_keys_and_plain_ones_are_none() {
        for (key, expected) in [
            ("m.hada_w1_a", "LoHa"),
            ("m.lokr_w2", "LoKr"),
            ("m.lora_mid.weight", "Tucker LoCon"),
            ("m.dora_scale", "DoRA"),
            ("unet.m.lora_magnitude_vector.default.weight", "DoRA"),
            ("m.oft_blocks", "OFT"),
            ("m.diff", "full difference"),
            ("m.diff_b", "full difference"),
            ("m.w_norm", "norm"),
            ("m.on_input", "(IA)^3"),
            ("m.b2.weight", "GLoRA"),
            ("unet.m.lora_B.bias", "biased LoRA"),
            ("m.bias_indices", "sparse bias"),
        ] {
            assert_eq!(kind(key), Some(expected), "{key}");
        }
        for key in ["m.alpha", "m.lora_up.weight", "unet.m.ff.net.0.proj.lora_A.weight", "diff", "difference"] {
            assert_eq!(kind(key), None, "{key}");
        }
    }
}
