//! lora-rates-client
