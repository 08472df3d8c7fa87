//! The sellers: transactions of every kind, one after another.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use final_core::{Bus, Error, TxBus};
use tokio::{
    sync::{RwLock, watch},
    task::JoinHandle,
    time,
};

use super::{AnyError, Behavior, Job, LEASE, Role, Sold, shop::Shop};
use crate::chaos::{
    journal::{Entry, Journal},
    now,
};

/// How many sell at once in one process.
const SELLERS: u32 = 6;
/// The mean pause between two sales of one seller, in milliseconds.
const PAUSE: u64 = 40;

/// The selling tasks of this process.
pub(super) struct Sellers {
    phase: watch::Sender<Phase>,
    /// Shared by those that are in the middle of a sale.
    open: Arc<RwLock<()>>,
    tasks: Vec<JoinHandle<Result<(), AnyError>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Selling,
    Holding,
    Over,
}

impl Sellers {
    pub(super) fn start<DB: Shop>(job: &Job, bus: &Bus<DB>, journal: &Arc<Journal>) -> Self {
        let (phase, _) = watch::channel(Phase::Selling);
        let open = Arc::new(RwLock::new(()));
        let number = if job.role == Role::Seller { SELLERS } else { 0 };
        let start = |n| {
            let seller = Seller {
                bus: bus.clone(),
                journal: Arc::clone(journal),
                rng: Rng::with_seed(job.seed ^ u64::from(job.born) << 32 ^ u64::from(n)),
                next: i64::from(job.born) << 32 | i64::from(n) << 24,
                notes: job.broker.is_none(),
            };
            tokio::spawn(seller.sell(phase.subscribe(), Arc::clone(&open)))
        };
        let tasks = (0..number).map(start).collect();
        Self { phase, open, tasks }
    }

    /// Begins no more sales, and waits until none is open. A sale that is committed after the tables were
    /// read for the last time would count as lost.
    pub(super) async fn hold(&self) {
        self.phase.send_replace(Phase::Holding);
        drop(self.open.write().await);
    }

    pub(super) fn go_on(&self) {
        self.phase.send_replace(Phase::Selling);
    }

    /// Waits until each seller has ended its sale.
    pub(super) async fn stop(self) -> Result<(), AnyError> {
        self.phase.send_replace(Phase::Over);
        for task in self.tasks {
            task.await??;
        }
        Ok(())
    }
}

struct Seller<DB: Shop> {
    bus: Bus<DB>,
    journal: Arc<Journal>,
    rng: Rng,
    next: i64,
    /// Whether some messages are long. The log reads long messages one by one.
    notes: bool,
}

/// A transaction that is about to run.
#[derive(Debug, Clone, Copy)]
struct Sale {
    id: i64,
    messages: u8,
    way: Way,
    serializable: bool,
    /// The things that it takes from the stock, in this order.
    stock: Option<[i32; 2]>,
    /// How long it stays open.
    open: Duration,
    key: bool,
    notes: bool,
}

/// Which API the transaction uses, and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Closure,
    ByHand,
    /// Writes one message early.
    Flushed,
    /// The bus borrows the transaction and does not end it.
    PublishIn,
    RolledBack,
    RolledBackByHand,
    /// The caller goes away after so many microseconds.
    Dropped(u64),
}

impl<DB: Shop> Seller<DB> {
    async fn sell(
        mut self,
        mut phase: watch::Receiver<Phase>,
        open: Arc<RwLock<()>>,
    ) -> Result<(), AnyError> {
        loop {
            phase.wait_for(|phase| *phase != Phase::Holding).await?;
            let selling = open.read().await;
            match *phase.borrow() {
                Phase::Selling => {}
                Phase::Holding => continue,
                Phase::Over => return Ok(()),
            }
            let sale = self.draw();
            self.next += 1;
            let entry = match sale.way {
                Way::Dropped(after) => {
                    let after = Duration::from_micros(after);
                    match time::timeout(after, self.transact(sale)).await {
                        Ok(entry) => entry,
                        Err(_) => Some(Entry::Dropped { sale: sale.id }),
                    }
                }
                _ => self.transact(sale).await,
            };
            if let Some(entry) = entry {
                self.journal.write(&entry)?;
            }
            drop(selling);
            let pause = self.rng.u64(0..2 * PAUSE);
            time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn draw(&mut self) -> Sale {
        let rng = &mut self.rng;
        let way = match rng.u8(0..100) {
            0..=9 => Way::ByHand,
            10..=14 => Way::Flushed,
            15..=19 => Way::PublishIn,
            20..=24 => Way::RolledBack,
            25..=27 => Way::RolledBackByHand,
            28..=32 => Way::Dropped(rng.u64(0..8_000)),
            _ => Way::Closure,
        };
        let open = match rng.u16(0..2_000) {
            0..=1 if DB::HAS_ONE_WRITER => LEASE / 2,
            0..=1 => LEASE + Duration::from_secs(1),
            2..=39 => Duration::from_millis(rng.u64(0..800)),
            _ => Duration::ZERO,
        };
        Sale {
            id: self.next,
            messages: rng.u8(1..=5),
            way,
            serializable: rng.u8(0..20) == 0,
            // Not in a transaction that stays open for long: all others would wait for its locks.
            stock: (open < LEASE && rng.u8(0..10) == 0).then(|| [rng.i32(0..4), rng.i32(0..4)]),
            open,
            key: rng.bool(),
            notes: self.notes,
        }
    }

    /// Runs the transaction, and returns what the caller was told, or nothing if no transaction began.
    async fn transact(&self, sale: Sale) -> Option<Entry> {
        let bus = &self.bus;
        let tx = match bus.begin().await {
            Ok(tx) => tx,
            Err(error) => {
                tracing::debug!(%error, "no transaction");
                time::sleep(Duration::from_millis(50)).await;
                return None;
            }
        };
        let told = match sale.way {
            Way::Closure | Way::Flushed | Way::RolledBack | Way::Dropped(_) => {
                bus.transaction(tx, async |mut txbus| fill(&mut txbus, sale).await)
                    .await
            }
            Way::ByHand | Way::RolledBackByHand => by_hand(bus.with_tx(tx), sale).await,
            Way::PublishIn => borrowed(bus, tx, sale).await,
        };
        let id = sale.id;
        Some(match told {
            Ok(()) => Entry::Committed {
                sale: id,
                messages: sale.messages,
                at: now(),
            },
            Err(error) if is_unknown(&error) => Entry::Unknown { sale: id },
            Err(error) => {
                tracing::debug!(%error, sale = id, "rolled back");
                Entry::RolledBack { sale: id }
            }
        })
    }
}

/// Writes the sale and publishes its messages.
async fn fill<DB: Shop, M>(txbus: &mut TxBus<DB, M>, sale: Sale) -> Result<(), AnyError> {
    before::<DB>(txbus.conn(), sale).await?;
    for index in 0..sale.messages {
        let topic = TOPICS[usize::from(index) % TOPICS.len()];
        let (sold, delay) = message(sale, index);
        let mut publish = txbus.publish(topic, &sold).delay(delay);
        if sale.key {
            publish = publish.key(sale.id.to_string()).header("till", "3");
        }
        publish.await?;
        if sale.way == Way::Flushed && index == 0 {
            txbus.flush().await?;
        }
    }
    time::sleep(sale.open).await;
    match sale.way {
        Way::RolledBack => Err("not sold".into()),
        _ => Ok(()),
    }
}

async fn by_hand<DB: Shop>(
    mut txbus: TxBus<DB, final_core::bus::ByHand>,
    sale: Sale,
) -> Result<(), AnyError> {
    fill(&mut txbus, sale).await?;
    if sale.way == Way::RolledBackByHand {
        txbus.rollback().await?;
        return Err("not sold".into());
    }
    Ok(txbus.commit().await?)
}

/// The bus writes into a transaction that somebody else ends.
async fn borrowed<DB: Shop>(
    bus: &Bus<DB>,
    mut tx: sqlx::Transaction<'static, DB>,
    sale: Sale,
) -> Result<(), AnyError> {
    before::<DB>(&mut tx, sale).await?;
    for index in 0..sale.messages {
        let topic = TOPICS[usize::from(index) % TOPICS.len()];
        let (sold, delay) = message(sale, index);
        bus.publish_in(&mut *tx, topic, &sold).delay(delay).await?;
    }
    time::sleep(sale.open).await;
    // After any error of COMMIT the caller does not know whether the transaction took place.
    tx.commit()
        .await
        .map_err(|_| Error::CommitUnknown { ids: Vec::new() })?;
    bus.wake();
    Ok(())
}

const TOPICS: [&str; 3] = ["sold.a", "sold.b", "sold.c"];

async fn before<DB: Shop>(conn: &mut DB::Connection, sale: Sale) -> Result<(), AnyError> {
    if sale.serializable {
        DB::be_serializable(conn).await?;
    }
    DB::insert_sale(conn, sale.id, sale.messages).await?;
    for what in sale.stock.into_iter().flatten() {
        DB::take_from_stock(conn, what).await?;
    }
    Ok(())
}

fn message(sale: Sale, index: u8) -> (Sold, Duration) {
    let delay = Behavior::delay(sale.id, index);
    let sold = Sold {
        sale: sale.id,
        index,
        due: now() + u64::try_from(delay.as_micros()).unwrap_or(0),
        note: ".".repeat(if sale.notes {
            Behavior::note(sale.id, index)
        } else {
            0
        }),
    };
    (sold, delay)
}

fn is_unknown(error: &AnyError) -> bool {
    matches!(
        error.downcast_ref::<Error>(),
        Some(Error::CommitUnknown { .. })
    )
}
