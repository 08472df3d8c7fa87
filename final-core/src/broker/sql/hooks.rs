//! What a service wants to be told of.

use std::{fmt, sync::Arc};

use crate::{Message, broker::DeadLetter};

type ErrorHook = Arc<dyn Fn(&sqlx::Error) + Send + Sync>;
type HandlerHook = Arc<dyn Fn(&Message, &DeadLetter) + Send + Sync>;

/// Functions of the caller's, each called where it happens: they must be quick.
#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) on_read: Option<ErrorHook>,
    pub(super) on_commit: Option<ErrorHook>,
    pub(super) on_handler: Option<HandlerHook>,
}

impl Hooks {
    pub(super) fn read(&self, error: &sqlx::Error) {
        if let Some(hook) = &self.on_read {
            hook(error);
        }
    }

    pub(super) fn commit(&self, error: &sqlx::Error) {
        if let Some(hook) = &self.on_commit {
            hook(error);
        }
    }

    pub(super) fn handler(&self, message: &Message, why: &DeadLetter) {
        if let Some(hook) = &self.on_handler {
            hook(message, why);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
