//! `--resolution`.

use serde::{Deserialize, Deserializer, de};
use std::str::FromStr;

/// Width and height in pixels: written as one number for both, or as two with a comma between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (width, height) = text.split_once(',').unwrap_or((text, text));
        match (width.trim().parse(), height.trim().parse()) {
            (Ok(width), Ok(height)) => Ok(Self { width, height }),
            _ => {
                Err(format!("{text:?} is no resolution: write one number, as in 1024, or width,height, as in 1024,768"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Resolution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
            Pair(i64, i64),
        }
        let text = match Written::deserialize(deserializer) {
            Ok(Written::Number(side)) => side.to_string(),
            Ok(Written::Text(text)) => text,
            Ok(Written::Pair(width, height)) => format!("{width},{height}"),
            Err(_) => return Err(de::Error::custom("it is no resolution: write 1024, or \"1024,768\"")),
        };
        text.parse().map_err(de::Error::custom)
    }
}
