//! What may happen to a search, in the worst of worlds.

/// What happens next. Numbers choose among what there is, round and round; with nothing to choose from, nothing happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A worker connects.
    Join,
    /// A worker is lost.
    Kill(u8),
    /// A worker is given to another search.
    Move(u8),
    /// A worker that was moved or released is given to this search.
    Return(u8),
    /// A worker does the first of what it was told.
    Work(u8),
    /// A worker does the last of what it was told.
    WorkLast(u8),
    /// A worker does the first of what it was told, badly.
    Spoil(u8, Fault),
    /// A result that came before comes again.
    Repeat(u8),
    /// A worker says that it can't work for the search.
    GiveUp(u8),
    /// No result has come for long.
    Overdue,
    /// The service says that there will be no workers.
    Abandon,
    /// The user pauses the search.
    Pause,
    /// The user resumes it.
    Resume,
    /// The user cancels it.
    Cancel,
    /// The store has done what it was told.
    Stored,
    /// The store could not do it.
    NotStored,
    /// The coordinator is killed and started again; whether what was given to the store just before is there.
    Crash { stored: bool },
}

/// What is wrong with a result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    NotANumber,
    Shape,
    Step,
    Foreign,
}

impl Action {
    /// One of them by a random number: most often one that gets the search on.
    pub(super) fn choose(random: u64) -> Self {
        let [kind, at, fault, ..] = random.to_le_bytes();
        match kind {
            0..=22 => Self::Join,
            23..=32 => Self::Kill(at),
            33..=42 => Self::Move(at),
            43..=65 => Self::Return(at),
            66..=165 => Self::Work(at),
            166..=180 => Self::WorkLast(at),
            181..=189 => Self::Spoil(at, Fault::choose(fault)),
            190..=204 => Self::Repeat(at),
            205..=207 => Self::GiveUp(at),
            208..=212 => Self::Overdue,
            213 => Self::Abandon,
            214..=216 => Self::Pause,
            217..=223 => Self::Resume,
            224 if at < 16 => Self::Cancel,
            224..=249 => Self::Stored,
            250..=251 => Self::NotStored,
            252..=255 => Self::Crash { stored: at.is_multiple_of(2) },
        }
    }
}

impl Fault {
    fn choose(random: u8) -> Self {
        match random % 4 {
            0 => Self::NotANumber,
            1 => Self::Shape,
            2 => Self::Step,
            _ => Self::Foreign,
        }
    }
}
