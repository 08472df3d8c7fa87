//! A new connection, and what of ours its server does not have.

use std::{sync::Arc, time::Instant};

use super::Engine;
use crate::{OutboxDatabase, database::DbResult};

impl<DB: OutboxDatabase> Engine<DB> {
    /// Makes sure that there is a connection, and that what we know is true of its server.
    pub(super) async fn reconnect(&mut self) -> DbResult<()> {
        if self.session.is_open() {
            return Ok(());
        }
        self.session.open().await?;
        self.is_same_server = false;
        let compared = self.compare().await;
        if compared.is_err() {
            self.session.close().await;
        }
        compared
    }

    /// Lets go of lanes that are not ours by the table; of all, if the server has forgotten anything
    /// we have read. What is ours is then taken in again as it is written.
    async fn compare(&mut self) -> DbResult<()> {
        if self.streams.is_empty() {
            self.session.forget();
            return Ok(());
        }
        let member = Arc::clone(&self.member);
        let rows = self.session.lanes(&member.group).await?;
        let remembers = self.session.remembers(&rows, member.id).await?;
        if !remembers {
            tracing::warn!(
                service = &*member.group,
                "the database may not have everything it has shown before: it lost its last \
                 commits in a crash, another one took over, or others have our lanes; reading again \
                 from what it has"
            );
            self.session.forget();
            member.watermarks().forget();
        }
        self.keep_only(if remembers { &rows } else { &[] });
        self.look_at = Instant::now();
        Ok(())
    }
}
