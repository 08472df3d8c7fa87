//! Looks up the addresses of a name.
//!
//! Input: a name. Output: addresses, which nobody has checked yet. State: how many lookups run.

use std::{fmt, io, net::IpAddr, net::ToSocketAddrs, sync::Arc};

use futures::future::BoxFuture;
use tokio::sync::Semaphore;

/// Looks up the addresses of a name.
///
/// A caller checks each address and connects to the checked one, so a resolver need not be trusted.
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses of `host`.
    ///
    /// The caller drops the future when the time limit of the call is over.
    ///
    /// # Errors
    ///
    /// The name has no address, or nobody answers.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// How many lookups run at once. Each holds a thread, also after the call has given up.
const LOOKUPS: usize = 64;

/// The resolver of the operating system.
#[derive(Debug)]
pub struct SystemResolver {
    running: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            running: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let running = self.running.clone().acquire_owned().await;
            let host = host.to_owned();
            let lookup = tokio::task::spawn_blocking(move || {
                // The system cannot be told to stop, so the place is free only when it has answered.
                let _running = running;
                let found = (host.as_str(), 0).to_socket_addrs()?;
                Ok(found.map(|address| address.ip()).collect())
            });
            lookup
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        })
    }
}
