//! Functions of the service that the log calls when something fails.
//!
//! Input: an error, or a message that goes to the dead letters. Output: the service's function was called, and a
//! panic in it was caught.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::{
    Message,
    broker::Cause,
    runtime::{crew::panic_text, inside::Inside},
};

type ErrorHook = Arc<dyn Fn(&sqlx::Error) + Send + Sync>;
type HandlerHook = Arc<dyn Fn(&Message, &Cause) + Send + Sync>;

/// The service's functions. Each is called in the task that has failed, so it must be quick.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    /// When the log cannot be read.
    pub(crate) on_read: Option<ErrorHook>,
    /// When the progress cannot be written, or the database refuses a message.
    pub(crate) on_commit: Option<ErrorHook>,
    /// When a message goes to the dead letters.
    pub(crate) on_handler: Option<HandlerHook>,
    /// When a message is held.
    pub(crate) on_held: Option<HandlerHook>,
}

impl Hooks {
    /// Calls `on_read`.
    pub(crate) fn read(&self, error: &sqlx::Error) {
        if let Some(hook) = &self.on_read {
            call(|| hook(error));
        }
    }

    /// Calls `on_commit`.
    pub(crate) fn commit(&self, error: &sqlx::Error) {
        if let Some(hook) = &self.on_commit {
            call(|| hook(error));
        }
    }

    /// Calls `on_handler`.
    pub(crate) fn handler(&self, message: &Message, why: &Cause) {
        if let Some(hook) = &self.on_handler {
            call(|| hook(message, why));
        }
    }

    /// Calls `on_held`.
    pub(crate) fn held(&self, message: &Message, why: &Cause) {
        if let Some(hook) = &self.on_held {
            call(|| hook(message, why));
        }
    }
}

/// Calls a hook. A panic in it must not end the task of the log that calls it.
fn call(hook: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Inside::Hook.call(hook))) {
        tracing::error!(
            target: "final::log",
            panic = panic_text(&*panic),
            "a hook of the log panicked"
        );
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::inside::BusNumber;

    #[test]
    fn a_hook_that_panics_is_survived() {
        let hooks = Hooks {
            on_read: Some(Arc::new(|_| panic!("as a bug would"))),
            ..Hooks::default()
        };

        hooks.read(&sqlx::Error::PoolTimedOut);
    }

    #[test]
    fn a_shutdown_would_wait_for_a_hook() {
        let (seen, is_seen) = std::sync::mpsc::channel();
        let hooks = Hooks {
            on_commit: Some(Arc::new(move |_| {
                let _ = seen.send(Inside::is_awaited_by(BusNumber::new()));
            })),
            ..Hooks::default()
        };

        hooks.commit(&sqlx::Error::PoolTimedOut);

        assert_eq!(is_seen.try_recv(), Ok(true));
    }
}
