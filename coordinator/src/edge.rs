//! The edge: all that stands between the network and the services. Who may connect, who may call what, how much of it,
//! and how the coordinator is watched.

pub mod admin;
mod connections;
mod gate;
mod identity;
mod monitor;
mod security;
mod seldom;
mod server;
mod tokens;

pub(crate) use connections::{Peer, tcp};
pub use monitor::{Monitor, Phase};
pub(crate) use security::Loaded;
pub use security::Security;
pub(crate) use server::{Edge, Settings};

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the edge can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate without key, or the other way round.
    #[error("--tls-cert and --tls-key go together: give both or neither")]
    HalfIdentity,
    /// Client certificates are part of TLS.
    #[error("--tls-client-ca needs --tls-cert and --tls-key: clients show certificates over TLS only")]
    NoIdentity,
    /// A file can't be read.
    #[error("{option}: can't read {}: {source}", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{option}: {} holds no {expected} in PEM form", path.display())]
    NotPem {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key don't work.
    #[error("TLS can't be set up with these certificates and this key: {0}")]
    Tls(String),
    /// A line of the token file makes no sense. The message does not show it: it may hold a token.
    #[error("--token-file: {}, line {line}: {problem}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token file has no tokens: nobody could connect.
    #[error("--token-file: {} holds no token; lines are `client NAME TOKEN` or `worker NAME TOKEN`", path.display())]
    NoTokens {
        /// The file.
        path: PathBuf,
    },
    /// The network.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The protocol's own description, which is part of the program.
    #[error("the protocol's description is damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Other machines can reach the address, and it is not protected.
    #[error(
        "other machines can reach {address}, and {problem}; give {fix}, or listen on 127.0.0.1, or give --insecure if \
         everyone who reaches that address is trusted"
    )]
    Exposed {
        /// Where the coordinator would listen.
        address: SocketAddr,
        /// What is missing.
        problem: &'static str,
        /// The options that give it.
        fix: &'static str,
    },
}
