//! How each fault is caused, and how it is undone.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Stage, worker::Slot};
use crate::{
    Proxy, Result,
    chaos::{
        fault::{End, Fault, Outage, Who, Wire},
        plan::Planned,
        work::{KillPlace, Order, Role},
    },
    servers::Server,
};

/// How far a wrong clock is off, in seconds.
const CLOCK_OFF: i32 = 300;
/// Between two cuts of a wire.
const CUTS: Duration = Duration::from_millis(50);
/// How long a worker may take to reach the place at which it is to die.
const PATIENCE: Duration = Duration::from_secs(15);

impl Stage {
    /// Causes a fault and undoes it. Returns the worker that was hit, if the fault hit a single one.
    pub(in crate::chaos) async fn inject(&self, planned: Planned) -> Result<Option<u32>> {
        let Planned {
            fault,
            after,
            lasts,
            pick,
        } = planned;
        sleep(after).await;
        match fault {
            Fault::Killed(who) => self.kill(self.slot(who, pick)).await,
            Fault::KilledAt(place) => self.kill_at(place, pick).await,
            Fault::Paused(who) => {
                let worker = self.slot(who, pick).worker.lock().await;
                if let Some(worker) = &*worker {
                    worker.process.pause();
                    sleep(lasts).await;
                    worker.process.resume();
                }
                Ok(worker.as_ref().map(|worker| worker.born))
            }
            Fault::Restarted(who) => self.restart(self.slot(who, pick), None).await,
            Fault::ClockOff(who) => {
                let off = if pick.is_multiple_of(2) {
                    CLOCK_OFF
                } else {
                    -CLOCK_OFF
                };
                self.restart(self.slot(who, pick), Some(off)).await
            }
            Fault::Joined(who) => {
                let spare = &self.spares[usize::from(who == Who::Subscriber)];
                let mut place = spare.worker.lock().await;
                let worker = self.hire(spare, None)?;
                sleep(lasts + Duration::from_secs(2)).await;
                let problem = place.insert(worker).died();
                let stopped = match place.take() {
                    Some(worker) if problem.is_none() => worker.stop().await,
                    _ => None,
                };
                self.note(problem);
                self.note_stop(stopped);
                Ok(None)
            }
            Fault::PoolExhausted => {
                let worker = self.slot(Who::Seller, pick).worker.lock().await;
                if let Some(worker) = &*worker {
                    let millis = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
                    worker.tell(Order::Exhaust(millis));
                    sleep(lasts).await;
                }
                Ok(worker.as_ref().map(|worker| worker.born))
            }
            Fault::Server(End::Database, outage) => {
                self.database_away(outage, lasts).await.map(|()| None)
            }
            Fault::Server(End::Broker, outage) => {
                self.broker_away(outage, lasts).await.map(|()| None)
            }
            Fault::FileLocked => self.database.lock_file(lasts).await.map(|()| None),
            Fault::MemoryAlarm => {
                let _turn = self.broker_turn.lock().await;
                self.rabbit()?.memory_alarm(true).await?;
                sleep(lasts).await;
                self.rabbit()?.memory_alarm(false).await?;
                Ok(None)
            }
            Fault::DiskAlarm => {
                let _turn = self.broker_turn.lock().await;
                self.rabbit()?.disk_alarm(true).await?;
                sleep(lasts).await;
                self.rabbit()?.disk_alarm(false).await?;
                Ok(None)
            }
            Fault::QueueFull => self.queue_full(lasts).await.map(|()| None),
            Fault::QueueDeleted => {
                let _turn = self.broker_turn.lock().await;
                self.hold_sellers().await?;
                // Deleting a queue deletes its messages, so the queue must be empty.
                if self.is_empty_within(Duration::from_secs(30)).await? {
                    let api = self.rabbit()?.management();
                    api.delete_queue("/", "audit").await?;
                }
                self.tell_sellers(Order::Sell).await;
                self.on_disk().await?;
                Ok(None)
            }
            Fault::ExchangeDeleted => {
                let _turn = self.broker_turn.lock().await;
                let topic = Role::Audit.topics()[0];
                let api = self.rabbit()?.management();
                api.delete_exchange("/", topic).await?;
                self.on_disk().await?;
                Ok(None)
            }
            Fault::Wire(end, wire) => {
                let slot = &self.slots[pick % self.slots.len()];
                let proxy = match end {
                    End::Database => slot.database.as_ref(),
                    End::Broker => slot.broker.as_ref(),
                };
                let born = slot.worker.lock().await.as_ref().map(|worker| worker.born);
                if let Some(proxy) = proxy {
                    bad_wire(proxy, wire, lasts).await;
                }
                Ok(born)
            }
        }
    }

    fn slot(&self, who: Who, pick: usize) -> &Slot {
        let wanted = |slot: &&Slot| (slot.role == Role::Seller) == (who == Who::Seller);
        let slots: Vec<_> = self.slots.iter().filter(wanted).collect();
        slots[pick % slots.len()]
    }

    async fn kill(&self, slot: &Slot) -> Result<Option<u32>> {
        let mut place = slot.worker.lock().await;
        let hit = place.as_ref().map(|worker| worker.born);
        if let Some(worker) = place.take() {
            self.note(worker.kill());
        }
        *place = Some(self.hire(slot, None)?);
        Ok(hit)
    }

    async fn kill_at(&self, at: KillPlace, pick: usize) -> Result<Option<u32>> {
        let who = match at {
            KillPlace::BeforeHandler | KillPlace::AfterHandler => Who::Subscriber,
            _ => Who::Seller,
        };
        let slot = self.slot(who, pick);
        let mut place = slot.worker.lock().await;
        let hit = place.as_ref().map(|worker| worker.born);
        if let Some(worker) = place.take() {
            self.note(worker.died());
            let nth = u32::try_from(pick % 40).unwrap_or(0) + 1;
            worker.tell(Order::DieAt(at, nth));
            let ended = tokio::task::spawn_blocking(move || {
                let ended = worker.process.wait(PATIENCE);
                worker.process.kill9();
                ended
            });
            if ended.await.ok().flatten().is_none() {
                self.books_now().missed += 1;
            }
        }
        *place = Some(self.hire(slot, None)?);
        Ok(hit)
    }

    async fn restart(&self, slot: &Slot, clock: Option<i32>) -> Result<Option<u32>> {
        let mut place = slot.worker.lock().await;
        let hit = place.as_ref().map(|worker| worker.born);
        if let Some(worker) = place.take() {
            match worker.died() {
                None => self.note_stop(worker.stop().await),
                died => self.note(died),
            }
        }
        *place = Some(self.hire(slot, clock)?);
        Ok(hit)
    }

    async fn database_away(&self, outage: Outage, lasts: Duration) -> Result<()> {
        let _turn = self.database_turn.lock().await;
        match outage {
            Outage::Disconnecting => self.database.disconnect_all().await,
            _ => away(self.database.server()?, outage, lasts).await,
        }
    }

    async fn broker_away(&self, outage: Outage, lasts: Duration) -> Result<()> {
        let _turn = self.broker_turn.lock().await;
        match outage {
            Outage::Disconnecting => self.rabbit()?.close_all_connections("chaos").await,
            _ => away(self.rabbit()?, outage, lasts).await,
        }
    }

    async fn queue_full(&self, lasts: Duration) -> Result<()> {
        let _turn = self.broker_turn.lock().await;
        let api = self.rabbit()?.management();
        // Two policies, one after the other: a length limit alone would drop the messages above it.
        let mut full = json!({ "overflow": "reject-publish" });
        api.set_policy("/", "full", "^audit$", full.clone()).await?;
        sleep(Duration::from_secs(1)).await;
        full["max-length"] = json!(1);
        api.set_policy("/", "full", "^audit$", full).await?;
        sleep(lasts).await;
        api.delete_policy("/", "full").await?;
        self.on_disk().await
    }

    /// A node that is killed right after a change of its topology would come back without the queue, and
    /// without the messages that it confirmed in between.
    async fn on_disk(&self) -> Result<()> {
        self.rabbit()?.declarations_on_disk().await
    }

    async fn is_empty_within(&self, patience: Duration) -> Result<bool> {
        let end = tokio::time::Instant::now() + patience;
        while tokio::time::Instant::now() < end {
            if self.is_quiet().await? {
                return Ok(true);
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(false)
    }

    /// A shutdown in the middle of another fault may run out of time. The report counts it.
    fn note_stop(&self, problem: Option<String>) {
        match problem {
            Some(problem) if problem.contains("Error: Timeout {") => self.books_now().late += 1,
            problem => self.note(problem),
        }
    }

    fn note(&self, problem: Option<String>) {
        self.books_now().problems.extend(problem);
    }
}

async fn away(server: &Server, outage: Outage, lasts: Duration) -> Result<()> {
    match outage {
        Outage::Paused => {
            server.pause();
            sleep(lasts).await;
            server.resume();
            return Ok(());
        }
        Outage::Stopped => server.stop().await?,
        Outage::Killed | Outage::Disconnecting => server.kill9(),
    }
    sleep(lasts).await;
    server.start_again().await
}

async fn bad_wire(proxy: &Proxy, wire: Wire, lasts: Duration) {
    match wire {
        // Cuts again and again, so that a cut falls into the middle of a COMMIT, for example.
        Wire::Cut => {
            let end = Instant::now() + lasts;
            while Instant::now() < end {
                proxy.cut();
                sleep(CUTS).await;
            }
            return;
        }
        Wire::RequestsClosed => return proxy.close_requests(),
        Wire::AnswersClosed => return proxy.close_answers(),
        Wire::Stalled => proxy.stall(),
        Wire::AnswersStalled => proxy.stall_answers(),
        Wire::Delayed => proxy.delay(Duration::from_millis(100)),
        Wire::Halved => {
            let before = proxy.carried();
            sleep(Duration::from_secs(1)).await;
            // The count covers both directions, so each direction gets a quarter of it.
            proxy.limit(((proxy.carried() - before) / 4).max(1_000));
        }
    }
    sleep(lasts).await;
    proxy.resume();
}
