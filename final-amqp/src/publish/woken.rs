//! Which messages in flight have news, so that the others are not asked.
//!
//! Input: wake-ups of the messages' futures, from any thread. State: the numbers of the messages that woke. Output:
//! these numbers, once each; and a wake-up of the task that serves the channel.
//!
//! Some thousand messages may be in flight on a channel. Asking each of them at every answer would cost more than
//! sending them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Wake, Waker},
};

use futures::task::AtomicWaker;

use crate::lock::lock;

/// The messages of one channel that woke.
#[derive(Debug, Default)]
pub(crate) struct Woken {
    numbers: Mutex<Vec<u64>>,
    task: AtomicWaker,
}

/// A message's place in the list.
#[derive(Debug)]
pub(crate) struct NewsOf {
    number: u64,
    is_listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Woken {
    /// Makes this the task that is woken from now on.
    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Takes the numbers, in order.
    pub(crate) fn take(&self, numbers: &mut Vec<u64>) {
        numbers.append(&mut lock(&self.numbers));
        numbers.sort_unstable();
    }
}

impl NewsOf {
    pub(crate) fn message(number: u64, woken: &Arc<Woken>) -> Arc<Self> {
        Arc::new(Self {
            number,
            is_listed: AtomicBool::new(false),
            woken: Arc::clone(woken),
        })
    }

    /// To be called right before the message's future is polled: news from then on lists it again.
    pub(crate) fn is_asked(&self) {
        self.is_listed.store(false, SeqCst);
    }
}

impl Wake for NewsOf {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        {
            // Within the lock: who finds it listed has to find its number as well.
            let mut numbers = lock(&self.woken.numbers);
            if self.is_listed.swap(true, SeqCst) {
                return;
            }
            numbers.push(self.number);
        }
        self.woken.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(woken: &Woken) -> Vec<u64> {
        let mut numbers = Vec::new();
        woken.take(&mut numbers);
        numbers
    }

    #[test]
    fn a_message_that_woke_twice_is_listed_once_until_it_is_asked() {
        let woken = Arc::new(Woken::default());
        let (first, second) = (NewsOf::message(1, &woken), NewsOf::message(2, &woken));
        for waker in [&second, &first, &second] {
            waker.wake_by_ref();
        }
        assert_eq!(taken(&woken), [1, 2]);

        first.wake_by_ref();
        assert!(taken(&woken).is_empty(), "it has not been asked since");
        first.is_asked();
        first.wake_by_ref();
        assert_eq!(taken(&woken), [1]);
    }
}
