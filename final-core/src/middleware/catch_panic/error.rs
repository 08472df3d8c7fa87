//! The error that a panic becomes. Input: what was panicked with. Output: its text, if it is one.

use std::any::Any;

/// The service panicked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("panicked: {text}")]
pub struct Panicked {
    text: String,
}

impl Panicked {
    pub(super) fn new(panic: &(dyn Any + Send)) -> Self {
        let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => text,
            (_, Some(text)) => text.as_str(),
            _ => "with a value that is no text",
        };
        Self {
            text: text.to_owned(),
        }
    }

    /// What it panicked with.
    pub fn text(&self) -> &str {
        &self.text
    }
}
