//! The protocol `lorarates.v1`, generated at build time from `lorarates/v1/*.proto`.

/// Version 1.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    #![allow(rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/lorarates.v1.rs"));
}

/// Version of the worker protocol that [`v1::Hello`] states.
pub const PROTOCOL: u32 = 1;

/// Largest message either side takes, in bytes: a specification of tens of thousands of pictures.
pub const MAX_MESSAGE: usize = 64 << 20;
