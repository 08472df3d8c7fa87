//! What waits for a group, and its dead letters: questions that need no open broker.
//!
//! Input: the name of a group and topic. State: none. Output: counts, dead letters, replays; or the error that the
//! broker cannot tell.

use final_core::{
    Error, OutboxDatabase, SqlBroker,
    broker::{DeadLetters, LinkBacklog},
};
use futures::future::BoxFuture;

/// A broker that can be asked about its groups without being one of them.
pub(super) trait GroupDesk: DeadLetters + 'static {
    /// What waits for a group.
    fn backlog<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<LinkBacklog, Error>>;
}

impl<DB: OutboxDatabase> GroupDesk for SqlBroker<DB> {
    fn backlog<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<LinkBacklog, Error>> {
        Box::pin(async move {
            let log = SqlBroker::backlog(self, group).await?;
            let mut backlog = LinkBacklog::default();
            backlog.waiting = log.waiting;
            backlog.oldest = log.oldest;
            backlog.dead_letters = log.dead_letters;
            Ok(backlog)
        })
    }
}
