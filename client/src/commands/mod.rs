//! The commands, one module each: what its command line is (`Args`) and what it does (`run`).

pub mod bench;
pub mod gradient;
pub mod synthetic;
pub mod trajectory;

pub(crate) mod control;
pub(crate) mod list;
pub(crate) mod rates;
pub(crate) mod watch;

mod batch;
mod model;
mod output;
mod tensors;
