//! Says once what changed, however often it is tried.

use std::sync::{Mutex, PoisonError};

use tracing::{debug, info, warn};

/// How many different reasons of one outage are remembered. A server on its way down and up again
/// refuses, resets and falls silent in turns.
const REASONS: usize = 8;

/// One thing that works or does not, and what was said about it since it last worked.
#[derive(Debug)]
pub(crate) struct OutageNotice {
    service: std::sync::Arc<str>,
    what: &'static str,
    said: Mutex<Vec<String>>,
}

impl OutageNotice {
    pub(crate) fn new(service: std::sync::Arc<str>, what: &'static str) -> Self {
        Self {
            service,
            what,
            said: Mutex::default(),
        }
    }

    /// It does not work. A warning if that is news.
    pub(crate) fn trouble(&self, why: &str) {
        if self.is_news(why) {
            warn!(service = %self.service, "{} does not work and is tried again: {why}", self.what);
        } else {
            debug!(service = %self.service, "{} still does not work: {why}", self.what);
        }
    }

    fn is_news(&self, why: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.iter().any(|earlier| earlier == why) {
            return false;
        }
        if said.len() == REASONS {
            said.remove(0);
        }
        said.push(why.to_owned());
        true
    }

    /// It works. A line if it did not before.
    pub(crate) fn well(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.is_empty() {
            said.clear();
            info!(service = %self.service, "{} works again", self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_take_turns_are_each_said_once_an_outage() {
        let notice = OutageNotice::new("shop".into(), "consuming");
        let news = |why| notice.is_news(why);
        assert!(news("refused") && news("reset"));
        assert!(!news("refused") && !news("reset"));
        notice.well();
        assert!(news("refused"));
    }

    #[test]
    fn reasons_without_end_are_not_remembered_without_end() {
        let notice = OutageNotice::new("shop".into(), "consuming");
        for n in 0..1_000 {
            notice.is_news(&n.to_string());
        }
        assert_eq!(notice.said.lock().unwrap().len(), REASONS);
    }
}
