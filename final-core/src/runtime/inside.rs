//! Whether code runs inside what a shutdown waits for.
//!
//! Input: a handler or a hook about to run, with the number of its bus. State: a value of the task, for as long as
//! the handler or hook runs. Output: [`Inside::is_awaited_by`], which a shutdown asks before it begins.
//!
//! A task that a handler spawns is outside. A handler that waits for such a task waits for its shutdown all the same,
//! and no check can see that.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
};

/// Tells one bus of the process from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusNumber(u64);

/// What the current code is a part of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inside {
    /// A handler or a layer of this bus.
    Handler(BusNumber),
    /// A function of the service that a task of some bus calls.
    Hook,
}

tokio::task_local! {
    static INSIDE: Inside;
}

impl BusNumber {
    /// A number that no other bus has.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Inside {
    /// Runs a future as a part of this.
    pub(crate) fn run<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        INSIDE.scope(self, future)
    }

    /// Calls a function as a part of this.
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql", feature = "sqlite")),
        allow(dead_code)
    )]
    pub(crate) fn call<T>(self, function: impl FnOnce() -> T) -> T {
        INSIDE.sync_scope(self, function)
    }

    /// Whether the current code belongs to what a shutdown of this bus waits for.
    pub(crate) fn is_awaited_by(bus: BusNumber) -> bool {
        INSIDE
            .try_with(|inside| match inside {
                Self::Handler(own) => *own == bus,
                Self::Hook => true,
            })
            .unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handler_is_inside_its_own_bus_alone() {
        let (own, other) = (BusNumber::new(), BusNumber::new());
        let seen = Inside::Handler(own)
            .run(async { (Inside::is_awaited_by(own), Inside::is_awaited_by(other)) })
            .await;
        assert_eq!(seen, (true, false));
        assert!(!Inside::is_awaited_by(own));
    }

    #[tokio::test]
    async fn a_task_that_a_handler_spawns_is_outside() {
        let own = BusNumber::new();
        let spawned = async { tokio::spawn(async move { Inside::is_awaited_by(own) }).await };
        assert!(!Inside::Handler(own).run(spawned).await.unwrap());
    }

    #[test]
    fn a_hook_is_inside_every_bus() {
        assert!(Inside::Hook.call(|| Inside::is_awaited_by(BusNumber::new())));
        assert!(!Inside::is_awaited_by(BusNumber::new()));
    }
}
