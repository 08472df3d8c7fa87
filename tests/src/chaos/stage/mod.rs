//! Everything that runs, and how it is broken.

mod database;
mod inject;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use self::{database::Database, worker::Slot};
use super::{
    books::Books,
    plan::Plan,
    work::{Order, Role},
};
use crate::{RabbitMq, Result, WorkDir};

/// The workers that always run; a third seller comes and goes.
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
    rabbit: RabbitMq,
    /// One fault at a time for each server.
    database_turn: tokio::sync::Mutex<()>,
    broker_turn: tokio::sync::Mutex<()>,
    slots: Vec<Slot>,
    /// For the seller that comes and goes.
    spare: Slot,
    books: Mutex<Books>,
    born: AtomicU32,
    program: PathBuf,
    seed: u64,
    dir: WorkDir,
}

impl Stage {
    /// Starts servers and workers.
    pub(super) async fn open(plan: &Plan, program: &Path) -> Result<Self> {
        let (database, rabbit) =
            tokio::try_join!(Database::start(plan.database), RabbitMq::start())?;
        let mut slots = Vec::new();
        for role in CREW {
            slots.push(Slot::new(role, &database.url(), &rabbit.url()).await?);
        }
        let spare = Slot::new(Role::Seller, &database.url(), &rabbit.url()).await?;
        let stage = Self {
            database,
            rabbit,
            database_turn: tokio::sync::Mutex::default(),
            broker_turn: tokio::sync::Mutex::default(),
            slots,
            spare,
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

    /// The books, with all that the workers have written by now.
    pub(super) fn books(&self) -> Result<MutexGuard<'_, Books>> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.read()?;
        Ok(books)
    }

    /// The numbers of the workers that always run, sellers first.
    pub(super) async fn born(&self) -> Vec<(Role, u32)> {
        let mut born = Vec::new();
        for slot in &self.slots {
            if let Some(worker) = &*slot.worker.lock().await {
                born.push((slot.role, worker.born));
            }
        }
        born
    }

    /// Gives every seller an order.
    pub(super) async fn tell_sellers(&self, order: Order) {
        for slot in self.slots.iter().filter(|slot| slot.role == Role::Seller) {
            if let Some(worker) = &*slot.worker.lock().await {
                worker.tell(order);
            }
        }
    }

    /// Ends every worker in good order; says which did not.
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

    pub(super) fn broker_url(&self) -> String {
        self.rabbit.url()
    }

    fn books_now(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_born(&self) -> u32 {
        self.born.fetch_add(1, Ordering::Relaxed)
    }
}
