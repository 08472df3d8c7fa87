//! Rooms made up for the tests: they keep what they are given, and fail as they are told.

use std::{
    any::Any,
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use final_core::{
    Message,
    broker::{Cause, DeadLetter, DeadLetterFilter, LetterCursor, LinkBacklog, Place},
};
use futures::future::{BoxFuture, FutureExt, pending, ready};
use tokio_util::sync::CancellationToken;

use crate::{
    groups::{GroupError, Lot, Pulled, ReceiptError},
    http::rooms::{Caller, Longest, Order, Rooms, Settled, Submitted},
    names::Pair,
    publish::{PublishError, Published},
    rights::{AuthError, Denied, Operation},
};

/// The rooms. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Made(Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    /// From where the connections of the group `billing` come.
    pub(super) addresses: Vec<SocketAddr>,
    /// The limits of the engine; none where there is nothing.
    pub(super) longest: Option<Longest>,
    /// What was published.
    pub(super) published: Vec<Message>,
    /// How many asked for a place.
    pub(super) places: usize,
    /// What becomes of the next messages; published where there is nothing.
    pub(super) at_submit: VecDeque<Option<PublishError>>,
    pub(super) at_commit: VecDeque<Option<PublishError>>,
    /// What the next pull gets; it waits for ever where there is nothing.
    pub(super) pulls: VecDeque<Result<Vec<Pulled>, GroupError>>,
    /// The last pull.
    pub(super) lot: Option<(Vec<Pair>, Lot, Duration)>,
    pub(super) settled: Vec<(Vec<String>, Order)>,
    /// What becomes of receipts; settled where there is nothing.
    pub(super) receipts: HashMap<String, ReceiptError>,
    pub(super) letters: Vec<DeadLetter>,
    pub(super) replayed: Option<DeadLetterFilter>,
    pub(super) spent: Vec<u32>,
    pub(super) at_login: Option<AuthError>,
    pub(super) denied: Option<Denied>,
    pub(super) at_spend: Option<Denied>,
    pub(super) batch: Option<u32>,
    pub(super) revoked: CancellationToken,
    pub(super) from: Option<IpAddr>,
    pub(super) connections: usize,
    pub(super) panics: bool,
    /// Whether no COMMIT is answered.
    pub(super) commits_never: bool,
}

impl Made {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn shared(&self) -> Arc<dyn Rooms> {
        Arc::new(self.clone())
    }

    /// Puts a message where the next pull finds it.
    pub(super) fn offer(&self, messages: impl IntoIterator<Item = Message>) {
        let pulled = messages
            .into_iter()
            .enumerate()
            .map(|(at, message)| Pulled {
                receipt: format!("{}/receipt-{at}", message.topic()),
                message,
                partition: 3,
                seq: Some(40 + at as i64),
                attempt: 2,
            });
        self.state().pulls.push_back(Ok(pulled.collect()));
    }

    /// Makes a dead letter one that cannot be read as a message, and the last one.
    pub(super) fn spoil(&self, at: usize) {
        let mut state = self.state();
        let letter = state.letters.remove(at).unreadable("headers are no JSON");
        state.letters.push(letter);
    }

    pub(super) fn bury(&self, message: Message, reason: &str) {
        let mut state = self.state();
        let number = state.letters.len() as i64 + 1;
        let age = Duration::from_secs(7);
        let letter = DeadLetter::new("billing/t", message, Cause::new(reason, 5), age);
        state
            .letters
            .push(letter.with_cursor(LetterCursor::own(number)));
    }
}

impl Rooms for Made {
    fn authenticate<'a>(
        &'a self,
        from: Option<IpAddr>,
        key: &'a str,
        secret: &'a [u8],
    ) -> BoxFuture<'a, Result<Arc<dyn Caller>, AuthError>> {
        let mut state = self.state();
        state.from = from;
        let result = match (state.at_login.clone(), key, secret) {
            (Some(error), ..) => Err(error),
            (None, "shop", b"secret:1") => Ok(Arc::new(self.clone()) as Arc<dyn Caller>),
            (None, "shop", _) => Err(AuthError::Secret),
            _ => Err(AuthError::Key),
        };
        ready(result).boxed()
    }

    fn submit(
        &self,
        message: Message,
        wants_place: bool,
        _: Duration,
    ) -> BoxFuture<'_, Result<Submitted, PublishError>> {
        let mut state = self.state();
        assert!(!state.panics, "told to panic");
        if let Some(Some(error)) = state.at_submit.pop_front() {
            return ready(Err(error)).boxed();
        }
        if let Some(Some(error)) = state.at_commit.pop_front() {
            return ready(Ok(ready(Err(error)).boxed())).boxed();
        }
        state.places += usize::from(wants_place);
        let number = state.published.len() as i64 + 1;
        let published = Published {
            id: message.id(),
            place: wants_place.then(|| Place::new(3, number)),
        };
        state.published.push(message);
        if state.commits_never {
            return ready(Ok(pending().boxed())).boxed();
        }
        ready(Ok(ready(Ok(published)).boxed())).boxed()
    }

    fn pull<'a>(
        &'a self,
        _: &'a dyn Caller,
        pairs: &'a [Pair],
        lot: Lot,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<Vec<Pulled>, GroupError>> {
        let mut state = self.state();
        state.lot = Some((pairs.to_vec(), lot, visibility));
        match state.pulls.pop_front() {
            Some(pulled) => ready(pulled).boxed(),
            None => pending().boxed(),
        }
    }

    fn pair_of(&self, receipt: &str) -> Result<Pair, ReceiptError> {
        let (topic, _) = receipt
            .split_once("/receipt-")
            .ok_or(ReceiptError::Foreign)?;
        Pair::new("billing", topic).map_err(|_| ReceiptError::Foreign)
    }

    fn addresses(&self, group: &str) -> Vec<SocketAddr> {
        let addresses = self.state().addresses.clone();
        if group == "billing" {
            addresses
        } else {
            Vec::new()
        }
    }

    fn longest(&self) -> Longest {
        self.state().longest.unwrap_or(Longest {
            visibility: Duration::MAX,
            delay: Duration::MAX,
        })
    }

    fn settle<'a>(
        &'a self,
        _: &'a str,
        receipts: &'a [String],
        order: &'a Order,
    ) -> BoxFuture<'a, Settled> {
        let mut state = self.state();
        state.settled.push((receipts.to_vec(), order.clone()));
        let fates = receipts
            .iter()
            .map(|one| state.receipts.get(one).cloned().map_or(Ok(()), Err));
        ready(fates.collect()).boxed()
    }

    fn backlog<'a>(&'a self, _: &'a Pair) -> BoxFuture<'a, Result<LinkBacklog, GroupError>> {
        let mut backlog = LinkBacklog::default();
        backlog.waiting = 12;
        backlog.oldest = Some(Duration::from_millis(2500));
        backlog.dead_letters = 1;
        ready(Ok(backlog)).boxed()
    }

    fn dead_letters<'a>(
        &'a self,
        _: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<Vec<DeadLetter>, GroupError>> {
        let most = usize::try_from(filter.at_most()).unwrap();
        let state = self.state();
        let letters = state.letters.iter().filter(|letter| filter.matches(letter));
        ready(Ok(letters.take(most).cloned().collect())).boxed()
    }

    fn replay<'a>(
        &'a self,
        _: &'a Pair,
        filter: &'a DeadLetterFilter,
    ) -> BoxFuture<'a, Result<u64, GroupError>> {
        let mut state = self.state();
        state.replayed = Some(filter.clone());
        let letters = state.letters.iter().filter(|letter| filter.matches(letter));
        ready(Ok(letters.count() as u64)).boxed()
    }
}

impl Caller for Made {
    fn key(&self) -> &str {
        "shop"
    }

    fn may(&self, _: Operation, _: Option<&str>, topic: &str) -> Result<(), Denied> {
        match (&self.state().denied, topic) {
            (Some(denied), _) => Err(denied.clone()),
            (None, "secret") => Err(Denied::Topic),
            _ => Ok(()),
        }
    }

    fn spend(&self, _: Operation, _: Option<&str>, _: &str, messages: u32) -> Result<(), Denied> {
        let mut state = self.state();
        state.spent.push(messages);
        state.at_spend.clone().map_or(Ok(()), Err)
    }

    fn connect(&self) -> Result<Box<dyn Any + Send + Sync>, Denied> {
        self.state().connections += 1;
        Ok(Box::new(Permit(self.clone())))
    }

    fn batch(&self, _: &str, _: &str) -> Option<u32> {
        self.state().batch
    }

    fn consumes(&self, group: &str) -> bool {
        group != "forbidden"
    }

    fn open_pairs(&self) -> Option<u32> {
        None
    }

    fn revoked(&self) -> CancellationToken {
        self.state().revoked.clone()
    }
}

struct Permit(Made);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.state().connections -= 1;
    }
}
