//! Which messages come again because this process has given them back.
//!
//! Input: messages that were requeued, or in flight on a channel that ended. State: what names each of them.
//! Output: whether a redelivery is that of such a message.
//!
//! Any other redelivered message was with another process, or with this one before it ended. It is a suspect: it
//! may be the reason for that end.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use uuid::Uuid;

use crate::lock::lock;

/// How many messages are remembered. A forgotten one is a suspect when it comes again, which costs some
/// statements.
const LIMIT: usize = 10_000;

/// The messages that this process has given back.
#[derive(Debug, Default)]
pub(super) struct GivenBack(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// How often each was given back and has not come again.
    times: HashMap<Uuid, usize>,
    /// The oldest first.
    order: VecDeque<Uuid>,
}

impl GivenBack {
    /// Notes a message that will come again.
    pub(super) fn note(&self, name: Uuid) {
        let mut names = lock(&self.0);
        *names.times.entry(name).or_insert(0) += 1;
        names.order.push_back(name);
        while names.order.len() > LIMIT
            && let Some(oldest) = names.order.pop_front()
        {
            names.forget(oldest);
        }
    }

    /// Whether a redelivered message was given back by this process. Then it is expected no longer.
    pub(super) fn take(&self, name: Uuid) -> bool {
        lock(&self.0).forget(name)
    }
}

impl Names {
    fn forget(&mut self, name: Uuid) -> bool {
        let Some(times) = self.times.get_mut(&name) else {
            return false;
        };
        *times -= 1;
        if *times == 0 {
            self.times.remove(&name);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_expected_as_often_as_it_was_given_back() {
        let given_back = GivenBack::default();
        let name = Uuid::from_u128(1);
        given_back.note(name);
        given_back.note(name);

        let known = [(); 3].map(|()| given_back.take(name));

        assert_eq!(known, [true, true, false]);
        assert!(!given_back.take(Uuid::from_u128(2)));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let given_back = GivenBack::default();
        for n in 0..2 * LIMIT as u128 {
            given_back.note(Uuid::from_u128(n));
        }

        let names = given_back.0.lock().unwrap();
        assert_eq!((names.times.len(), names.order.len()), (LIMIT, LIMIT));
    }
}
