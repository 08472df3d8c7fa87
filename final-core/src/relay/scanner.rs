//! The scanner: finds records that are due and that no process holds, and claims them.
//!
//! Most messages never meet it, because they are handed over in memory right after their COMMIT. The scanner
//! is for the others: written while the broker was away or the window full, flushed early, delayed, put back,
//! or left behind by a process that died.
//!
//! Input: rings and alarms (the [`Bell`](crate::runtime::bell::Bell)), the state of the broker, and the time
//! at which the next record is due, which the table tells. State: when to look for what. Output: passes
//! through what is due (`pass.rs`), and probes of parked topics (`probe.rs`).
//!
//! ```text
//!   wait until the gate is open ─▶ look ─▶ sleep ─▶ and again
//!
//!   look:   parked topics ─▶ a pass, if one is wanted ─▶ ask the table when the next record is due
//!   sleep:  ends by a ring, or when the broker goes away ─▶ a pass is wanted next
//!           ends by an alarm, a probe or the planned time ─▶ look, and a pass if something is due
//!   error:  pause ─▶ ask the database ─▶ let the ackers go first ─▶ a pass is wanted next
//! ```

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Relay, pass::Pass};
use crate::{OutboxDatabase, database::DbResult, runtime::bell::CLOCK_MARGIN};

/// The pause between two passes that were rung for. Under load one pass serves many rings.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// The pause between the database's first answer after an outage and the next claim.
///
/// The ackers try the database more often. So within this pause they settle what was confirmed during the
/// outage, and no process claims and sends it again.
const ACKERS_FIRST: Duration = Duration::from_secs(1);

/// The pause before the next claim while something is due and cannot be claimed, because another session
/// has locked it or other processes were first each time.
const LOCKED: Duration = Duration::from_millis(100);

/// The pause before the database is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// How many topics are probed in one look.
const PROBES: usize = 64;

/// How many topics are probed between two batches of a pass, while the broker waits for the next batch.
const PROBES_IN_PASS: usize = 8;

/// How many scan intervals lie between two searches for parked topics in the table.
const PARKED_EVERY: u32 = 3;

/// Looks at the outbox whenever there is a reason to, until the relay stops.
pub(crate) async fn run<DB: OutboxDatabase>(relay: Arc<Relay<DB>>) {
    let mut scanner = Scanner {
        parked_at: Instant::now(),
        wake_at: Instant::now(),
        claim: true,
        in_vain: 0,
        failures: 0,
        pass: Pass::default(),
    };
    while relay.gate.opened().await {
        match scanner.look(&relay).await {
            Ok(()) => scanner.sleep(&relay).await,
            Err(error) => {
                relay.database_failed("scanning the outbox", &error, scanner.failures);
                scanner.failures = scanner.failures.saturating_add(1);
                scanner.claim = true;
                // Rings and alarms do not end this pause: the database could not answer them.
                tokio::select! {
                    () = tokio::time::sleep(RETRY) => {}
                    () = relay.stopping.taking.cancelled() => {}
                }
            }
        }
    }
}

/// When to look next, and for what.
struct Scanner {
    /// When to search the table for parked topics again.
    parked_at: Instant,
    /// When to look for due records again.
    wake_at: Instant,
    /// Whether to claim without asking first if anything is due.
    claim: bool,
    /// How often in a row something was due and nothing of it could be claimed.
    in_vain: u32,
    /// How often in a row the database failed.
    failures: u32,
    /// The pass under way. After an error it goes on where it was.
    pass: Pass,
}

impl Scanner {
    /// Does everything that is due now, and plans when to look again.
    async fn look<DB: OutboxDatabase>(&mut self, relay: &Arc<Relay<DB>>) -> DbResult<()> {
        if self.failures > 0 && !self.wait_for_ackers(relay).await? {
            return Ok(());
        }
        self.see_to_parked(relay, PROBES).await?;
        // Always taken: an alarm that is over and still set would end every sleep at once.
        let alarm_over = relay.bell.take_alarm();
        if self.claim {
            self.claim = false;
            self.pass_through(relay).await?;
        } else if !alarm_over && self.wake_at > Instant::now() {
            return Ok(());
        }
        self.plan(relay).await
    }

    /// Waits until the database answers and the ackers have had their turn. False if the relay stops.
    async fn wait_for_ackers<DB: OutboxDatabase>(&mut self, relay: &Relay<DB>) -> DbResult<bool> {
        relay.counters.statements.add(1);
        relay.outbox.table()?.next_due().await?;
        tokio::select! {
            () = tokio::time::sleep(ACKERS_FIRST) => {}
            () = relay.stopping.taking.cancelled() => return Ok(false),
        }
        self.failures = 0;
        Ok(true)
    }

    /// Goes through everything that is due, batch after batch.
    async fn pass_through<DB: OutboxDatabase>(&mut self, relay: &Arc<Relay<DB>>) -> DbResult<()> {
        while self.pass.step(relay).await? {
            // A long backlog must not keep parked topics waiting.
            if relay.gate.is_open() {
                self.see_to_parked(relay, PROBES_IN_PASS).await?;
            }
        }
        if self.pass.has_claimed() {
            self.in_vain = 0;
        } else if relay.gate.is_open() {
            self.in_vain = self.in_vain.saturating_add(1);
        }
        self.pass = Pass::default();
        Ok(())
    }

    /// Asks the table when the next record is due, and plans the next look by it.
    async fn plan<DB: OutboxDatabase>(&mut self, relay: &Relay<DB>) -> DbResult<()> {
        relay.finish_claims(1).await?;
        relay.counters.statements.add(1);
        let next_due = relay.outbox.table()?.next_due().await?;
        self.claim = next_due == Some(Duration::ZERO);
        if !self.claim {
            self.in_vain = 0;
        }
        let interval = relay.options.scan_interval;
        let wait = match next_due {
            None => interval,
            // A single claim in vain proves no lock: the record may have become due after that claim.
            Some(Duration::ZERO) if self.in_vain > 1 => LOCKED,
            Some(due) => due + CLOCK_MARGIN,
        };
        self.wake_at = Instant::now() + wait.min(interval);
        Ok(())
    }

    /// Finds parked topics, releases opened ones and sends probes, each when it is time and for `limit`
    /// topics at most.
    async fn see_to_parked<DB: OutboxDatabase>(
        &mut self,
        relay: &Arc<Relay<DB>>,
        limit: usize,
    ) -> DbResult<()> {
        let now = Instant::now();
        if self.parked_at <= now {
            relay.find_parked().await?;
            self.parked_at = now + relay.options.scan_interval * PARKED_EVERY;
        }
        relay.release_opened(limit).await?;
        relay.send_probes(limit).await
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
        let others = [relay.bell.alarm(), probe];
        let wake_at = others
            .into_iter()
            .flatten()
            .fold(self.wake_at, Instant::min);
        tokio::select! {
            () = tokio::time::sleep_until(wake_at.into()) => {}
            () = relay.bell.woken() => tokio::time::sleep(DEBOUNCE).await,
            () = relay.gate.closed() => self.claim = true,
        }
        self.claim |= relay.bell.take_ring();
    }
}
