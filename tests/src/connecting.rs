//! Ways to a coordinator: over the operating system's network, or over a simulated one.

use lora_rates_proto::connect::{self, Access, Connection};
use std::pin::Pin;
use std::sync::Arc;

/// A connection that is being made; in words if there can be none.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Connection, String>> + Send>>;

/// Makes a new connection with every call.
pub type Connect = Arc<dyn Fn() -> Connecting + Send + Sync>;

/// Connects to this address, without encryption.
#[must_use]
pub fn to(url: &str) -> Connect {
    let url: Arc<str> = url.into();
    Arc::new(move || {
        let url = url.clone();
        Box::pin(async move { connect::connect(&url, &Access::default()).await.map_err(|error| error.to_string()) })
    })
}
