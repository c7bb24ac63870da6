//! `lora-rates demo`: a whole search with nothing downloaded.
