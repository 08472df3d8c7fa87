//! What probes hear of a service in each of its states.
//!
//! Input: the state of the runner, and what the service says of itself. Output: a [`Condition`].
//!
//! ```text
//!   starting (live, not ready) ─▶ started (as the service says) ─▶ stopping (live, not ready)
//! ```

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::Health;
use tokio::time::timeout;

use super::{Service, guarded};

/// How long a service may take to say how it is. The usual probe waits for less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a service is alive, and whether it can take work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it does its work, or will once others are back. If not, only a restart helps.
    pub live: bool,
    /// Whether it can be given work.
    pub ready: bool,
    /// Why it is not alive or not ready, and what else is wrong. No passwords: a probe's answer is for anybody.
    pub reasons: Vec<String>,
}

impl Condition {
    /// Alive and ready.
    pub fn good() -> Self {
        Self {
            live: true,
            ready: true,
            reasons: Vec::new(),
        }
    }

    /// Alive, and not ready for this reason.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            live: true,
            ready: false,
            reasons: vec![reason.into()],
        }
    }
}

/// What a bus says of itself: a broker that is away changes neither, because messages wait for it.
impl From<Health> for Condition {
    fn from(health: Health) -> Self {
        Self {
            live: health.live,
            ready: health.ready,
            reasons: health.reasons,
        }
    }
}

/// The state of the runner, as probes see it.
pub(super) struct Probe<S> {
    service: OnceLock<Arc<S>>,
    stopping: AtomicBool,
}

impl<S> Default for Probe<S> {
    fn default() -> Self {
        Self {
            service: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }
}

impl<S: Service> Probe<S> {
    /// The service has started.
    pub(super) fn started(&self, service: S) -> Arc<S> {
        Arc::clone(self.service.get_or_init(|| Arc::new(service)))
    }

    /// The service is being stopped.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) async fn condition(&self) -> Condition {
        if self.stopping.load(Ordering::Relaxed) {
            return Condition::not_ready("the service is stopping");
        }
        let Some(service) = self.service.get() else {
            return Condition::not_ready("the service is starting");
        };
        match timeout(PATIENCE, guarded(service.condition())).await {
            Ok(Ok(condition)) => condition,
            Ok(Err(panic)) => {
                Condition::not_ready(format!("its condition cannot be told: it {panic}"))
            }
            Err(_) => Condition::not_ready("it has not told its condition within 5 s"),
        }
    }

    /// The metrics. An error is for the person who asked.
    pub(super) async fn metrics(&self) -> Result<String, String> {
        let Some(service) = self.service.get() else {
            return Ok(String::new());
        };
        match timeout(PATIENCE, guarded(service.metrics())).await {
            Ok(Ok(metrics)) => Ok(metrics),
            Ok(Err(panic)) => Err(format!("the metrics cannot be read: it {panic}")),
            Err(_) => Err("the metrics were not there within 5 s".to_owned()),
        }
    }
}
