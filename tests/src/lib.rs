//! lora-rates-tests
