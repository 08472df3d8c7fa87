//! Makes a caller.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::{
    Caller, Clock, Resolver, SystemClock, SystemResolver,
    client::caller::Inner,
    client::circuit::{MOST_SUSPECTS, Settings},
    client::contact::{ContactLimits, Contacts},
    client::tls::trust,
};

/// What can be set of a [`Caller`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CallerBuilder {
    limits: ContactLimits,
    connections: usize,
    connect_timeout: Duration,
    settings: Settings,
    ca_files: Vec<PathBuf>,
    resolver: Option<Arc<dyn Resolver>>,
    clock: Arc<dyn Clock>,
}

/// Why a caller cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallerError {
    /// A file with root certificates cannot be read.
    #[error("the root certificates in {} cannot be used: {error}", .file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// The library for TLS cannot be set up.
    #[error("TLS cannot be set up: {error}")]
    Tls {
        /// What is wrong.
        error: String,
    },
}

impl Default for CallerBuilder {
    fn default() -> Self {
        Self {
            limits: ContactLimits {
                endpoints: 10_000,
                calls: 8,
            },
            connections: 256,
            connect_timeout: Duration::from_secs(5),
            settings: Settings {
                failures: 5,
                first: Duration::from_secs(10),
                cap: Duration::from_secs(600),
            },
            ca_files: Vec::new(),
            resolver: None,
            clock: Arc::new(SystemClock),
        }
    }
}

impl CallerBuilder {
    /// How many calls to one endpoint are under way at once: 8 if it is not set, at least 1.
    pub fn calls_per_endpoint(mut self, calls: usize) -> Self {
        self.limits.calls = calls.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How many connections there are at once, with the idle ones: 256 if it is not set, at least 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How long a new connection may take, from the resolution of the name to the end of the TLS handshake: 5 s if it
    /// is not set. The endpoint's timeout, where it is shorter, ends the call before that.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.max(Duration::from_millis(1));
        self
    }

    /// How many endpoints are remembered: 10,000 if it is not set, at least 1.
    ///
    /// When there are more, those that were not called for longest are forgotten, the healthy ones first.
    pub fn endpoints(mut self, endpoints: usize) -> Self {
        self.limits.endpoints = endpoints.max(1);
        self
    }

    /// After how many failures in a row calls to an endpoint pause: 5 if it is not set, 1 to 64.
    ///
    /// A failure after the call was sent counts once for each idempotency key, because the message may be the reason.
    pub fn failures(mut self, failures: u32) -> Self {
        // Each message of a row is remembered.
        self.settings.failures = failures.clamp(1, MOST_SUSPECTS as u32);
        self
    }

    /// The first pause and the longest one: 10 s and 10 min if it is not set. Each is about twice the one before.
    ///
    /// A message at which the endpoint has failed waits for the time of the first pause in addition.
    pub fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.first = first.min(longest);
        self.settings.cap = longest;
        self
    }

    /// Trusts the certificates in this file (PEM), beside those of the machine.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_files.push(file.into());
        self
    }

    /// Looks up names in another way than the operating system does.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Goes by another clock: for tests of pauses.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Makes the caller, and reads root certificates from the disk.
    ///
    /// # Errors
    ///
    /// A file with root certificates cannot be read, or has none.
    pub fn build(self) -> Result<Caller, CallerError> {
        Ok(Caller {
            inner: Arc::new(Inner {
                contacts: Contacts::new(self.limits, self.settings),
                connections: Arc::new(Semaphore::new(self.connections)),
                most_connections: self.connections,
                waiting: AtomicUsize::new(0),
                connect_timeout: self.connect_timeout,
                resolver: self
                    .resolver
                    .unwrap_or_else(|| Arc::new(SystemResolver::default())),
                clock: self.clock,
                trust: trust(&self.ca_files)?,
            }),
        })
    }
}
