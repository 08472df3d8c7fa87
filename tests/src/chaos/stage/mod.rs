//! The servers, proxies and workers of a run, and how they are broken.

mod database;
mod inject;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use self::{database::Database, worker::Slot};
use super::{
    books::Books,
    plan::{Plan, Transport},
    work::{Order, Role},
};
use crate::{Error, RabbitMq, Result, WorkDir};

/// How long the sellers may take to end their sales, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// The workers that always run.
const CREW: [Role; 5] = [
    Role::Seller,
    Role::Seller,
    Role::Mail,
    Role::Mail,
    Role::Audit,
];

/// Servers, wires, workers and the books about them.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(super) database: Database,
    transport: Transport,
    rabbit: Option<RabbitMq>,
    /// One fault at a time for each server.
    database_turn: tokio::sync::Mutex<()>,
    broker_turn: tokio::sync::Mutex<()>,
    slots: Vec<Slot>,
    /// For the seller and the subscriber that come and go.
    spares: [Slot; 2],
    books: Mutex<Books>,
    born: AtomicU32,
    program: PathBuf,
    seed: u64,
    dir: WorkDir,
}

impl Stage {
    /// Starts servers and workers.
    pub(super) async fn open(plan: &Plan, program: &Path) -> Result<Self> {
        let rabbit = async {
            match plan.transport {
                Transport::RabbitMq => RabbitMq::start().await.map(Some),
                Transport::Log => Ok(None),
            }
        };
        let (database, rabbit) = tokio::try_join!(Database::start(plan.database), rabbit)?;
        let (url, broker) = (database.url(), rabbit.as_ref().map(|rabbit| rabbit.url()));
        let mut slots = Vec::new();
        for role in CREW {
            slots.push(Slot::new(role, &url, broker.as_deref()).await?);
        }
        let spares = [
            Slot::new(Role::Seller, &url, broker.as_deref()).await?,
            Slot::new(Role::Mail, &url, broker.as_deref()).await?,
        ];
        let stage = Self {
            database,
            transport: plan.transport,
            rabbit,
            database_turn: tokio::sync::Mutex::default(),
            broker_turn: tokio::sync::Mutex::default(),
            slots,
            spares,
            books: Mutex::default(),
            born: AtomicU32::new(1),
            program: program.into(),
            seed: plan.seed,
            dir: WorkDir::new("chaos")?,
        };
        for slot in &stage.slots {
            *slot.worker.lock().await = Some(stage.hire(slot, None)?);
        }
        Ok(stage)
    }

    /// The books, up to date with the journals.
    pub(super) fn books(&self) -> Result<MutexGuard<'_, Books>> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.read()?;
        Ok(books)
    }

    /// The numbers of the permanent workers, sellers first.
    pub(super) async fn born(&self) -> Vec<(Role, u32)> {
        let mut born = Vec::new();
        for slot in &self.slots {
            if let Some(worker) = &*slot.worker.lock().await {
                born.push((slot.role, worker.born));
            }
        }
        born
    }

    /// Stops the sellers from beginning sales, and waits until each has ended its last one. No other fault
    /// runs meanwhile, so all sellers are alive.
    pub(super) async fn hold_sellers(&self) -> Result<()> {
        self.books()?.held.clear();
        let told = self.tell_sellers(Order::Hold).await;
        let end = Instant::now() + PATIENCE;
        while !self.hold(&told)? {
            if Instant::now() > end {
                let problem = format!("not all of the sellers {told:?} hold after {PATIENCE:?}");
                self.books_now().problems.push(problem);
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn hold(&self, sellers: &[u32]) -> Result<bool> {
        let books = self.books()?;
        Ok(sellers.iter().all(|born| books.held.contains(born)))
    }

    /// Gives every living seller an order, and returns their numbers.
    pub(super) async fn tell_sellers(&self, order: Order) -> Vec<u32> {
        let mut told = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.role == Role::Seller) {
            if let Some(worker) = &*slot.worker.lock().await {
                worker.tell(order);
                told.push(worker.born);
            }
        }
        told
    }

    /// Shuts every worker down, and returns the problems.
    pub(super) async fn stop_all(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for slot in &self.slots {
            if let Some(worker) = slot.worker.lock().await.take() {
                problems.extend(worker.stop().await);
            }
        }
        problems.append(&mut self.books_now().problems);
        problems
    }

    /// Where the workers' journals and logs are.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The number of records that are not sent or not handled yet, and how many of them have failed.
    pub(super) async fn records(&self) -> Result<(i64, i64)> {
        self.database.records(self.transport).await
    }

    /// The committed sales, and the number of messages of each.
    pub(super) async fn sales(&self) -> Result<Vec<(i64, i64)>> {
        let sales = "SELECT id, messages FROM sales";
        self.database.pairs(sales).await
    }

    /// Whether no transaction is open, no record is left, and every message is handled, except those whose
    /// handler always fails.
    pub(super) async fn is_quiet(&self) -> Result<bool> {
        // This check comes first: a transaction that commits later is in none of the tables yet. A caller
        // that went away leaves such a COMMIT behind.
        if self.database.writers().await? > 0 || self.records().await?.0 > 0 {
            return Ok(false);
        }
        // The journals do not know of sales whose COMMIT was not answered; the table does.
        let sales = self.sales().await?;
        Ok(self.books()?.unhandled(&sales) == 0)
    }

    /// RabbitMQ, for faults that need it.
    pub(super) fn rabbit(&self) -> Result<&RabbitMq> {
        let missing = || {
            Error::new(
                "there is no RabbitMQ to break",
                "plan faults of the log only",
            )
        };
        self.rabbit.as_ref().ok_or_else(missing)
    }

    fn books_now(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_born(&self) -> u32 {
        self.born.fetch_add(1, Ordering::Relaxed)
    }
}
