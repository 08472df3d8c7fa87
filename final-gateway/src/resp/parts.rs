//! The parts of the gateway behind a session.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use final_core::Message;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::session::{Backend, BoxedAnswer, Client, Hand};
use crate::{
    groups::{CommitError, GroupError, Groups, Holder, Lot, Taken},
    names::Pair,
    publish::{PublishError, Publisher},
    rights::{App, AuthError, ConnectionPermit, Denied, Operation, Rights},
};

/// The parts of the gateway behind a session.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) publisher: Publisher,
    pub(super) groups: Groups,
    pub(super) rights: Rights,
}

impl Backend for Parts {
    type App = App;
    type Holder = Holder;

    async fn authenticate(&self, from: IpAddr, key: &str, secret: &[u8]) -> Result<App, AuthError> {
        self.rights.authenticate(Some(from), key, secret).await
    }

    async fn submit(
        &self,
        message: Message,
        patience: Duration,
    ) -> Result<BoxedAnswer, PublishError> {
        let later = self.publisher.submit(message, false, patience).await?;
        Ok(later.map(|published| published.map(|_| ())).boxed())
    }

    async fn hold(&self, app: &App, pair: &Pair, from: SocketAddr) -> Result<Holder, GroupError> {
        let groups = self.groups.for_app(app.key(), app.open_pairs());
        groups.hold_from(pair, from).await
    }
}

impl Client for App {
    type Permit = ConnectionPermit;

    fn key(&self) -> &str {
        self.key()
    }

    fn may(&self, operation: Operation, group: &str, topic: &str) -> Result<(), Denied> {
        self.may(operation, Some(group), topic)
    }

    fn spend(
        &self,
        operation: Operation,
        group: &str,
        topic: &str,
        messages: u32,
    ) -> Result<(), Denied> {
        self.spend(operation, Some(group), topic, messages)
    }

    fn connect(&self) -> Result<ConnectionPermit, Denied> {
        self.connect()
    }

    fn batch(&self, group: &str, topic: &str) -> Option<u32> {
        self.batch(group, topic)
    }

    fn revoked(&self) -> CancellationToken {
        self.revoked()
    }
}

impl Hand for Holder {
    async fn take(&mut self, lot: Lot) -> Result<Vec<Taken>, GroupError> {
        self.take(lot).await
    }

    fn commit(&mut self, partition: i64, offset: i64) -> Result<(), CommitError> {
        self.commit(partition, offset)
    }

    fn skip(&mut self, taken: &Taken) {
        self.skip(taken);
    }
}
