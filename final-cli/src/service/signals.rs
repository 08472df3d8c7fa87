//! The signals that tell a service to stop.
//!
//! Input: SIGTERM, of systemd and Kubernetes, and SIGINT, of a terminal. Output: their names, one after the other.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its making on. A signal that comes while nobody waits is kept; several of one kind become one.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        let (came, name) = tokio::select! {
            came = self.term.recv() => (came, "SIGTERM"),
            came = self.int.recv() => (came, "SIGINT"),
        };
        match came {
            Some(()) => name,
            None => std::future::pending().await,
        }
    }
}
