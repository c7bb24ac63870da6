//! What a synthetic worker does wrong.

use std::str::FromStr;

/// What a worker does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Answers with numbers that are none.
    Nan,
    /// Answers with twenty numbers too many.
    Shapes,
    /// Answers with one number too many: no message that makes sense.
    Garbled,
    /// Answers with the result of the step before.
    Stale,
    /// Answers twice.
    Duplicate,
    /// Answers for another search too.
    Foreign,
    /// Says nothing any more, not even that it lives.
    Silent,
    /// Does not answer; says that it lives.
    Hang,
    /// Breaks the connection instead of answering, and comes again.
    Disconnect,
    /// Can't prepare for any search.
    Fail,
}

impl Fault {
    const ALL: [(&'static str, Self); 11] = [
        ("none", Self::None),
        ("nan", Self::Nan),
        ("shapes", Self::Shapes),
        ("garbled", Self::Garbled),
        ("stale", Self::Stale),
        ("duplicate", Self::Duplicate),
        ("foreign", Self::Foreign),
        ("silent", Self::Silent),
        ("hang", Self::Hang),
        ("disconnect", Self::Disconnect),
        ("fail", Self::Fail),
    ];
}

/// A fault that there is not.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{0:?} is no fault; there are none, nan, shapes, garbled, stale, duplicate, foreign, silent, hang, disconnect and fail"
)]
pub struct UnknownFault(String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, fault)| fault).ok_or_else(|| UnknownFault(text.to_owned()))
    }
}
