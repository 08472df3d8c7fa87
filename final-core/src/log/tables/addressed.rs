//! Messages that one group alone gets, from a source that is not a bus.
//!
//! Input: messages, the caller's transaction. Output: rows of `final_log` with the group as their recipient.

use super::{Log, entry::rows, explain};
use crate::{Error, Message, OutboxDatabase};

impl<DB: OutboxDatabase> Log<DB> {
    /// Writes messages for one group into the caller's transaction, in their order.
    pub(crate) async fn append_for(
        &self,
        conn: &mut DB::Connection,
        group: &str,
        messages: &[Message],
    ) -> Result<(), Error> {
        let append = async {
            let ready = self.ready().await?;
            for lot in rows(messages) {
                ready.now.append_for::<DB>(conn, group, &lot).await?;
            }
            Ok(())
        };
        append.await.map_err(explain::<DB>)
    }
}
