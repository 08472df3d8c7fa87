//! A value that is written by our serializer, with what is known of its surroundings.

use super::context::Context;

/// A value, with the context where it is written.
pub(super) struct ValueInContext<'a, T: ?Sized> {
    pub(super) value: &'a T,
    pub(super) context: Context,
}

impl<'a, T: ?Sized> ValueInContext<'a, T> {
    pub(super) fn new(value: &'a T, context: Context) -> Self {
        Self { value, context }
    }
}
