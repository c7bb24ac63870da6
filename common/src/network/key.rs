//! A network file's keys: which module a tensor belongs to, and what it is there.

use std::borrow::Cow;

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The factor that the input meets first.
    Down,
    /// The factor that makes the output.
    Up,
    /// The numerator of the scale.
    Alpha,
}

/// Endings before `.weight`: those of kohya's scripts, of PEFT, and of diffusers before and after its use of PEFT.
const ENDINGS: [(&str, Field); 10] = [
    (".lora_down", Field::Down),
    (".lora_up", Field::Up),
    (".lora_A", Field::Down),
    (".lora_B", Field::Up),
    (".lora.down", Field::Down),
    (".lora.up", Field::Up),
    ("_lora.down", Field::Down),
    ("_lora.up", Field::Up),
    (".lora_linear_layer.down", Field::Down),
    (".lora_linear_layer.up", Field::Up),
];

/// Splits a key into the name of its module, as written there, and what it is; `None` if it ends in none of the known
/// ways.
pub(super) fn parse(key: &str) -> Option<(&str, Field)> {
    if let Some(module) = key.strip_suffix(".alpha") {
        return Some((module, Field::Alpha));
    }
    let body = key.strip_suffix(".weight")?;
    let plain = |body: &'_ str| ENDINGS.iter().find(|(ending, _)| body.ends_with(ending)).copied();
    if let Some((ending, field)) = plain(body) {
        return Some((body.strip_suffix(ending)?, field));
    }
    // PEFT writes the adapter's name behind the factor's: `.lora_A.default.weight`.
    let (body, _adapter) = body.rsplit_once('.')?;
    let (ending, field) = plain(body).filter(|(ending, _)| matches!(*ending, ".lora_A" | ".lora_B"))?;
    Some((body.strip_suffix(ending)?, field))
}

/// The module's name without what PEFT (`base_model.model.`) and diffusers' attention processors (`attn1.processor.to_q`
/// for `attn1.to_q`, `attn1.processor.to_out` for `attn1.to_out.0`) put into it.
pub(super) fn plain_name(module: &str) -> Cow<'_, str> {
    const WRAPPER: &str = "base_model.model.";
    const PROCESSOR: &str = ".processor.";
    let mut name = Cow::Borrowed(module);
    if name.contains(WRAPPER) {
        name = Cow::Owned(name.replace(WRAPPER, ""));
    }
    if name.contains(PROCESSOR) {
        let mut without = name.replace(PROCESSOR, ".");
        if without.ends_with(".to_out") {
            without.push_str(".0");
        }
        name = Cow::Owned(without);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_endings_is_split() {
        for (key, module, field) in [
            ("lora_unet_x.lora_down.weight", "lora_unet_x", Field::Down),
            ("lora_unet_x.lora_up.weight", "lora_unet_x", Field::Up),
            ("lora_unet_x.alpha", "lora_unet_x", Field::Alpha),
            ("unet.x.lora_A.weight", "unet.x", Field::Down),
            ("unet.x.lora_B.default.weight", "unet.x", Field::Up),
            ("unet.x.lora.down.weight", "unet.x", Field::Down),
            ("unet.x.to_q_lora.up.weight", "unet.x.to_q", Field::Up),
            ("text_encoder.x.lora_linear_layer.down.weight", "text_encoder.x", Field::Down),
        ] {
            assert_eq!(parse(key), Some((module, field)), "{key}");
        }
        for key in ["unet.x.weight", "unet.x.lora_down", "unet.x.lora_down.default.weight", "", ".weight"] {
            assert_eq!(parse(key), None, "{key}");
        }
    }

    #[test]
    fn wrappers_are_taken_off() {
        assert_eq!(plain_name("base_model.model.unet.conv_in"), "unet.conv_in");
        assert_eq!(plain_name("unet.base_model.model.conv_in"), "unet.conv_in");
        assert_eq!(plain_name("a.attn1.processor.to_k"), "a.attn1.to_k");
        assert_eq!(plain_name("a.attn1.processor.to_out"), "a.attn1.to_out.0");
        assert_eq!(plain_name("lora_unet_conv_in"), "lora_unet_conv_in");
    }
}
