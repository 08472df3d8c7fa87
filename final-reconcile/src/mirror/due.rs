//! When a row that looks different is looked at again.

use std::time::Duration;

/// When a row that looks different is looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// So much later.
    After(Duration),
    /// Once the mirror has passed this time of the source's clock, in microseconds since 1970.
    Passed(i64),
}

impl Default for Due {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}
