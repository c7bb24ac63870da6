//! Why the engine can't compute.

use crate::engine;

/// What can go wrong below the engine's edge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model's text uses an operation that the tape has no node for.
    #[error("engine cuda can't compute this model: {0} is not among its operations; use --engine burn")]
    NotRecorded(&'static str),
    /// A program without a place for the host.
    #[error("engine cuda made no plan for these sizes; use --engine burn")]
    NoPlan,
    /// Numbers for a buffer or a parameter of another size.
    #[error("engine cuda was given {got} numbers for {what}, which has {want}")]
    Sizes {
        /// What they were for.
        what: String,
        /// How many came.
        got: usize,
        /// How many belong there.
        want: usize,
    },
    /// A library is not on this machine.
    #[error("engine cuda needs {library}, which was not found: {hint}; or use --engine burn")]
    Library {
        /// Its name.
        library: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The device's memory is full.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// The device or one of its libraries failed.
    #[error("{0}")]
    Device(String),
}

impl Error {
    /// Whether the same request may succeed later or with fewer samples.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::OutOfMemory(_))
    }
}

impl From<Error> for engine::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::OutOfMemory(why) => Self::OutOfMemory(why),
            Error::Device(why) => Self::of_device(why),
            refused => Self::Request(refused.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_memory_may_pass() {
        let library = Error::Library { library: "cuDNN", hint: "install it" };
        let sizes = Error::Sizes { what: "x".into(), got: 1, want: 2 };
        for error in [Error::NotRecorded("x"), Error::NoPlan, sizes, library, Error::Device("x".into())] {
            assert!(!error.is_retryable(), "{error}");
            assert!(!matches!(engine::Error::from(error), engine::Error::OutOfMemory(_)));
        }
        let full = Error::OutOfMemory("x".into());
        assert!(full.is_retryable());
        assert!(matches!(engine::Error::from(full), engine::Error::OutOfMemory(_)));
    }
}
