//! Places between two steps where a test ends the process, to check what the next process does.
//!
//! Only the tests of this repository switch them on, with a feature; otherwise [`pass`] is empty.

/// A place between two steps that do not happen at once.
///
/// ```text
/// INSERT ─ AfterInsert ─ COMMIT ─ AfterCommit ─ publish ─ AfterPublish ─ confirm ─ AfterConfirm ─ acked
/// delivery ─ BeforeHandler ─ handler ─ AfterHandler ─ ack
/// delivery ─ INSERT, COMMIT ─ AfterDetour ─ ack
/// dead letter ─ INSERT, COMMIT ─ AfterCollect ─ ack
/// change ─ read ─ AfterChangeRead ─ messages, position ─ AfterChanges ─ COMMIT ─ AfterChangesSaved ─ told to the source
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// The outbox records are inserted and not committed.
    AfterInsert,
    /// The transaction is committed, and its messages are not handed over.
    AfterCommit,
    /// A message was given to the broker's client, and has no confirm.
    AfterPublish,
    /// Confirms have come in, and their records are not acked.
    AfterConfirm,
    /// A delivery has come in, and its handler has not run.
    BeforeHandler,
    /// A handler is done, and its delivery is not acked.
    AfterHandler,
    /// A message has left its queue for a while and is committed, and its delivery is not acked.
    AfterDetour,
    /// Dead letters are collected and committed, and not acked in the broker's queue.
    AfterCollect,
    /// Changes of a source were read and made messages, and are not written.
    AfterChangeRead,
    /// Messages of changes are at the target, and their position is not committed.
    AfterChanges,
    /// Messages and position are committed, and the source is not told.
    AfterChangesSaved,
}

/// Runs the action that was armed for this place, if its turn has come.
#[cfg(not(feature = "__failpoints"))]
#[inline(always)]
pub fn pass(_: Failpoint) {}

#[cfg(feature = "__failpoints")]
pub use armed::{arm, pass};

#[cfg(feature = "__failpoints")]
mod armed {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use super::Failpoint;
    use crate::lock::lock;

    /// Spares the lock as long as nothing is armed.
    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static ARMED: Mutex<Option<Armed>> = Mutex::new(None);

    struct Armed {
        at: Failpoint,
        left: u32,
        action: fn(),
    }

    /// Runs `action` when the place is passed for the `nth` time from now on. One place at a time.
    pub fn arm(at: Failpoint, nth: u32, action: fn()) {
        let armed = Armed {
            at,
            left: nth,
            action,
        };
        *lock(&ARMED) = Some(armed);
        IS_ARMED.store(true, Ordering::Release);
    }

    /// Runs the action that was armed for this place, if its turn has come.
    pub fn pass(at: Failpoint) {
        if !IS_ARMED.load(Ordering::Acquire) {
            return;
        }
        let mut armed = lock(&ARMED);
        let Some(here) = armed.as_mut().filter(|armed| armed.at == at) else {
            return;
        };
        here.left = here.left.saturating_sub(1);
        if here.left == 0 {
            let action = here.action;
            *armed = None;
            drop(armed);
            action();
        }
    }
}
