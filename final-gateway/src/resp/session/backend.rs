//! What sessions need of the rest of the gateway. Tests put something simpler behind it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use final_core::Message;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::{
    groups::{CommitError, GroupError, Lot, Taken},
    names::Pair,
    publish::PublishError,
    rights::{AuthError, Denied, Operation},
};

/// Ends after the COMMIT of a message.
pub(crate) type BoxedAnswer = BoxFuture<'static, Result<(), PublishError>>;

/// The rights, the publisher and the groups.
pub(crate) trait Backend: Clone + Send + Sync + 'static {
    type App: Client;
    type Holder: Hand;

    /// See [`Rights::authenticate`](crate::rights::Rights::authenticate).
    fn authenticate(
        &self,
        from: IpAddr,
        key: &str,
        secret: &[u8],
    ) -> impl Future<Output = Result<Self::App, AuthError>> + Send;

    /// See [`Publisher::submit`](crate::publish::Publisher::submit).
    fn submit(
        &self,
        message: Message,
        patience: Duration,
    ) -> impl Future<Output = Result<BoxedAnswer, PublishError>> + Send;

    /// See [`Groups::hold_from`](crate::groups::Groups::hold_from).
    fn hold(
        &self,
        app: &Self::App,
        pair: &Pair,
        from: SocketAddr,
    ) -> impl Future<Output = Result<Self::Holder, GroupError>> + Send;
}

/// An app that has logged in. See [`App`](crate::rights::App).
pub(crate) trait Client: Clone + Send + Sync + 'static {
    type Permit: Send + Sync;

    fn key(&self) -> &str;
    fn may(&self, operation: Operation, group: &str, topic: &str) -> Result<(), Denied>;
    fn spend(
        &self,
        operation: Operation,
        group: &str,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied>;
    fn connect(&self) -> Result<Self::Permit, Denied>;
    fn batch(&self, group: &str, topic: &str) -> Option<u32>;
    fn revoked(&self) -> CancellationToken;
}

/// What a subscriber has in hand. See [`Holder`](crate::groups::Holder).
pub(crate) trait Hand: Send + 'static {
    fn take(&mut self, lot: Lot) -> impl Future<Output = Result<Vec<Taken>, GroupError>> + Send;
    fn commit(&mut self, partition: i64, offset: i64) -> Result<(), CommitError>;
    fn skip(&mut self, taken: &Taken);
}
