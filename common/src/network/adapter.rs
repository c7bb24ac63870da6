//! The settings of PEFT adapters that diffusers writes into a file's header: there, not in tensors, stand their alphas.

use super::key;
use crate::sdxl::Part;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The header entry that holds the settings, as JSON text.
const ENTRY: &str = "lora_adapter_metadata";

/// PEFT's settings by part, `unet.r` and the like; empty if the header has none.
pub(super) struct Adapter(Map<String, Value>);

impl Adapter {
    /// The settings of a file with this header. An error says what is wrong with them.
    pub(super) fn read(header: &BTreeMap<String, String>) -> Result<Self, String> {
        let Some(text) = header.get(ENTRY) else {
            return Ok(Self(Map::new()));
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(settings)) => Ok(Self(settings)),
            Ok(_) => Err("is no JSON object".to_owned()),
            Err(error) => Err(format!("is no JSON ({error})")),
        }
    }

    /// The scale of a module, named as in the file and of this rank: alpha / rank, or alpha / sqrt(rank) for
    /// rank-stabilised LoRA (<https://arxiv.org/abs/2312.03732>); 1 if nothing is said of an alpha.
    pub(super) fn scale(&self, part: Part, module: &str, rank: usize) -> Result<f32, String> {
        let name = key::plain_name(module);
        let name = name.strip_prefix(part.prefix()).and_then(|name| name.strip_prefix('.')).unwrap_or(&name);
        if let Some(said) = self.number(part, "r", "rank_pattern", name)?
            && said != rank as f64
        {
            return Err(format!("gives {module} rank {said}, but its weights have rank {rank}"));
        }
        let Some(alpha) = self.number(part, "lora_alpha", "alpha_pattern", name)? else {
            return Ok(1.0);
        };
        let divisor = match self.setting(part, "use_rslora") {
            Some(Value::Bool(true)) => (rank as f64).sqrt(),
            _ => rank as f64,
        };
        let scale = (alpha / divisor) as f32;
        if !scale.is_finite() {
            return Err(format!("gives {module} the alpha {alpha}"));
        }
        Ok(scale)
    }

    fn setting(&self, part: Part, name: &str) -> Option<&Value> {
        self.0.get(&format!("{}.{name}", part.prefix())).filter(|value| !value.is_null())
    }

    /// A module's number: that of the first pattern which it matches (they are saved sorted), else the part's own.
    fn number(&self, part: Part, plain: &str, pattern: &str, module: &str) -> Result<Option<f64>, String> {
        if let Some(patterns) = self.setting(part, pattern) {
            let patterns = patterns.as_object().ok_or_else(|| format!("has a {part}.{pattern} that is no object"))?;
            for (pattern, value) in patterns {
                if matches(pattern, module)? {
                    return finite(value, pattern).map(Some);
                }
            }
        }
        self.setting(part, plain).map(|value| finite(value, plain)).transpose()
    }
}

fn finite(value: &Value, name: &str) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("has a {name} that is no number"))
}

/// Whether PEFT takes a pattern to mean a module: it is the module's dotted name or the last segments of it; with `^` in
/// front only the whole name. PEFT reads patterns as regular expressions; those that are more than names are refused.
fn matches(pattern: &str, module: &str) -> Result<bool, String> {
    let (name, whole) = match pattern.strip_prefix('^') {
        Some(name) => (name, true),
        None => (pattern, false),
    };
    let name = name.strip_suffix('$').unwrap_or(name).replace("\\.", ".");
    if name.contains(['\\', '*', '+', '?', '[', ']', '(', ')', '{', '}', '|', '^', '$']) {
        return Err(format!(
            "has the pattern {pattern}, a regular expression, where the names of modules are supported"
        ));
    }
    let rest = module.strip_suffix(name.as_str());
    Ok(rest.is_some_and(|rest| rest.is_empty() || (!whole && rest.ends_with('.'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "unet.mid_block.attn1.to_q";

    fn scale(settings: &str, rank: usize) -> Result<f32, String> {
        let header = BTreeMap::from([(ENTRY.to_owned(), settings.to_owned())]);
        Adapter::read(&header)?.scale(Part::Unet, MODULE, rank)
    }

    #[test]
    fn alpha_is_divided_by_the_rank_or_its_root() {
        assert_eq!(scale(r#"{"unet.r": 4, "unet.lora_alpha": 2}"#, 4), Ok(0.5));
        assert_eq!(scale(r#"{"unet.lora_alpha": 2, "unet.use_rslora": true}"#, 4), Ok(1.0));
        assert_eq!(scale(r#"{"unet.r": 4}"#, 4), Ok(1.0));
        assert_eq!(scale(r#"{"text_encoder.lora_alpha": 2}"#, 4), Ok(1.0));
    }

    #[test]
    fn patterns_speak_for_the_modules_that_they_name() {
        let with = |patterns: &str| scale(&format!(r#"{{"unet.lora_alpha": 4, "unet.alpha_pattern": {patterns}}}"#), 4);
        assert_eq!(with(r#"{"to_q": 8}"#), Ok(2.0));
        assert_eq!(with(r#"{"attn1.to_q": 8}"#), Ok(2.0));
        assert_eq!(with(r#"{"^mid_block\\.attn1\\.to_q$": 8}"#), Ok(2.0));
        assert_eq!(with(r#"{"^to_q": 8}"#), Ok(1.0));
        assert_eq!(with(r#"{"o_q": 8}"#), Ok(1.0));
        assert_eq!(with("null"), Ok(1.0));
        assert_eq!(scale(r#"{"unet.r": 8, "unet.rank_pattern": {"to_q": 4}, "unet.lora_alpha": 2}"#, 4), Ok(0.5));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (settings, word) in [
            ("[]", "no JSON object"),
            ("{", "no JSON ("),
            (r#"{"unet.r": 8}"#, "rank 8"),
            (r#"{"unet.r": "four"}"#, "no number"),
            (r#"{"unet.lora_alpha": 1e300}"#, "alpha"),
            (r#"{"unet.alpha_pattern": 3}"#, "no object"),
            (r#"{"unet.alpha_pattern": {".*to_q": 3}}"#, "regular expression"),
        ] {
            let why = scale(settings, 4).expect_err(settings);
            assert!(why.contains(word), "{settings}: {why}");
        }
    }
}
