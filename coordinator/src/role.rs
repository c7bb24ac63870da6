//! Who calls.

/// Who calls, as far as certificate and token say. The services' edge puts it into every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Creates and watches searches.
    Client,
    /// Computes.
    Worker,
    /// Either: the coordinator asks nobody who they are.
    Anyone,
}

impl Role {
    /// `client` or `worker`; of those that may be either, `caller`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
            Self::Anyone => "caller",
        }
    }

    /// The role that certificates and tokens call so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Client, Self::Worker].into_iter().find(|role| role.name() == name)
    }

    /// Whether the caller may do what clients do.
    #[must_use]
    pub fn is_client(self) -> bool {
        matches!(self, Self::Client | Self::Anyone)
    }

    /// Whether the caller may do what workers do.
    #[must_use]
    pub fn is_worker(self) -> bool {
        matches!(self, Self::Worker | Self::Anyone)
    }
}
