//! What HTTP needs of the rest of the gateway, behind a trait: the tests bring rooms of their own, with the failures
//! that a real database shows only now and then.
//!
//! Input: checked requests. Output: what publisher, groups and rights say.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use final_core::{
    Message,
    broker::{DeadLetter, DeadLetterFilter, LinkBacklog},
};
use futures::future::{BoxFuture, FutureExt};
use tokio_util::sync::CancellationToken;

use crate::{
    groups::{GroupError, Groups, Lot, Pulled, ReceiptError},
    names::Pair,
    publish::{PublishError, Published, Publisher},
    rights::{App, AuthError, Denied, Operation, Rights},
};

/// What comes of a message that was taken into the queue.
pub(super) type Submitted = BoxFuture<'static, Result<Published, PublishError>>;

/// One result for each receipt.
pub(super) type Settled = Vec<Result<(), ReceiptError>>;

/// What to do with messages in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ack,
    Nack {
        delay: Duration,
        reason: Option<String>,
    },
    Extend(Duration),
}

/// How long messages may be in hand, and wait after a nack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Longest {
    pub(super) visibility: Duration,
    pub(super) delay: Duration,
}

/// The parts of the gateway that HTTP uses.
pub(super) trait Rooms: Send + Sync + 'static {
    fn authenticate<'a>(
        &'a self,
        from: Option<IpAddr>,
        key: &'a str,
        secret: &'a [u8],
    ) -> BoxFuture<'a, Result<Arc<dyn Caller>, AuthError>>;

    fn submit(
        &self,
        message: Message,
        wants_place: bool,
        patience: Duration,
    ) -> BoxFuture<'_, Result<Submitted, PublishError>>;

    fn pull<'a>(
        &'a self,
        caller: &'a dyn Caller,
        pairs: &'a [Pair],
        lot: Lot,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<Vec<Pulled>, GroupError>>;

    /// From where the connections of a group come.
    fn addresses(&self, group: &str) -> Vec<SocketAddr>;

    /// The longest time in hand, and the longest delay, that this engine has.
    fn longest(&self) -> Longest;

    /// Of which group and topic the message of a receipt is.
    fn pair_of(&self, receipt: &str) -> Result<Pair, ReceiptError>;

    fn settle<'a>(
        &'a self,
        group: &'a str,
        receipts: &'a [String],
        order: &'a Order,
    ) -> BoxFuture<'a, Settled>;

    fn backlog<'a>(&'a self, pair: &'a Pair) -> BoxFuture<'a, Result<LinkBacklog, GroupError>>;

    fn dead_letters<'a>(
        &'a self,
        pair: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, GroupError>>;

    fn replay<'a>(
        &'a self,
        pair: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, GroupError>>;
}

/// An app whose secret was right.
pub(super) trait Caller: Send + Sync + 'static {
    fn key(&self) -> &str;
    fn may(&self, operation: Operation, group: Option<&str>, topic: &str) -> Result<(), Denied>;
    fn spend(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied>;
    /// Counts a request as a connection, until what it gives is dropped.
    fn connect(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, Denied>;
    /// Whether it may consume anything in the group.
    fn consumes(&self, group: &str) -> bool;
    fn batch(&self, group: &str, topic: &str) -> Option<u32>;
    fn open_pairs(&self) -> Option<u32>;
    fn revoked(&self) -> CancellationToken;
}

/// The rooms of a real gateway.
pub(super) struct Real {
    publisher: Publisher,
    groups: Groups,
    rights: Rights,
}

impl Real {
    pub(super) fn new(publisher: Publisher, groups: Groups, rights: Rights) -> Self {
        Self {
            publisher,
            groups,
            rights,
        }
    }
}

impl Rooms for Real {
    fn authenticate<'a>(
        &'a self,
        from: Option<IpAddr>,
        key: &'a str,
        secret: &'a [u8],
    ) -> BoxFuture<'a, Result<Arc<dyn Caller>, AuthError>> {
        async move {
            let app = self.rights.authenticate(from, key, secret).await?;
            Ok(Arc::new(app) as Arc<dyn Caller>)
        }
        .boxed()
    }

    fn submit(
        &self,
        message: Message,
        wants_place: bool,
        patience: Duration,
    ) -> BoxFuture<'_, Result<Submitted, PublishError>> {
        async move {
            let submitted = self.publisher.submit(message, wants_place, patience);
            Ok(submitted.await?.boxed())
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        caller: &'a dyn Caller,
        pairs: &'a [Pair],
        lot: Lot,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<Vec<Pulled>, GroupError>> {
        let groups = self.groups.for_app(caller.key(), caller.open_pairs());
        async move { groups.pull(pairs, lot, visibility).await }.boxed()
    }

    fn addresses(&self, group: &str) -> Vec<SocketAddr> {
        self.groups.addresses(group)
    }

    fn longest(&self) -> Longest {
        Longest {
            visibility: self.groups.most_visibility(),
            delay: self.groups.most_delay(),
        }
    }

    fn pair_of(&self, receipt: &str) -> Result<Pair, ReceiptError> {
        self.groups.pair_of(receipt)
    }

    fn settle<'a>(
        &'a self,
        group: &'a str,
        receipts: &'a [String],
        order: &'a Order,
    ) -> BoxFuture<'a, Settled> {
        async move {
            match order {
                Order::Ack => self.groups.ack(group, receipts).await,
                Order::Nack { delay, reason } => {
                    let reason = reason.as_deref();
                    self.groups.nack(group, receipts, *delay, reason).await
                }
                Order::Extend(visibility) => self.groups.extend(group, receipts, *visibility).await,
            }
        }
        .boxed()
    }

    fn backlog<'a>(&'a self, pair: &'a Pair) -> BoxFuture<'a, Result<LinkBacklog, GroupError>> {
        self.groups.backlog(pair).boxed()
    }

    fn dead_letters<'a>(
        &'a self,
        pair: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, GroupError>> {
        self.groups.dead_letters(pair, filter).boxed()
    }

    fn replay<'a>(
        &'a self,
        pair: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, GroupError>> {
        self.groups.replay(pair, filter).boxed()
    }
}

impl Caller for App {
    fn key(&self) -> &str {
        self.key()
    }

    fn may(&self, operation: Operation, group: Option<&str>, topic: &str) -> Result<(), Denied> {
        self.may(operation, group, topic)
    }

    fn spend(
        &self,
        operation: Operation,
        group: Option<&str>,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied> {
        self.spend(operation, group, topic, messages)
    }

    fn connect(&self) -> Result<Box<dyn std::any::Any + Send + Sync>, Denied> {
        Ok(Box::new(self.connect()?))
    }

    fn consumes(&self, group: &str) -> bool {
        self.consumes(group)
    }

    fn batch(&self, group: &str, topic: &str) -> Option<u32> {
        self.batch(group, topic)
    }

    fn open_pairs(&self) -> Option<u32> {
        self.open_pairs()
    }

    fn revoked(&self) -> CancellationToken {
        self.revoked()
    }
}
