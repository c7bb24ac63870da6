//! lora-rates-coordinator
