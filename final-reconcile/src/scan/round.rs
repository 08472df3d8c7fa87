//! A scan, as the lease of a unit runs it.

use std::time::Duration;

use futures::future::BoxFuture;

use super::{
    context::{Context, Ended},
    store::ScanKind,
};

/// A scan: rounds that follow each other.
pub(super) trait Scan: Send {
    /// Which one.
    fn kind(&self) -> ScanKind;
    /// Does one round. Returns how long to wait for the next.
    fn round<'a>(&'a mut self, context: &'a Context) -> BoxFuture<'a, Result<Duration, Ended>>;
}
