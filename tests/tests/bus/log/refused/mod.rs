//! The database refuses a row: a dead letter, a scheduled message, a replayed letter. The refused row is not
//! lost, and holds up no other.

mod characters;
mod letters;
mod messages;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{
    Bus, HandlerError, Message, Router, SqlBroker,
    broker::{DeadLetter, DeadLetterFilter},
};
use final_tests::eventually;
use sqlx::{Database as _, MySql, Postgres};

use super::{Log, noting, options, publish};
use crate::{
    database::Database,
    house::{Notes, SOON},
};

/// Statements that make a table refuse or skip rows, and a statement that ends this.
pub struct Guard {
    set: Vec<String>,
    lift: String,
}

impl Guard {
    /// A trigger that raises an error, where a condition is met by `NEW`.
    pub fn refusing<D: Database>(table: &str, condition: &str) -> Self {
        Self::new::<D>(
            table,
            condition,
            ["RAISE EXCEPTION 'not here'", "ABORT, 'not here'"],
        )
    }

    /// A trigger that skips the row. MySQL has no such trigger, but `INSERT IGNORE` skips rows that a CHECK
    /// refuses.
    fn passing_over<D: Database>(table: &str, condition: &str) -> Self {
        if D::NAME == MySql::NAME {
            let condition = condition.replace("NEW.", "");
            return Self {
                set: vec![format!(
                    "ALTER TABLE {table} ADD CONSTRAINT guard CHECK (NOT ({condition}))"
                )],
                lift: format!("ALTER TABLE {table} DROP CONSTRAINT guard"),
            };
        }
        Self::new::<D>(table, condition, ["RETURN NULL", "IGNORE"])
    }

    fn new<D: Database>(table: &str, condition: &str, [postgres, sqlite]: [&str; 2]) -> Self {
        let set = match D::NAME {
            name if name == Postgres::NAME => vec![
                format!(
                    "CREATE OR REPLACE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN IF {condition} THEN {postgres}; END IF; RETURN NEW; END $$"
                ),
                format!(
                    "CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW \
                     EXECUTE FUNCTION guard()"
                ),
            ],
            name if name == MySql::NAME => vec![format!(
                "CREATE TRIGGER guard BEFORE INSERT ON {table} FOR EACH ROW \
                 IF {condition} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not here'; END IF"
            )],
            _ => vec![format!(
                "CREATE TRIGGER guard BEFORE INSERT ON {table} WHEN {condition} \
                 BEGIN SELECT RAISE({sqlite}); END"
            )],
        };
        let on = match D::NAME {
            name if name == Postgres::NAME => format!(" ON {table}"),
            _ => String::new(),
        };
        Self {
            set,
            lift: format!("DROP TRIGGER guard{on}"),
        }
    }

    pub async fn set<D: Database>(&self, log: &Log<D>) {
        for statement in &self.set {
            log.run(statement).await;
        }
    }

    async fn lift<D: Database>(&self, log: &Log<D>) {
        log.run(&self.lift).await;
    }
}

/// A service that handles "placed", and refuses "bad".
struct Shop<D: Database> {
    bus: Bus<D>,
    broker: SqlBroker<D>,
    /// The handled messages of "placed", and below those of "bad".
    placed: Notes,
    bad: Notes,
    told: Arc<AtomicUsize>,
}

impl<D: Database> Shop<D> {
    async fn open(log: &Log<D>, reason: &'static str) -> Self {
        Self::open_on(log, log.broker(), reason).await
    }

    async fn open_on(log: &Log<D>, broker: SqlBroker<D>, reason: &'static str) -> Self {
        let told = Arc::new(AtomicUsize::new(0));
        let telling = Arc::clone(&told);
        let broker = broker.on_commit_error(move |_| {
            telling.fetch_add(1, Ordering::SeqCst);
        });
        // Far longer than a test waits for a shutdown, which has nothing to wait for.
        let options = options().shutdown_timeout(SOON * 10);
        let bus = log.bus_on("shop", broker.clone()).with_options(options);
        let (placed, bad) = (Notes::default(), Notes::default());
        let refused = bad.clone();
        let router = noting(&placed, &["placed"]).route("bad", move |message: Message| {
            refused.add(message);
            async move { Err::<(), _>(HandlerError::permanent(reason)) }
        });
        bus.start(router).await.expect("start");
        Self {
            bus,
            broker,
            placed,
            bad,
            told,
        }
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        let letters = self
            .broker
            .dead_letters("shop", DeadLetterFilter::all())
            .await;
        letters.expect("letters")
    }

    async fn letters_reach(&self, count: usize) -> Vec<DeadLetter> {
        eventually("dead letters", SOON, async || {
            let letters = self.letters().await;
            if letters.len() == count {
                Ok(letters)
            } else {
                Err(letters.len())
            }
        })
        .await
    }

    async fn is_told(&self) {
        eventually("the hook is told", SOON, async || {
            self.told.load(Ordering::SeqCst) > 0
        })
        .await;
    }

    async fn close(self) {
        let shutdown = tokio::time::timeout(SOON, self.bus.shutdown()).await;
        shutdown.expect("it waits for nothing").expect("shutdown");
    }
}

/// Publishes one message to "bad" among others, and waits until the others are handled.
async fn among_others<D: Database>(shop: &Shop<D>) {
    publish(&shop.bus, "placed", 0..20).await;
    publish(&shop.bus, "bad", [100]).await;
    publish(&shop.bus, "placed", 20..40).await;
    shop.placed.reach(40).await;
}

/// Publishes through the outbox of another database. The log refuses one of the messages, and the others
/// arrive. Returns the error of the refused one.
async fn fails_from_elsewhere<D: Database>(
    shop: &Shop<D>,
    log: &Log<D>,
    elsewhere: &Log<D>,
) -> String {
    let far = Bus::new("far", elsewhere.pool.clone(), log.broker())
        .with_options(options().scan_interval(Duration::from_millis(500)));
    far.start(Router::new()).await.expect("start");
    publish(&far, "bad", [1]).await;
    publish(&far, "placed", 0..20).await;

    shop.placed.reach(20).await;
    let failed = eventually("it has failed", SOON, async || {
        let mut failed = far.failed(10).await.expect("failed");
        failed.pop().ok_or(())
    })
    .await;
    far.shutdown().await.expect("shutdown");
    failed.error
}
