//! Which shortages of connections were told, so that each is told once.
//!
//! Input: service, role, setting, and what RabbitMQ granted. State: those that were told, a bounded number. Output:
//! whether this one is new.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use crate::lock::lock;

/// How many shortages are remembered, so that each is told once.
const TOLD: usize = 64;

/// Service, role, setting, and what RabbitMQ granted.
type Shortage = (String, &'static str, &'static str, usize);

/// What was told already.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shortages(Arc<Mutex<BTreeSet<Shortage>>>);

impl Shortages {
    /// Whether this was not told before. Notes it.
    pub(crate) fn is_new(
        &self,
        service: &str,
        role: &'static str,
        setting: &'static str,
        granted: usize,
    ) -> bool {
        let mut told = lock(&self.0);
        if told.len() == TOLD {
            told.clear();
        }
        told.insert((service.to_owned(), role, setting, granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_once_and_another_one_again() {
        let shortages = Shortages::default();
        let role = "subscriber";

        assert!(shortages.is_new("shop", role, "channel_max", 2));
        assert!(!shortages.is_new("shop", role, "channel_max", 2));
        assert!(shortages.is_new("shop", role, "channel_max", 3));
        for n in 0..10_000 {
            shortages.is_new("shop", role, "channel_max", n);
        }
        assert!(lock(&shortages.0).len() <= TOLD);
    }
}
