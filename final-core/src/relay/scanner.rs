//! The scanner: finds records that are due and nobody holds, and claims them.
//!
//! Most messages never meet it: they are handed over in memory after their COMMIT. It is there for
//! what was not: written while the broker was away or the window full, flushed early, delayed, put
//! back, or left behind by a process that died.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Relay,
    change::Change,
    pass::{Pass, take_off},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, refused::refuses_values},
};

/// The pause between two passes that were rung for. Under load one pass serves many rings.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// The pause between the database's first answer after an outage and the next claim. The ackers
/// reach it in less, so they are done before anybody claims what they had the proof for.
const PAUSE: Duration = Duration::from_secs(1);

/// The pause before the next claim where something is due and cannot be claimed: another session has
/// locked it, or others were first each time.
const LOCKED: Duration = Duration::from_millis(100);

/// The pause before the database is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// How many topics are probed in one go.
const PROBES: usize = 64;

/// How many between two batches of a pass, while the broker waits for the next.
const PROBES_IN_PASS: usize = 8;

/// How many parked topics are looked up in the table.
const TOPICS: u32 = 1_000;

/// How many records one statement makes pending again when their topic is open.
const UNPARK_BATCH: u32 = 500;

/// Looks at the outbox whenever there is a reason to, until the relay stops.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let mut look = Look {
        parked_at: Instant::now(),
        wake_at: Instant::now(),
        claim: true,
        in_vain: 0,
        failures: 0,
        pass: Pass::default(),
    };
    while relay.until_ready().await {
        match look.once(&relay).await {
            Ok(()) => look.sleep(&relay).await,
            Err(error) => {
                relay.database_failed("scanning the outbox", &error, look.failures);
                look.failures = look.failures.saturating_add(1);
                look.claim = true;
                // Whatever is due and rings meanwhile: none of it can be done.
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = relay.stop_scanner.cancelled() => {}
                }
            }
        }
    }
}

/// When to look next, and for what.
struct Look {
    /// When to look for parked topics again.
    parked_at: Instant,
    /// When to look for due records again.
    wake_at: Instant,
    /// Whether to claim without asking first if anything is due.
    claim: bool,
    /// How often in a row nothing could be claimed of what is due.
    in_vain: u32,
    /// How often in a row the database failed.
    failures: u32,
    /// The pass under way. After an error it goes on.
    pass: Pass,
}

impl Look {
    /// Does what is due now.
    async fn once<DB: OutboxDatabase>(&mut self, relay: &Arc<Relay<DB>>) -> DbResult<()> {
        if self.failures > 0 {
            relay.counters.statements.add(1);
            relay.store.table()?.next_due().await?;
            // Ackers first: what was confirmed during the outage must not be claimed again.
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = relay.stop_scanner.cancelled() => return Ok(()),
            }
            self.failures = 0;
        }
        self.see_to_parked(relay, PROBES).await?;
        // An alarm that is over and left standing would end every sleep at once.
        let alarm_over = relay.alarm_over();
        if self.claim {
            self.claim = false;
            while self.pass.step(relay).await? {
                // A long backlog must not keep parked topics waiting.
                if relay.is_ready() {
                    self.see_to_parked(relay, PROBES_IN_PASS).await?;
                }
            }
            if self.pass.has_claimed() {
                self.in_vain = 0;
            } else if relay.is_ready() {
                self.in_vain = self.in_vain.saturating_add(1);
            }
            self.pass = Pass::default();
        } else if !alarm_over && self.wake_at > Instant::now() {
            return Ok(());
        }
        relay.finish_claims(1).await?;
        relay.counters.statements.add(1);
        let next_due = relay.store.table()?.next_due().await?;
        self.claim = next_due == Some(Duration::ZERO);
        if !self.claim {
            self.in_vain = 0;
        }
        let wait = match next_due {
            None => relay.options.scan_interval,
            // One claim in vain says nothing: the record may have become due after it.
            Some(Duration::ZERO) if self.in_vain > 1 => LOCKED,
            // A little more, so that the record is due by the database's clock too.
            Some(due) => due + Duration::from_millis(2),
        };
        let wait = wait.min(relay.options.scan_interval);
        self.wake_at = Instant::now() + wait;
        Ok(())
    }

    /// Finds, probes and releases parked topics, each when it is time, and not more than `most`.
    async fn see_to_parked<DB: OutboxDatabase>(
        &mut self,
        relay: &Arc<Relay<DB>>,
        most: usize,
    ) -> DbResult<()> {
        let now = Instant::now();
        if self.parked_at <= now {
            find_parked(relay).await?;
            self.parked_at = now + relay.options.scan_interval * 3;
        }
        release(relay, most).await?;
        let mut topics = relay.parking.to_probe(most).into_iter();
        while let Some(topic) = topics.next() {
            if let Err(error) = probe(relay, &topic).await {
                // Those that were to be probed next have not been either.
                for topic in std::iter::once(topic).chain(topics) {
                    relay.parking.probe_again(&topic);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sleeps until there is a reason to look.
    async fn sleep<DB: OutboxDatabase>(&mut self, relay: &Relay<DB>) {
        if self.claim && self.wake_at <= Instant::now() {
            tokio::time::sleep(DEBOUNCE).await;
            return;
        }
        let probe = relay
            .parking
            .next_probe()
            .map(tokio::time::Instant::into_std);
        let others = [relay.alarm(), probe];
        let wake_at = others
            .into_iter()
            .flatten()
            .fold(self.wake_at, Instant::min);
        tokio::select! {
            () = tokio::time::sleep_until(wake_at.into()) => {}
            () = relay.rung() => tokio::time::sleep(DEBOUNCE).await,
            () = relay.state_changed() => self.claim = true,
            () = relay.stop_scanner.cancelled() => {}
        }
        self.claim |= relay.take_ring();
    }
}

/// Remembers topics that another instance, or an earlier life of this one, has parked.
async fn find_parked<DB: OutboxDatabase>(relay: &Relay<DB>) -> DbResult<()> {
    relay.counters.statements.add(1);
    for topic in relay.store.table()?.parked_topics(TOPICS).await? {
        relay.parking.found(&topic);
    }
    Ok(())
}

/// Sends one record of a parked topic, to learn whether it has a queue again.
async fn probe<DB: OutboxDatabase>(relay: &Arc<Relay<DB>>, topic: &Arc<str>) -> DbResult<()> {
    let table = relay.store.table()?;
    let (_, lease_end) = relay.store.new_lease();
    relay.counters.statements.add(1);
    let record = match table.claim_parked(topic).await {
        // It counts as a probe without an answer, and is repeated when that is forgotten.
        Err(error) if refuses_values(&error) => {
            tracing::error!(
                service = relay.service.as_str(), %topic, %error,
                "the outbox does not let a record of a parked topic be probed; look at the triggers and \
                 constraints of the table"
            );
            return Ok(());
        }
        record => record?,
    };
    let Some(record) = record else {
        // Nothing waits; the next message published is the probe.
        relay.parking.open(topic);
        return Ok(());
    };
    let id = record.id.0;
    if let Err(reason) = &record.message {
        relay
            .change(&[id], &Change::Fail(reason.to_string()))
            .await?;
        relay.parking.probe_again(topic);
    } else if record.expires_in == Some(Duration::ZERO) {
        let removed = relay.change(&[id], &Change::Expire).await?;
        relay.counters.expired.add(removed);
        relay.parking.probe_again(topic);
    } else if take_off(relay, record, lease_end, None).is_some() {
        let park = Change::Park("the topic is parked".to_owned());
        relay.change(&[id], &park).await?;
        relay.parking.probe_again(topic);
    }
    Ok(())
}

/// Makes records of topics that are open again pending, a batch per topic and look, for so many topics.
async fn release<DB: OutboxDatabase>(relay: &Relay<DB>, most: usize) -> DbResult<()> {
    let mut topics = relay.take_opened(most).into_iter();
    while let Some(topic) = topics.next() {
        relay.counters.statements.add(1);
        let released = match relay.store.table()?.unpark(&topic, UNPARK_BATCH).await {
            Ok(released) => released,
            // One of them is refused. The others go out as probes, one after the other.
            Err(error) if refuses_values(&error) => {
                relay.database_failed("releasing a parked topic", &error, 0);
                relay.parking.found(&topic);
                continue;
            }
            Err(error) => {
                for topic in std::iter::once(topic).chain(topics) {
                    relay.opened(topic);
                }
                return Err(error);
            }
        };
        if released >= u64::from(UNPARK_BATCH) {
            relay.opened(topic);
        }
        relay.ring();
    }
    Ok(())
}
