//! A capture between a source, a target and a store that live in this process. The test tells each of them what to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use final_core::admin::doctor::Finding;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{CaptureError, RunningCapture};
use crate::{
    engine::Engine,
    format::EncoderOptions,
    position::{
        ParkedChange, Position, PositionError, PositionStore, SourceIdentity, SourcePoint,
        Standing, TakenTerm, Term,
    },
    select::Selection,
    source::{
        Event, OpenedSource, Reader, RowChange, RowOp, Source, SourceError, SourceLag, Transaction,
    },
    table::{Column, ColumnKind, Table, TableName},
    target::{Job, OnPoison, Outlet, TargetEnd},
    value::Value,
};

const SHUTDOWN: Duration = Duration::from_millis(500);

/// A store with one reader.
#[derive(Default)]
struct Store {
    is_away: AtomicBool,
    is_held: AtomicBool,
    number: AtomicI64,
}

impl Store {
    fn answer(&self) -> Result<(), PositionError> {
        match self.is_away.load(Ordering::SeqCst) {
            true => Err(PositionError::Database {
                doing: "a test",
                source: sqlx::Error::PoolTimedOut,
            }),
            false => Ok(()),
        }
    }
}

impl PositionStore for Store {
    fn place(&self) -> String {
        "a test".to_owned()
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), PositionError>> {
        Box::pin(async { Ok(()) })
    }

    fn take<'a>(
        &'a self,
        name: &'a str,
        owner: Uuid,
        _: Duration,
    ) -> BoxFuture<'a, Result<Option<TakenTerm>, PositionError>> {
        Box::pin(async move {
            self.answer()?;
            self.is_held.store(true, Ordering::SeqCst);
            Ok(Some(TakenTerm {
                term: Term {
                    name: name.into(),
                    owner,
                    epoch: 1,
                },
                position: None,
                number: self.number.load(Ordering::SeqCst),
            }))
        })
    }

    fn save<'a>(
        &'a self,
        _: &'a Term,
        standing: &'a Standing,
        _: &'a [ParkedChange],
    ) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            self.answer()?;
            self.number.store(standing.number, Ordering::SeqCst);
            Ok(())
        })
    }

    fn release<'a>(&'a self, _: &'a Term) -> BoxFuture<'a, Result<(), PositionError>> {
        Box::pin(async move {
            self.answer()?;
            self.is_held.store(false, Ordering::SeqCst);
            Ok(())
        })
    }
}

/// A target that is away: it takes no lot.
struct Away(Arc<Store>);

impl Outlet for Away {
    fn kind(&self) -> &'static str {
        "a test"
    }

    fn positions(&self) -> Arc<dyn PositionStore> {
        Arc::clone(&self.0) as Arc<dyn PositionStore>
    }

    fn migrate(&self) -> BoxFuture<'_, Result<(), CaptureError>> {
        Box::pin(async { Ok(()) })
    }

    fn open<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), CaptureError>> {
        Box::pin(async { Ok(()) })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<(), TargetEnd>> {
        Box::pin(async move {
            let _open = job;
            std::future::pending().await
        })
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A source of two transactions. Then it is quiet, or breaks.
struct Two {
    breaks: bool,
}

struct TwoReader {
    read: u64,
    breaks: bool,
}

impl Source for Two {
    fn check<'a>(&'a self, _: &'a Selection) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn open<'a>(
        &'a self,
        _: &'a Selection,
        _: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>> {
        Box::pin(async move {
            Ok(OpenedSource {
                reader: Box::new(TwoReader {
                    read: 0,
                    breaks: self.breaks,
                }),
                identity: SourceIdentity("test:1".into()),
                point: SourcePoint::Lsn(0),
            })
        })
    }

    fn place(&self) -> String {
        "a test".to_owned()
    }
}

impl Reader for TwoReader {
    fn read<'a>(
        &'a mut self,
        events: &'a mut Vec<Event>,
        _: usize,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            if self.read == 2 {
                return match self.breaks {
                    true => Err(SourceError::Away("the stream broke".into())),
                    false => std::future::pending().await,
                };
            }
            self.read += 1;
            let id = Column {
                name: "id".into(),
                kind: ColumnKind::Integer {
                    bytes: 8,
                    unsigned: false,
                },
                declared: "bigint".into(),
            };
            events.extend([
                Event::Begin(Transaction {
                    id: self.read.to_string().into(),
                    at: 0,
                    after: SourcePoint::Lsn(self.read - 1),
                }),
                Event::Row(RowChange {
                    table: Arc::new(Table {
                        name: TableName {
                            schema: "shop".into(),
                            table: "holes".into(),
                        },
                        columns: vec![id],
                        key: vec![0],
                    }),
                    op: RowOp::Insert,
                    before: None,
                    after: Some(vec![Value::Int(1)]),
                    index: 0,
                }),
                Event::Commit(SourcePoint::Lsn(self.read)),
            ]);
            Ok(())
        })
    }

    fn saved(&mut self, _: &SourcePoint) {}

    fn lag(&self) -> SourceLag {
        SourceLag::default()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

fn start(store: &Arc<Store>, source: Two) -> RunningCapture {
    let selection = Selection::tables(["shop.*"]);
    RunningCapture::start(Engine {
        name: "shop".into(),
        owner: Uuid::now_v7(),
        source: Box::new(source),
        encoder: EncoderOptions::new(selection),
        outlet: Arc::new(Away(Arc::clone(store))),
        from: None,
        lease: Duration::from_secs(1),
        on_poison: OnPoison::Park,
        most_parked: 10,
        max_message_bytes: 1_000,
        shutdown_within: SHUTDOWN,
        on_schema_change: None,
    })
}

/// Waits a minute of the paused clock for something.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_capture_is_ready_again_after_an_outage_that_was_longer_than_its_lease() {
    let store = Arc::new(Store::default());
    let running = start(&store, Two { breaks: false });
    until("it reads", || running.health().is_ready()).await;
    store.is_away.store(true, Ordering::SeqCst);
    until("the outage is seen", || {
        running.stats().target_trouble.is_some()
    })
    .await;
    assert!(!running.health().is_ready());
    store.is_away.store(false, Ordering::SeqCst);
    until("it is ready again", || running.health().is_ready()).await;
    running.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_while_the_target_is_away_has_its_limit_and_gives_the_lease_back() {
    for breaks in [false, true] {
        let store = Arc::new(Store::default());
        let running = start(&store, Two { breaks });
        until("all is read", || running.stats().transactions == 2).await;
        sleep(Duration::from_millis(100)).await;
        let began = Instant::now();
        running.shutdown().await;
        let took = began.elapsed();
        assert!(took < SHUTDOWN * 2, "{took:?}, breaks: {breaks}");
        assert!(!store.is_held.load(Ordering::SeqCst), "breaks: {breaks}");
    }
}
