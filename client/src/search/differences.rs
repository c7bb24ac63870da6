//! What two specifications differ in, in the words of the command line.

use lora_rates_common::spec::SearchSpec;
use serde_json::Value;

/// Most differences that are named.
const MAX_NAMED: usize = 6;
/// Most characters of a value that are shown.
const MAX_VALUE: usize = 60;

/// One line that names what differs, the first few of them; `None` if the same numbers come from the same files.
///
/// Where latents are kept on disk doesn't count.
pub(super) fn differences(stored: &SearchSpec, new: &SearchSpec) -> Option<String> {
    let (mut stored, mut new) = (stored.clone(), new.clone());
    stored.options.cache_dir = None;
    new.options.cache_dir = None;
    let mut found = Vec::new();
    if stored.sampling == Default::default() && new.sampling != stored.sampling {
        found.push("--sample_prompts: not given before, given now".to_owned());
    }
    // Neither holds anything that JSON lacks.
    let value = |spec| serde_json::to_value(spec).unwrap_or_default();
    compare(&mut Vec::new(), &value(&stored), &value(&new), &mut found);
    let more = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    (!found.is_empty()).then(|| found.join(", ") + &more)
}

fn compare(path: &mut Vec<String>, stored: &Value, new: &Value, found: &mut Vec<String>) {
    match (stored, new) {
        (Value::Object(stored), Value::Object(new)) => {
            for (key, before) in stored {
                path.push(key.clone());
                compare(path, before, new.get(key).unwrap_or(&Value::Null), found);
                path.pop();
            }
        }
        (Value::Array(stored), Value::Array(new)) if stored.len() == new.len() => {
            for (place, (before, now)) in stored.iter().zip(new).enumerate() {
                path.push((place + 1).to_string());
                compare(path, before, now, found);
                path.pop();
            }
        }
        (Value::Array(stored), Value::Array(new)) => {
            found.push(format!("{}: {} before, {} now", name(path), stored.len(), new.len()));
        }
        _ if stored != new => found.push(format!("{}: {} before, {} now", name(path), shown(stored), shown(new))),
        _ => {}
    }
}

/// The option that a place of the specification comes from.
fn name(path: &[String]) -> String {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    match parts[..] {
        ["model", "vae"] => "--vae".to_owned(),
        ["model", ref part @ ..] => format!("--pretrained_model_name_or_path ({})", part.join(" ")),
        ["networks"] => "--network_weights".to_owned(),
        ["networks", number, ref part @ ..] => format!("--network_weights, file {number} ({})", part.join(" ")),
        ["sampling", ref part @ ..] => format!("--sample_prompts ({})", part.join(" ")),
        ["images"] => "the number of pictures".to_owned(),
        ["images", number, ref part @ ..] => format!("picture {number} ({})", part.join(" ")),
        ["options", "optimizer", ref part @ ..] => format!("--optimizer_args ({})", part.join(" ")),
        [.., option] => format!("--{option}"),
        [] => "everything".to_owned(),
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "not given".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let cut = text.chars().count() > MAX_VALUE;
    text.chars().take(MAX_VALUE).chain(cut.then_some('…')).collect()
}
