//! Probes: the scanner's work for parked topics.
//!
//! Input: the topics that [`Parking`](super::parking::Parking) says are due, and the broker's answers to
//! probes. Output: one record per topic and second on its way to the broker, and the records of an open topic
//! pending again, a batch at a time.
//!
//! ```text
//!   find_parked: topics that another process or an earlier run has parked ─▶ Parking
//!   send_probe ─ a record ─▶ broker ─▶ acker ─▶ probed ─ stored ──────▶ topic open ─▶ release_opened
//!      └ no record left ─▶ topic open                  └ otherwise ──▶ next probe in a second
//! ```

use std::{sync::Arc, time::Duration};

use super::{Relay, batch::send_claimed, change::RecordChange};
use crate::{
    OutboxDatabase,
    broker::Confirm,
    database::{DbResult, refused::refuses_values},
};

/// How many parked topics are looked up in the table.
const TOPICS: u32 = 1_000;

/// How many records one statement makes pending again when their topic is open.
const RELEASE_BATCH: u32 = 500;

impl<DB: OutboxDatabase> Relay<DB> {
    /// Takes note of topics that another process, or an earlier run of this one, has parked.
    pub(super) async fn find_parked(&self) -> DbResult<()> {
        self.counters.statements.add(1);
        for topic in self.outbox.table()?.parked_topics(TOPICS).await? {
            self.parking.found(&topic);
        }
        Ok(())
    }

    /// Sends one probe of each topic for which it is time, for `limit` topics at most.
    pub(super) async fn send_probes(self: &Arc<Self>, limit: usize) -> DbResult<()> {
        let mut topics = self.parking.to_probe(limit).into_iter();
        while let Some(topic) = topics.next() {
            if let Err(error) = self.send_probe(&topic).await {
                // The topics after this one have not been probed either.
                for topic in std::iter::once(topic).chain(topics) {
                    self.parking.probe_again(&topic);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends one record of a parked topic, to learn whether the topic has a queue again.
    async fn send_probe(self: &Arc<Self>, topic: &Arc<str>) -> DbResult<()> {
        let table = self.outbox.table()?;
        let (_, lease_end) = self.outbox.new_lease();
        self.counters.statements.add(1);
        let record = match table.claim_parked(topic).await {
            // It counts as a probe without an answer, and is repeated when that is forgotten.
            Err(error) if refuses_values(&error) => {
                tracing::error!(
                    target: "final::relay",
                    service = self.service.as_str(), %topic, %error,
                    "the outbox does not let a record of a parked topic be probed; look at the triggers and \
                     constraints of the table"
                );
                return Ok(());
            }
            record => record?,
        };
        let Some(record) = record else {
            // No record waits. The next message that is published serves as the probe.
            self.parking.open(topic);
            return Ok(());
        };
        let id = record.id;
        if let Err(reason) = &record.message {
            self.change(&[id], &RecordChange::Fail(reason.to_string()))
                .await?;
            self.parking.probe_again(topic);
        } else if record.expires_in == Some(Duration::ZERO) {
            let removed = self.change(&[id], &RecordChange::Expire).await?;
            self.counters.expired.add(removed);
            self.parking.probe_again(topic);
        } else if send_claimed(self, record, lease_end, None).is_some() {
            let park = RecordChange::Park("the topic is parked".to_owned());
            self.change(&[id], &park).await?;
            self.parking.probe_again(topic);
        }
        Ok(())
    }

    /// Takes the broker's answer to a probe of a parked topic.
    pub(super) fn probed(&self, topic: &Arc<str>, confirm: &Confirm) {
        match confirm {
            Confirm::Stored => {
                if self.parking.open(topic) {
                    tracing::info!(
                        target: "final::relay",
                        service = self.service.as_str(), %topic,
                        "a parked topic works again"
                    );
                }
                self.parking.mark_opened(Arc::clone(topic));
                self.bell.ring();
            }
            // The acker parks the topic again, which plans the next probe.
            Confirm::Unroutable | Confirm::NoAnswer | Confirm::Denied(_) => {}
            Confirm::Refused
            | Confirm::Suspect
            | Confirm::Faulty(_)
            | Confirm::Lost
            | Confirm::Expired
            | Confirm::LeaseOver => {
                self.parking.probe_again(topic);
                self.bell.nudge();
            }
        }
    }

    /// Makes records of opened topics pending again: one batch of each topic, for `limit` topics at most.
    pub(super) async fn release_opened(&self, limit: usize) -> DbResult<()> {
        let mut topics = self.parking.take_opened(limit).into_iter();
        while let Some(topic) = topics.next() {
            self.counters.statements.add(1);
            let released = match self.outbox.table()?.unpark(&topic, RELEASE_BATCH).await {
                Ok(released) => released,
                // The table refuses one of the records. The others are sent as probes, one by one.
                Err(error) if refuses_values(&error) => {
                    self.database_failed("releasing a parked topic", &error, 0);
                    self.parking.found(&topic);
                    continue;
                }
                Err(error) => {
                    for topic in std::iter::once(topic).chain(topics) {
                        self.parking.mark_opened(topic);
                    }
                    return Err(error);
                }
            };
            if released >= u64::from(RELEASE_BATCH) {
                self.parking.mark_opened(topic);
            }
            self.bell.ring();
        }
        Ok(())
    }
}
