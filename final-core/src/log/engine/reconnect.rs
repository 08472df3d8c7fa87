//! A new connection, and whether its server still has what this member has read.
//!
//! Input: a session without a connection. Output: a connection, and the lanes that are surely still true: those
//! of the table if the server remembers everything, otherwise none.
//!
//! ```text
//!   no connection ─ open ─▶ compare ─┬─ the server has all that was read ─▶ keep the lanes that are ours
//!                                    └─ something is missing ─▶ forget all lanes, read again from the table
//! ```
//!
//! A server that lost its last commits in a crash, or another one in its place, allocates their sequence numbers
//! again. Without this comparison the messages with those numbers would be passed over.

use std::time::Instant;

use super::Engine;
use crate::{OutboxDatabase, database::DbResult};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Makes sure that there is a connection, and that the state in memory holds for its server.
    pub(super) async fn reconnect(&mut self) -> DbResult<()> {
        if self.session.is_open() {
            return Ok(());
        }
        self.session.open().await?;
        self.member.connections.add(1);
        self.group.is_same_server = false;
        let compared = self.compare().await;
        if compared.is_err() {
            self.session.close().await;
        }
        compared
    }

    /// Forgets lanes that are not this member's by the table, and all of them if the server has forgotten
    /// anything that was read. A refresh then takes this member's lanes in again, as they are written.
    async fn compare(&mut self) -> DbResult<()> {
        if self.streams.is_empty() {
            self.session.forget();
            return Ok(());
        }
        let member = &self.member;
        let rows = self.session.lanes(&member.group).await?;
        let remembers = self.session.remembers(&rows, member.id).await?;
        if !remembers {
            tracing::warn!(
                target: "final::log",
                service = &*member.group,
                "the database may not have everything it has shown before: it lost its last \
                 commits in a crash, another server took over, or other members have our lanes; \
                 reading again from what it has"
            );
            self.session.forget();
            member.watermarks().forget();
        }
        self.keep_only(if remembers { &rows } else { &[] });
        self.schedule.refresh_now(Instant::now());
        Ok(())
    }
}
