//! A backend without a database.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use final_core::{Message, MessageId};
use futures::FutureExt;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::super::backend::{Backend, BoxedAnswer, Client, Hand};
use crate::{
    groups::{CommitError, GroupError, Lot, Taken},
    names::Pair,
    publish::PublishError,
    rights::{AuthError, Denied, Operation},
};

/// A backend without a database. The apps `k` and `other` with the secret `s` may do everything with the group `g` and the topic `t`.
#[derive(Clone)]
pub(super) struct Fake {
    state: Arc<Mutex<State>>,
    /// How many messages are committed.
    committed: watch::Sender<usize>,
    /// Something was put into the stock.
    arrived: Arc<Notify>,
}

#[derive(Default)]
struct State {
    submitted: Vec<Message>,
    error: Option<PublishError>,
    denied: Option<Denied>,
    denied_next: Option<Denied>,
    debt: Option<Duration>,
    revoked: CancellationToken,
    connections: usize,
    is_away: bool,
    is_stuck: bool,
    stock: VecDeque<Taken>,
    held: Vec<Pair>,
    holders: usize,
    lots: Vec<Lot>,
    settled: Vec<String>,
}

impl Fake {
    /// One that commits every message at once.
    pub(super) fn new() -> Self {
        let fake = Self::holding_back();
        fake.commit(usize::MAX);
        fake
    }

    /// One that commits nothing before [`commit`](Self::commit).
    pub(super) fn holding_back() -> Self {
        Self {
            state: Arc::default(),
            committed: watch::channel(0).0,
            arrived: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Commits so many messages in all.
    pub(super) fn commit(&self, messages: usize) {
        self.committed.send_replace(messages);
    }

    pub(super) fn fail(&self, error: PublishError) {
        self.state().error = Some(error);
    }

    pub(super) fn submitted(&self) -> Vec<Message> {
        self.state().submitted.clone()
    }

    /// Takes rights away, or gives them back, and tells the connections.
    pub(super) fn rights(&self, denied: Option<Denied>) {
        let mut state = self.state();
        state.denied = denied;
        std::mem::take(&mut state.revoked).cancel();
    }

    /// Takes rights away just after they were asked for the next time, and tells the connections.
    pub(super) fn rights_after_next(&self, denied: Denied) {
        self.state().denied_next = Some(denied);
    }

    /// Owes this time before the next delivery.
    pub(super) fn owe(&self, debt: Option<Duration>) {
        self.state().debt = debt;
    }

    /// Opens no group any more, and does not say so.
    pub(super) fn get_stuck(&self) {
        self.state().is_stuck = true;
    }

    pub(super) fn lose_broker(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    pub(super) fn connections(&self) -> usize {
        self.state().connections
    }

    pub(super) fn holders(&self) -> usize {
        self.state().holders
    }

    pub(super) fn held(&self) -> Vec<Pair> {
        self.state().held.clone()
    }

    pub(super) fn lots(&self) -> Vec<Lot> {
        self.state().lots.clone()
    }

    /// What was committed and skipped.
    pub(super) fn settled(&self) -> Vec<String> {
        self.state().settled.clone()
    }

    /// Puts a message there for the next `MGET`.
    pub(super) fn deliver(&self, offset: i64, payload: &'static str, color: &str) {
        let id: MessageId = "018bcfe5-6800-7000-8000-000000000001".parse().unwrap();
        let mut message =
            Message::identified(id, "t", payload).with_content_type("application/json");
        if !color.is_empty() {
            message = message.with_header("color", color);
        }
        self.state().stock.push_back(Taken {
            message,
            partition: 3,
            offset,
            seq: Some(offset),
            attempt: 1,
        });
        self.arrived.notify_one();
    }

    pub(super) fn stock(&self) -> usize {
        self.state().stock.len()
    }
}

impl Backend for Fake {
    type App = FakeApp;
    type Holder = FakeHand;

    async fn authenticate(
        &self,
        _: IpAddr,
        key: &str,
        secret: &[u8],
    ) -> Result<FakeApp, AuthError> {
        match (key, secret) {
            ("k", b"s") => Ok(FakeApp(self.clone(), "k")),
            ("other", b"s") => Ok(FakeApp(self.clone(), "other")),
            ("k", _) => Err(AuthError::Secret),
            ("away", _) => Err(AuthError::Unknown),
            _ => Err(AuthError::Key),
        }
    }

    async fn submit(&self, message: Message, _: Duration) -> Result<BoxedAnswer, PublishError> {
        let mut state = self.state();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        state.submitted.push(message);
        let number = state.submitted.len();
        let mut committed = self.committed.subscribe();
        Ok(async move {
            let _ = committed.wait_for(|committed| *committed >= number).await;
            Ok(())
        }
        .boxed())
    }

    async fn hold(&self, _: &FakeApp, pair: &Pair, _: SocketAddr) -> Result<FakeHand, GroupError> {
        let is_stuck = self.state().is_stuck;
        if is_stuck {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        state.held.push(pair.clone());
        state.holders += 1;
        Ok(FakeHand(self.clone()))
    }
}

#[derive(Clone)]
pub(super) struct FakeApp(Fake, &'static str);

pub(super) struct FakePermit(Fake);

impl Drop for FakePermit {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
    }
}

impl Client for FakeApp {
    type Permit = FakePermit;

    fn key(&self) -> &str {
        self.1
    }

    fn may(&self, _: Operation, group: &str, topic: &str) -> Result<(), Denied> {
        let answer = match (group, topic, &self.0.state().denied) {
            (_, _, Some(denied)) => Err(denied.clone()),
            ("g", "t", None) => Ok(()),
            ("g", _, None) => Err(Denied::Topic),
            _ => Err(Denied::Group),
        };
        let next = self.0.state().denied_next.take();
        if next.is_some() {
            self.0.rights(next);
        }
        answer
    }

    fn spend(&self, _: Operation, _: &str, _: &str, _: u32) -> Result<(), Denied> {
        match self.0.state().debt {
            Some(debt) => Err(Denied::Rate(debt)),
            None => Ok(()),
        }
    }

    fn connect(&self) -> Result<FakePermit, Denied> {
        self.0.state().connections += 1;
        Ok(FakePermit(self.0.clone()))
    }

    fn batch(&self, _: &str, _: &str) -> Option<u32> {
        None
    }

    fn revoked(&self) -> CancellationToken {
        self.0.state().revoked.clone()
    }
}

pub(super) struct FakeHand(Fake);

impl Drop for FakeHand {
    fn drop(&mut self) {
        self.0.state().holders -= 1;
    }
}

impl Hand for FakeHand {
    async fn take(&mut self, lot: Lot) -> Result<Vec<Taken>, GroupError> {
        self.0.state().lots.push(lot);
        if self.0.state().is_away {
            return Err(GroupError::Away("gone".to_owned()));
        }
        let filled = async {
            while self.0.stock() == 0 {
                self.0.arrived.notified().await;
            }
        };
        let _ = tokio::time::timeout(lot.wait, filled).await;
        let mut state = self.0.state();
        let count = lot.messages.min(state.stock.len());
        Ok(state.stock.drain(..count).collect())
    }

    fn commit(&mut self, partition: i64, offset: i64) -> Result<(), CommitError> {
        if partition > 15 {
            return Err(CommitError::Partition(partition));
        }
        if offset < 0 {
            return Err(CommitError::Offset(offset));
        }
        self.0
            .state()
            .settled
            .push(format!("commit {partition} {offset}"));
        Ok(())
    }

    fn skip(&mut self, taken: &Taken) {
        self.0
            .state()
            .settled
            .push(format!("skip {}", taken.offset));
    }
}
