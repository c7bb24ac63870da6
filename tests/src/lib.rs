//! Whole-system tests: numbers against golden, and processes against each other. What several of them need is here.

pub mod golden;
