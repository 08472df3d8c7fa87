//! What takes the rows of a walk that look different.

use futures::future::BoxFuture;

use super::report::Walked;
use crate::{
    error::Reconciled,
    form::{Row, RowHash},
};

/// What takes the rows of a walk that look different.
pub(crate) trait Sink: Send {
    /// A row, and what both sides had.
    fn add(&mut self, key: Row, source: Option<RowHash>, target: Option<RowHash>);
    /// Waits until there is room for a page more.
    fn make_room(&mut self) -> BoxFuture<'_, Reconciled<()>>;
    /// Everything up to this key was compared; all, if there is none.
    fn after_chunk<'a>(
        &'a mut self,
        until: Option<&'a Row>,
        walked: Walked,
    ) -> BoxFuture<'a, Reconciled<()>>;
}
