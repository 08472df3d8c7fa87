//! What a gateway says of itself while its database is asked by many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use final_core::{SqlBroker, database::DbResult};
use futures::future::{BoxFuture, join_all};
use sqlx::SqlitePool;
use tokio::sync::watch;

use super::{
    engine::{LinkNumbers, Motor},
    latest::Latest,
    vitals::Condition,
};
use crate::{
    groups::{GroupOptions, Groups},
    http::Vitals,
    publish::{Committer, LogStore, QueueLimits},
    rights::Rights,
};

/// A database that is away, and counts how often it is asked.
#[derive(Default)]
struct Away {
    pings: AtomicUsize,
    links: AtomicUsize,
}

impl Away {
    fn asked(&self) -> (usize, usize) {
        let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
        (count(&self.pings), count(&self.links))
    }
}

impl Motor for Away {
    fn ping(&self) -> BoxFuture<'_, DbResult<()>> {
        Box::pin(async {
            self.pings.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            Err(sqlx::Error::Configuration("user shop on host db-7".into()))
        })
    }

    fn trouble(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    fn link(&self) -> BoxFuture<'_, LinkNumbers> {
        Box::pin(async {
            self.links.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(100)).await;
            LinkNumbers {
                connected: true,
                pending: Some(7),
            }
        })
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test]
async fn however_many_ask_the_database_is_asked_once_in_a_second_and_its_error_is_not_told() {
    let file = final_tests::sqlite_file().expect("a file");
    let pool = SqlitePool::connect(&file.url()).await.expect("connected");
    let log = SqlBroker::new(pool.clone());
    let store = Arc::new(LogStore(log.clone()));
    let limit = Duration::from_secs(60);
    let (publisher, committer) = Committer::start(store, QueueLimits::default(), limit);
    let options = GroupOptions::default();
    let groups = Groups::over_log(pool.clone(), log, "one", options).await;
    let (_told, died) = watch::channel(None);
    let motor = Arc::new(Away::default());
    let condition = Condition {
        motor: Arc::clone(&motor) as Arc<dyn Motor>,
        publisher,
        groups: groups.expect("groups"),
        rights: Rights::tables(pool),
        is_stopping: Arc::new(AtomicBool::new(false)),
        died,
        asked: Arc::default(),
    };
    tokio::time::pause();

    let reasons = join_all((0..100).map(|_| condition.not_ready())).await;
    let numbers = join_all((0..100).map(|_| condition.metrics())).await;
    assert_eq!(motor.asked(), (1, 1));
    for reasons in reasons {
        let reasons = reasons.join("\n");
        assert!(
            reasons.contains("the database does not answer"),
            "{reasons}"
        );
        assert!(!reasons.contains("db-7"), "{reasons}");
    }
    for numbers in numbers {
        assert!(numbers.contains("final_gateway_connected 1"), "{numbers}");
        assert!(numbers.contains("pending_messages 7"), "{numbers}");
    }

    tokio::time::advance(Duration::from_secs(1)).await;
    condition.not_ready().await;
    condition.metrics().await;
    assert_eq!(motor.asked(), (2, 2));
    tokio::time::resume();
    committer.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_question_whose_caller_goes_away_is_asked_by_the_next() {
    let latest = Latest::default();
    let gone = latest.get(std::future::pending::<u8>());
    let gone = tokio::time::timeout(Duration::from_millis(1), gone).await;
    assert!(gone.is_err());
    assert_eq!(latest.get(async { 7 }).await, 7);
    assert_eq!(latest.get(async { 8 }).await, 7);
}
