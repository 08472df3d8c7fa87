//! Says once what changed, however often it is tried.

use std::sync::{Mutex, PoisonError};

use tracing::{debug, info, warn};

/// One thing that works or does not, and what was last said about it.
#[derive(Debug)]
pub(crate) struct Notice {
    service: std::sync::Arc<str>,
    what: &'static str,
    said: Mutex<Option<String>>,
}

impl Notice {
    pub(crate) fn new(service: std::sync::Arc<str>, what: &'static str) -> Self {
        Self {
            service,
            what,
            said: Mutex::default(),
        }
    }

    /// It does not work. A warning if that is news.
    pub(crate) fn trouble(&self, why: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_deref() == Some(why) {
            debug!(service = %self.service, "{} still does not work: {why}", self.what);
        } else {
            warn!(service = %self.service, "{} does not work and is tried again: {why}", self.what);
            *said = Some(why.to_owned());
        }
    }

    /// It works. A line if it did not before.
    pub(crate) fn well(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.take().is_some() {
            info!(service = %self.service, "{} works again", self.what);
        }
    }
}
