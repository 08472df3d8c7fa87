//! Tells once what stopped working, however often it is tried.
//!
//! State: the reasons told since it last worked. Output: a warning for a new reason, a debug line for a
//! known one, and an info line when it works again.

use std::sync::{Arc, Mutex};

use crate::lock::lock;

/// How many reasons of one outage are remembered. A server that restarts refuses, resets and falls
/// silent in turns.
const REASONS: usize = 8;

/// One thing that works or does not, and what was told about it since it last worked.
#[derive(Debug)]
pub(crate) struct OutageNotice {
    service: Arc<str>,
    what: &'static str,
    told: Mutex<Vec<String>>,
}

impl OutageNotice {
    pub(crate) fn new(service: Arc<str>, what: &'static str) -> Self {
        Self {
            service,
            what,
            told: Mutex::default(),
        }
    }

    /// Notes that it does not work, for this reason.
    pub(crate) fn fails(&self, reason: &str) {
        let (service, what) = (&*self.service, self.what);
        if self.is_news(reason) {
            tracing::warn!(target: "final::amqp", service, what, reason, "part of the RabbitMQ link does not work and is retried");
        } else {
            tracing::debug!(target: "final::amqp", service, what, reason, "part of the RabbitMQ link still does not work and is retried");
        }
    }

    fn is_news(&self, reason: &str) -> bool {
        let mut told = lock(&self.told);
        if told.iter().any(|earlier| earlier == reason) {
            return false;
        }
        if told.len() == REASONS {
            told.remove(0);
        }
        told.push(reason.to_owned());
        true
    }

    /// Notes that it works.
    pub(crate) fn works(&self) {
        let mut told = lock(&self.told);
        if !told.is_empty() {
            told.clear();
            tracing::info!(target: "final::amqp", service = &*self.service, what = self.what, "part of the RabbitMQ link works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_take_turns_are_each_told_once_an_outage() {
        let notice = OutageNotice::new("shop".into(), "consuming");
        let news = |reason| notice.is_news(reason);
        assert!(news("refused") && news("reset"));
        assert!(!news("refused") && !news("reset"));
        notice.works();
        assert!(news("refused"));
    }

    #[test]
    fn reasons_without_end_are_not_remembered_without_end() {
        let notice = OutageNotice::new("shop".into(), "consuming");
        for n in 0..1_000 {
            notice.is_news(&n.to_string());
        }
        assert_eq!(notice.told.lock().unwrap().len(), REASONS);
    }
}
