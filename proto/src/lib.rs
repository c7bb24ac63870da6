//! The protocol `lorarates.v1`, generated at build time from `lorarates/v1/*.proto`.

#[cfg(feature = "grpc")]
pub mod connect;
#[cfg(feature = "grpc")]
pub mod transfer;

/// Version 1.
pub mod v1 {
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
    #![allow(rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/lorarates.v1.rs"));
}

/// Version of the worker protocol that [`v1::Hello`] states.
pub const PROTOCOL: u32 = 3;

/// The protocol as an encoded `FileDescriptorSet`, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lorarates.v1.bin"));

/// Largest message either side takes, in bytes: a specification of tens of thousands of pictures.
pub const MAX_MESSAGE: usize = 64 << 20;

/// Bytes of a blob in one message, at most.
pub const CHUNK: usize = 1 << 20;
