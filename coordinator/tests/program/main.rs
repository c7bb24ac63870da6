//! The program `coordinator` as its users meet it: over processes, sockets and certificates.

mod access;
mod authority;
mod limits;
mod options;
mod process;
mod searches;
mod watching;
