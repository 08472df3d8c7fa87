//! Messages that wait for a channel.
//!
//! Input: messages from the bus. State: whether messages are taken. Output: the oldest message.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use final_core::broker::Outgoing;
use tokio::sync::Notify;

use crate::lock::lock;

/// A queue that several channels take from. The window of the bus bounds it.
///
/// ```text
/// shut ◀──▶ open ──▶ sealed      shut: a new message is dropped, so it counts as lost
///                                sealed: takes no new messages, and gives out those it has
/// ```
#[derive(Debug)]
pub(crate) struct SendQueue {
    inner: Mutex<Messages>,
    filled: Notify,
}

#[derive(Debug)]
struct Messages {
    messages: VecDeque<Outgoing>,
    state: QueueState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueState {
    Shut,
    Open,
    Sealed,
}

impl SendQueue {
    /// A queue that is shut.
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Messages {
                messages: VecDeque::new(),
                state: QueueState::Shut,
            }),
            filled: Notify::new(),
        }
    }

    /// Takes a message. A queue that is shut or sealed drops it.
    pub(crate) fn push(&self, message: Outgoing) {
        let mut inner = self.lock();
        if inner.state == QueueState::Open {
            inner.messages.push_back(message);
            drop(inner);
            self.filled.notify_one();
        } else {
            // Dropping settles the message. That runs code of the bus, which may push again.
            drop(inner);
            drop(message);
        }
    }

    /// Takes back messages that were in this queue before.
    pub(crate) fn put_back(&self, messages: Vec<Outgoing>) {
        let mut inner = self.lock();
        if inner.state == QueueState::Shut {
            drop(inner);
            drop(messages);
        } else {
            for message in messages.into_iter().rev() {
                inner.messages.push_front(message);
            }
            drop(inner);
            self.filled.notify_one();
        }
    }

    /// The oldest message.
    pub(crate) fn pop(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        let message = inner.messages.pop_front();
        if !inner.messages.is_empty() {
            // Another channel may have room for the next.
            self.filled.notify_one();
        }
        message
    }

    /// Waits until there is something to take.
    pub(crate) async fn filled(&self) {
        while self.is_empty() {
            self.filled.notified().await;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    pub(crate) fn open(&self) {
        let mut inner = self.lock();
        if inner.state == QueueState::Shut {
            inner.state = QueueState::Open;
        }
    }

    pub(crate) fn seal(&self) {
        let mut inner = self.lock();
        if inner.state == QueueState::Open {
            inner.state = QueueState::Sealed;
        }
    }

    /// Drops all messages. They were not sent, so they count as lost.
    pub(crate) fn shut(&self) {
        let mut inner = self.lock();
        inner.state = QueueState::Shut;
        let messages = std::mem::take(&mut inner.messages);
        drop(inner);
        drop(messages);
    }

    fn lock(&self) -> MutexGuard<'_, Messages> {
        lock(&self.inner)
    }
}
