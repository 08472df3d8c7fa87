//! How often messages came back, over the time in which the broker has them again.
//!
//! Input: messages that leave this node unsettled, after clients gave them back. State: their counts, at most 10,000;
//! the oldest are forgotten first. Output: the count, once the message is here again.
//!
//! It is this node's memory. A message that comes to another node begins anew there, unless the broker counts as well.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use final_core::MessageId;

/// How many messages are remembered.
const MOST: usize = 10_000;

type AttemptKey = (Arc<str>, MessageId);

/// The counts of all groups of this node.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    known: Mutex<KnownAttempts>,
    /// How many are known, to be asked without the lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct KnownAttempts {
    /// Each count, with the number under which it stands in `order`.
    counts: HashMap<AttemptKey, (u32, u64)>,
    /// From the oldest to the newest. Numbers that `counts` no longer has are left over.
    order: VecDeque<(u64, AttemptKey)>,
    next: u64,
}

impl Attempts {
    /// Remembers how often a message came back.
    pub(super) fn remember(&self, group: &Arc<str>, id: MessageId, failed: u32) {
        if failed == 0 {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(group), id);
        let number = known.next;
        known.next += 1;
        known.order.push_back((number, key.clone()));
        known.counts.insert(key, (failed, number));
        while known.order.len() > MOST {
            let Some((number, key)) = known.order.pop_front() else {
                break;
            };
            if known
                .counts
                .get(&key)
                .is_some_and(|(_, own)| *own == number)
            {
                known.counts.remove(&key);
            }
        }
        self.len.store(known.counts.len(), Ordering::Relaxed);
    }

    /// Takes the count of a message. 0 if it is not known.
    pub(super) fn take(&self, group: &Arc<str>, id: MessageId) -> u32 {
        if self.len.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.counts.remove(&(Arc::clone(group), id));
        self.len.store(known.counts.len(), Ordering::Relaxed);
        count.map_or(0, |(failed, _)| failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_remembered_once_and_for_its_group_alone() {
        let (attempts, id) = (Attempts::default(), MessageId::new());
        let (mine, other): (Arc<str>, Arc<str>) = ("g/t".into(), "h/t".into());
        attempts.remember(&mine, id, 3);

        assert_eq!(attempts.take(&other, id), 0);
        assert_eq!(attempts.take(&mine, id), 3);
        assert_eq!(attempts.take(&mine, id), 0);
    }

    #[test]
    fn what_came_back_long_ago_is_forgotten_first() {
        let (attempts, group): (_, Arc<str>) = (Attempts::default(), "g/t".into());
        let ids: Vec<MessageId> = (0..MOST + 10).map(|_| MessageId::new()).collect();
        for id in &ids {
            attempts.remember(&group, *id, 1);
        }
        // A message that comes and goes again and again.
        for _ in 0..MOST / 2 {
            attempts.remember(&group, ids[MOST], 2);
        }

        let known = attempts.known.lock().unwrap();
        assert!(known.counts.len() <= MOST && known.order.len() <= MOST);
        drop(known);
        assert_eq!(attempts.take(&group, ids[0]), 0);
        assert_eq!(attempts.take(&group, ids[MOST]), 2);
        assert_eq!(attempts.take(&group, ids[MOST + 9]), 1);
    }
}
