//! Pulls: messages with receipts and deadlines.
//!
//! Input: pairs, and receipts of clients. State: none of its own. Output: messages of the pairs that have some, and
//! what became of each receipt.
//!
//! A pull stands in the line of each of its pairs at once. The first that has messages ends the wait, and the others
//! have given it nothing then.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    GroupError, GroupsInner, Lot, Pulled, ReceiptError, after,
    open::{Gathered, OpenPair, Presence},
    pulled::{HandTimes, Lent},
    quota::{AppQuota, PairUse},
    remaining::Remaining,
    stock::Taker,
};
use crate::names::Pair;

/// How long a pair has at least to give its first messages, from its opening. A pull that waits for less would come too
/// early for ever.
const FIRST: Duration = Duration::from_secs(1);

impl GroupsInner {
    pub(super) async fn pull(
        self: &Arc<Self>,
        pairs: &[Pair],
        quota: Option<&AppQuota>,
        lot: Lot,
        visibility: Duration,
    ) -> Result<Vec<Pulled>, GroupError> {
        let mut answer = Remaining::of(&lot);
        let until = after(lot.wait);
        // Each pair is the first one in its turn.
        let start = usize::try_from(self.number()).unwrap_or(0) % pairs.len().max(1);
        let (behind, ahead) = pairs.split_at(start);
        let pairs: Vec<&Pair> = ahead.iter().chain(behind).collect();
        let mut all = Vec::new();
        // Its pair is one of a client until the end.
        let mut _present: Option<Presence> = None;
        if let Some((gathered, left, presence)) =
            self.first_of(&pairs, quota, answer, until).await?
        {
            answer = left;
            all.push((gathered, Arc::clone(&presence.used)));
            _present = Some(presence);
            let gather = lot.gather;
            self.gather(&pairs, quota, &mut answer, &mut all, gather)
                .await;
        }
        let latest = after(self.slots.options().most_visibility);
        let times = HandTimes {
            deadline: latest.min(after(visibility)),
            latest,
        };
        let lent = all.into_iter().flat_map(|(gathered, used)| {
            let open = Arc::clone(gathered.open());
            let entries = gathered.into_entries().into_iter();
            entries.map(move |entry| {
                let used = Arc::clone(&used);
                self.lend(
                    &open,
                    Lent {
                        times,
                        entry,
                        _used: used,
                    },
                )
            })
        });
        Ok(lent.collect())
    }

    /// Waits for the first messages of any of the pairs.
    async fn first_of(
        self: &Arc<Self>,
        pairs: &[&Pair],
        quota: Option<&AppQuota>,
        answer: Remaining,
        until: Instant,
    ) -> Result<Option<(Gathered, Remaining, Presence)>, GroupError> {
        let one = async |pair: &Pair| {
            let presence = self
                .slots
                .enter(pair, quota, until.max(Instant::now() + FIRST))
                .await?;
            let mut answer = answer;
            let open = &presence.open;
            let until = until.max(open.opened + FIRST);
            let gathered = open.take(Taker::Pull, &mut answer, until).await?;
            Ok((gathered, answer, presence))
        };
        let mut waiting: FuturesUnordered<_> = pairs.iter().map(|pair| one(pair)).collect();
        let (mut has_answered, mut failed) = (pairs.is_empty(), None);
        while let Some(first) = waiting.next().await {
            match first {
                Ok((gathered, answer, presence)) if !gathered.is_empty() => {
                    return Ok(Some((gathered, answer, presence)));
                }
                Ok(_) => has_answered = true,
                // The other pairs may have messages meanwhile.
                Err(error @ GroupError::Away(_)) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        match failed {
            Some(error) if !has_answered => Err(error),
            _ => Ok(None),
        }
    }

    /// Fills an answer with what is there, and with what comes until the time for that is over.
    async fn gather(
        &self,
        pairs: &[&Pair],
        quota: Option<&AppQuota>,
        answer: &mut Remaining,
        all: &mut Vec<(Gathered, Arc<PairUse>)>,
        gather: Duration,
    ) {
        let now = Instant::now();
        let open: Vec<(Arc<OpenPair>, Arc<PairUse>)> = pairs
            .iter()
            .filter_map(|pair| self.slots.get_for(pair, quota))
            .collect();
        for (pair, used) in &open {
            if answer.is_open()
                && let Ok(gathered) = pair.take(Taker::Pull, answer, now).await
            {
                all.push((gathered, Arc::clone(used)));
            }
        }
        let until = after(gather);
        while answer.is_open() && Instant::now() < until {
            let left = *answer;
            let one = async |(pair, used): &(Arc<OpenPair>, Arc<PairUse>)| {
                let mut answer = left;
                let gathered = pair.take(Taker::Pull, &mut answer, until).await;
                gathered.map(|gathered| ((gathered, Arc::clone(used)), answer))
            };
            let mut waiting: FuturesUnordered<_> = open.iter().map(one).collect();
            let mut has_more = false;
            while let Some(more) = waiting.next().await {
                // A message that does not go into the answer completes it.
                if let Ok((gathered, left)) = more
                    && (!gathered.0.is_empty() || !left.is_open())
                {
                    (*answer, has_more) = (left, true);
                    all.push(gathered);
                    break;
                }
            }
            if !has_more {
                return;
            }
        }
    }

    /// Lends a message to a client.
    fn lend(&self, open: &Arc<OpenPair>, lent: Lent) -> Pulled {
        let tag = self.number();
        let entry = &lent.entry;
        let pulled = Pulled {
            receipt: self.receipts.sign(&open.pair, tag),
            message: entry.message.clone(),
            partition: entry.partition(),
            seq: entry.place().map(|place| place.number),
            attempt: entry.attempt(),
        };
        open.with(|stock| stock.lend(tag, lent));
        pulled
    }

    /// Does something with the message of each receipt. `work` says whether the message was in hand.
    pub(super) fn settle(
        &self,
        group: &str,
        receipts: &[String],
        work: impl Fn(&OpenPair, u64) -> bool,
    ) -> Vec<Result<(), ReceiptError>> {
        let settle = |text: &String| {
            let receipt = self.receipts.read(text)?;
            if receipt.pair.group() != group {
                return Err(ReceiptError::Foreign);
            }
            self.receipts.is_of_this_node(&receipt)?;
            let open = self.slots.get(&receipt.pair);
            let was_in_hand = open.is_some_and(|open| work(&open, receipt.tag));
            was_in_hand.then_some(()).ok_or(ReceiptError::Gone)
        };
        receipts.iter().map(settle).collect()
    }
}
