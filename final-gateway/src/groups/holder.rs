//! A connection's share of a group.
//!
//! Input: the connection's commands. State: its offsets; what it has in hand is in the [`Stock`](super::stock::Stock).
//! Output: messages, and settlements.
//!
//! If the broker has ended the consumption, or the pair has closed because no client took for long, the next take opens the pair again. What was in hand is void then, and the
//! offsets go on.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{
    CommitError, GroupError, GroupsInner, Lot, Taken,
    addresses::ConnectionAddress,
    after,
    offsets::{Commit, ConnectionOffsets},
    open::{OpenPair, Presence},
    quota::{AppQuota, PairUse},
    remaining::Remaining,
    stock::Taker,
};
use crate::names::Pair;

/// A connection's share of a group: what it takes is in its hand until it commits, and goes back when this is dropped.
#[must_use = "a dropped holder gives everything back"]
pub struct Holder {
    inner: Arc<GroupsInner>,
    quota: Option<AppQuota>,
    open: Arc<OpenPair>,
    /// Counts the pair as used by the app.
    used: Arc<PairUse>,
    number: u64,
    offsets: ConnectionOffsets,
    _address: Option<ConnectionAddress>,
}

impl Holder {
    pub(super) async fn begin(
        inner: Arc<GroupsInner>,
        quota: Option<AppQuota>,
        presence: Presence,
    ) -> Result<Self, GroupError> {
        let mut offsets = ConnectionOffsets::new();
        let (open, used) = (Arc::clone(&presence.open), Arc::clone(&presence.used));
        begin_epoch(&inner, &open.pair, &mut offsets).await?;
        let number = inner.number();
        open.with(|stock| stock.begin(number, Instant::now()));
        Ok(Self {
            inner,
            quota,
            open,
            used,
            number,
            offsets,
            _address: None,
        })
    }

    /// The connection is told among those of its group.
    pub(super) fn comes_from(&mut self, address: ConnectionAddress) {
        self._address = Some(address);
    }

    /// Takes the next messages, in their order. Empty if none came in time, or if so much is in hand that nothing more
    /// may be taken before a commit.
    ///
    /// Several connections of a group share its messages. One that does not commit leaves room to the others: it gets
    /// at most as much as is still free of [`in_hand`](super::GroupOptions::in_hand). A message that two
    /// clients have left without a word is given out alone.
    ///
    /// # Errors
    ///
    /// Fails if the gateway is being stopped, or if the broker cannot be reached and no message came in time.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it has taken nothing.
    pub async fn take(&mut self, lot: Lot) -> Result<Vec<Taken>, GroupError> {
        let until = after(lot.wait);
        let presence = self.enter(until).await?;
        let mut answer = Remaining::of(&lot);
        // No more can be in hand, so no more can be given out at once.
        let most = lot.messages.min(self.inner.slots.options().in_hand);
        if !self.offsets.have_room(most) {
            begin_epoch(&self.inner, &self.open.pair, &mut self.offsets).await?;
        }
        let open = &presence.open;
        let taker = Taker::Holder(self.number);
        let mut gathered = open.take(taker, &mut answer, until).await?;
        let until = after(lot.gather);
        while !gathered.is_empty() && answer.is_open() && !lot.gather.is_zero() {
            match open.take(taker, &mut answer, until).await {
                Ok(more) if !more.is_empty() => gathered.append(more),
                _ => break,
            }
        }
        let (mut taken, mut held) = (Vec::new(), Vec::new());
        for entry in gathered.into_entries() {
            let partition = entry.partition();
            let offset = self.offsets.next(partition);
            taken.push(Taken {
                message: entry.message.clone(),
                partition,
                offset,
                seq: entry.place().map(|place| place.number),
                attempt: entry.attempt(),
            });
            held.push((entry, offset));
        }
        let now = Instant::now();
        open.with(|stock| stock.hold(self.number, held.into_iter(), now));
        Ok(taken)
    }

    /// Settles everything of a partition that this connection was given up to an offset. An offset of an earlier
    /// connection is void, and no error: its messages have gone back.
    ///
    /// # Errors
    ///
    /// Fails for a partition or an offset that was never given out.
    pub fn commit(&mut self, partition: i64, offset: i64) -> Result<(), CommitError> {
        if let Commit::UpTo(partition, offset) = self.offsets.commit(partition, offset)? {
            let number = self.number;
            let now = Instant::now();
            self.open.with(|stock| {
                stock.commit(number, partition, offset);
                stock.saw(number, now);
            });
        }
        Ok(())
    }

    /// Settles one message that this connection was given and does not want: a message of another colour. Its offset
    /// counts as given out, so a commit may pass over it. A message that is not in hand any longer stays as it is.
    pub fn skip(&mut self, taken: &Taken) {
        let number = self.number;
        let open = &self.open;
        open.with(|stock| stock.skip(number, taken.partition, taken.offset));
    }

    /// Enters the pair. Opens it again if the broker has ended it, or if it has closed because no client took for long.
    async fn enter(&mut self, until: Instant) -> Result<Presence, GroupError> {
        let (number, now) = (self.number, Instant::now());
        if !self.open.ended.is_cancelled()
            && let Some(presence) = self.open.enter(&self.used)
        {
            self.open.with(|stock| stock.saw(number, now));
            return Ok(presence);
        }
        let (pair, quota) = (&self.open.pair, self.quota.as_ref());
        let presence = self.inner.slots.enter(pair, quota, until).await?;
        presence.open.with(|stock| stock.begin(number, now));
        self.open = Arc::clone(&presence.open);
        self.used = Arc::clone(&presence.used);
        Ok(presence)
    }
}

/// Asks the database for the next epoch of a connection.
async fn begin_epoch(
    inner: &GroupsInner,
    pair: &Pair,
    offsets: &mut ConnectionOffsets,
) -> Result<(), GroupError> {
    let epoch = inner.tables.next_epoch(&pair.broker_group()).await;
    let epoch = epoch.map_err(|error| GroupError::Away(error.to_string()))?;
    if offsets.begin(epoch) {
        return Ok(());
    }
    Err(GroupError::Refused(format!(
        "the table final_gateway_epochs gives {pair} the epoch {epoch}, which is used or too large for offsets; was the \
         table changed or restored from a backup?"
    )))
}

impl Drop for Holder {
    fn drop(&mut self) {
        let number = self.number;
        let by_gateway = self.inner.slots.expects_shutdown();
        let now = Instant::now();
        self.open.with(|stock| stock.end(number, by_gateway, now));
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder")
            .field("pair", &self.open.pair)
            .field("offsets", &self.offsets)
            .finish_non_exhaustive()
    }
}
