//! The link of one bus to an in-process broker.
//!
//! Input: messages and the steps of a shutdown. State: the number of the link, and its queue if it has topics.
//! Output: confirms, given outside the lock.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::sync::watch;

use super::hub::Hub;
use crate::broker::{Link, LinkState, Outgoing};

/// Each method is done when it returns, so the limits never matter.
///
/// Dropping the link is like losing a connection: what is in flight goes to other consumers.
pub(super) struct MemoryLink {
    pub(super) hub: Arc<Hub>,
    pub(super) number: u64,
    /// The service's queue, if it has topics.
    pub(super) queue: Option<usize>,
    pub(super) state: watch::Sender<LinkState>,
}

impl Link for MemoryLink {
    fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    fn send(&self, outgoing: Outgoing) {
        send(&self.hub, self.number, outgoing);
    }

    fn stop_consuming(&self, _limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.hub
                .enter(|state| state.stop_consuming(self.number, self.queue));
        })
    }

    fn finish_consuming(&self, _limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.hub
                .enter(|state| state.take_back(self.number, self.queue));
        })
    }

    fn close(&self, _limit: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.hub
                .enter(|state| state.disconnect(self.number, self.queue));
        })
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.hub
            .enter(|state| state.disconnect(self.number, self.queue));
    }
}

/// Publishes a message that a link was given. The confirm is given outside the lock.
pub(super) fn send(hub: &Hub, link: u64, outgoing: Outgoing) {
    let Some(outgoing) = hub.enter(|state| state.admit(link, outgoing)) else {
        return;
    };
    let Some(sending) = outgoing.into_sending() else {
        return;
    };
    let expires_in = sending.expires_in();
    let confirm = hub.enter(|state| state.publish(link, sending.message(), expires_in));
    sending.confirm(confirm);
}
