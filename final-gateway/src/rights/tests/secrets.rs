//! Secrets: slow checks are few and remembered, failures are slowed, and nothing secret is shown.

use std::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;

use super::{
    AppLimits, AuthError, Node, Operations, Place, Rights, SOON, TestDatabase, everywhere,
};
use crate::rights::{Grants, databus::DatabusApp, databus::DatabusRight};

everywhere!(nothing_secret_is_shown);

/// Slow checks have nothing to do with the database, and take their time.
macro_rules! on_sqlite {
    ($($name:ident),+ $(,)?) => {
        mod checks {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(super::Place::<sqlx::Sqlite>::fresh().await).await;
                }
            )+
        }
    };
}

on_sqlite!(
    a_secret_that_people_chose_is_checked_slowly_once_a_minute,
    a_failure_costs_the_same_whatever_is_wrong,
    a_flood_of_wrong_secrets_takes_two_places_and_lets_others_in,
    failures_are_slowed_for_their_app_and_address_and_a_right_secret_of_ours_gets_in,
    a_remembered_secret_is_no_way_to_guess_without_being_slowed,
    guesses_at_the_same_time_are_slowed_like_guesses_one_by_one,
);

const CHOSEN: &str = "app_secret1 'ü\"";

/// An app whose secret people have chosen.
async fn imported<DB: TestDatabase>(at: &Place<DB>, key: &str) {
    let app = DatabusApp {
        place: "a test".to_owned(),
        key: key.to_owned(),
        secret: CHOSEN.to_owned(),
        is_deleted: false,
        rights: vec![DatabusRight {
            group: "g".to_owned(),
            topic: "t".to_owned(),
            operation: 3,
            batch: 0,
            is_deleted: false,
        }],
    };
    let plan = at.apps.plan_import(&[app]).await.expect("a plan");
    at.apps.import(&plan).await.expect("imported");
}

async fn a_secret_that_people_chose_is_checked_slowly_once_a_minute<DB: TestDatabase>(
    at: Place<DB>,
) {
    imported(&at, "old").await;
    let node = at.node().await;
    // A restart: all clients come at once.
    let logins = join_all((0..200).map(|_| node.log_in_with("old", CHOSEN))).await;
    assert!(logins.iter().all(Result::is_ok));
    assert_eq!(node.rights.checking().slow_checks(), 1);
    for _ in 0..100 {
        node.log_in_with("old", CHOSEN).await.expect("remembered");
    }
    assert_eq!(node.rights.checking().slow_checks(), 1);
    assert_eq!(
        node.log_in_with("old", "another").await.err(),
        Some(AuthError::Secret)
    );
    assert_eq!(node.rights.checking().slow_checks(), 2);

    node.rights.put_forward(Duration::from_secs(60));
    node.log_in_with("old", CHOSEN)
        .await
        .expect("checked again");
    assert_eq!(node.rights.checking().slow_checks(), 3);

    // What is remembered of a secret ends with it.
    let apps = node.rights.apps().expect("tables");
    let new = apps
        .rotate("old", Duration::from_secs(600))
        .await
        .expect("rotated");
    node.log_in_with("old", CHOSEN)
        .await
        .expect("within the overlap");
    node.log_in("old", &new).await.expect("the new one");
    apps.rotate("old", Duration::ZERO).await.expect("rotated");
    assert_eq!(
        node.log_in_with("old", CHOSEN).await.err(),
        Some(AuthError::Secret)
    );
    node.stop().await;
}

async fn a_failure_costs_the_same_whatever_is_wrong<DB: TestDatabase>(at: Place<DB>) {
    at.app("ours").await;
    let node = at.node().await;
    for (key, error) in [("ours", AuthError::Secret), ("nobody", AuthError::Key)] {
        assert_eq!(node.log_in_with(key, "wrong").await.err(), Some(error));
    }
    assert_eq!(
        node.rights.checking().slow_checks(),
        0,
        "no secret here is slow"
    );

    imported(&at, "old").await;
    imported(&at, "off").await;
    at.apps.disable("off").await.expect("disabled");
    node.rights.read().await.expect("read");
    let mut checks = 0;
    for (key, secret, error) in [
        ("ours", "wrong", AuthError::Secret),
        ("old", "wrong", AuthError::Secret),
        ("nobody", "wrong", AuthError::Key),
        ("off", CHOSEN, AuthError::Key),
        ("old", &*"x".repeat(1025), AuthError::Secret),
        ("ours", &*"x".repeat(1025), AuthError::Secret),
    ] {
        assert_eq!(
            node.log_in_with(key, secret).await.err(),
            Some(error),
            "{key}"
        );
        checks += 1;
        assert_eq!(node.rights.checking().slow_checks(), checks, "{key}");
    }
    node.stop().await;
}

async fn a_flood_of_wrong_secrets_takes_two_places_and_lets_others_in<DB: TestDatabase>(
    at: Place<DB>,
) {
    let ours = at.app("ours").await;
    imported(&at, "old").await;
    imported(&at, "other").await;
    let node = at.node().await;
    let flood = (0..60_u32).map(|number| {
        let from = Some(IpAddr::V4(Ipv4Addr::from(number)));
        let key = ["old", "nobody", "ours"][number as usize % 3];
        node.rights.authenticate(from, key, b"wrong")
    });
    let others = async {
        // Behind the flood.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let begun = Instant::now();
        node.log_in("ours", &ours)
            .await
            .expect("needs no slow check");
        let quick = begun.elapsed();
        let slow = node.log_in_with("other", CHOSEN).await;
        (quick, slow)
    };
    let (failed, (quick, slow)) = tokio::join!(join_all(flood), others);
    assert!(failed.iter().all(Result::is_err));
    assert!(node.rights.checking().most_at_a_time() <= 2);
    assert!(quick < Duration::from_secs(2), "{quick:?}");
    slow.expect("waits for its turn");
    final_tests::eventually("both places are free", SOON, async || {
        node.rights.checking().free_places() == 2
    })
    .await;
    node.stop().await;
}

async fn failures_are_slowed_for_their_app_and_address_and_a_right_secret_of_ours_gets_in<
    DB: TestDatabase,
>(
    at: Place<DB>,
) {
    let ours = at.app("ours").await;
    at.app("second").await;
    imported(&at, "old").await;
    let node = at.node().await;
    node.rights.stop_clock();
    let bad: Option<IpAddr> = Some("10.0.0.1".parse().expect("an address"));
    let guess = async |key: &str, secret: &str| {
        let app = node.rights.authenticate(bad, key, secret.as_bytes());
        app.await.err()
    };
    assert_eq!(guess("old", CHOSEN).await, None);
    for key in ["ours", "old"] {
        for number in 0..10 {
            assert_eq!(
                guess(key, &format!("guess {number}")).await,
                Some(AuthError::Secret)
            );
        }
        let before = node.rights.checking().slow_checks();
        for _ in 0..100 {
            assert_eq!(guess(key, "guess").await, Some(AuthError::Slowed), "{key}");
        }
        assert_eq!(
            node.rights.checking().slow_checks(),
            before,
            "a slowed guess costs nothing"
        );
    }
    // A neighbour of the guesser behind the same address.
    assert_eq!(guess("ours", ours.reveal()).await, None);
    assert_eq!(guess("second", "x").await, Some(AuthError::Secret));
    // Another address.
    assert_eq!(
        node.log_in_with("old", "x").await.err(),
        Some(AuthError::Secret)
    );
    node.rights.put_forward(Duration::from_secs(3));
    assert_eq!(guess("ours", "x").await, Some(AuthError::Secret));
    assert_eq!(guess("ours", "x").await, Some(AuthError::Slowed));
    node.stop().await;
}

async fn a_remembered_secret_is_no_way_to_guess_without_being_slowed<DB: TestDatabase>(
    at: Place<DB>,
) {
    imported(&at, "old").await;
    let node = at.node().await;
    node.rights.stop_clock();
    let [good, bad] = ["10.0.0.1", "10.0.0.2"].map(|from| from.parse::<IpAddr>().ok());
    let log_in = async |from, secret: &str| {
        let app = node.rights.authenticate(from, "old", secret.as_bytes());
        app.await.err()
    };
    assert_eq!(log_in(good, CHOSEN).await, None);
    for number in 0..10 {
        let guess = log_in(bad, &format!("guess {number}")).await;
        assert_eq!(guess, Some(AuthError::Secret));
    }
    // The right one is told from a wrong one only as often as a guess is allowed.
    assert_eq!(log_in(bad, "guess").await, Some(AuthError::Slowed));
    assert_eq!(log_in(bad, CHOSEN).await, Some(AuthError::Slowed));
    assert_eq!(log_in(good, CHOSEN).await, None, "another address");
    node.rights.put_forward(Duration::from_secs(3));
    assert_eq!(log_in(bad, CHOSEN).await, None);
    assert_eq!(node.rights.checking().slow_checks(), 1 + 10);
    node.stop().await;
}

async fn guesses_at_the_same_time_are_slowed_like_guesses_one_by_one<DB: TestDatabase>(
    at: Place<DB>,
) {
    imported(&at, "old").await;
    let node = at.node().await;
    node.rights.stop_clock();
    node.log_in_with("old", CHOSEN).await.expect("right");
    let guesses = (0..100).map(|_| node.log_in_with("old", "guess"));
    let errors: Vec<_> = join_all(guesses)
        .await
        .into_iter()
        .map(Result::err)
        .collect();
    let of = |error: AuthError| {
        let same = errors.iter().flatten().filter(|one| **one == error);
        same.count()
    };
    assert_eq!((of(AuthError::Secret), of(AuthError::Slowed)), (10, 90));
    node.stop().await;
}

/// Everything that anybody logs on this thread, the driver as well.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl tracing::Subscriber for Recorder {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Fields(&mut self.0.lock().unwrap()));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

async fn nothing_secret_is_shown<DB: TestDatabase>(at: Place<DB>) {
    const WRONG: &str = "a-wrong-secret";
    let recorder = Recorder::default();
    let _recording = tracing::subscriber::set_default(recorder.clone());
    let first = at
        .apps
        .create("shop", AppLimits::default())
        .await
        .expect("created");
    imported(&at, "old").await;
    let node = at.node().await;
    node.rights.stop_clock();
    let apps = node.rights.apps().expect("tables");
    let second = apps.rotate("shop", SOON).await.expect("rotated");
    let app = node.log_in("shop", &second).await.expect("logged in");
    node.log_in_with("old", CHOSEN).await.expect("logged in");
    let mut shown = String::new();
    for _ in 0..15 {
        // A secret where the key should be is as secret.
        for (key, secret) in [("shop", WRONG), (WRONG, "shop"), ("old", WRONG)] {
            let error = node.log_in_with(key, secret).await.expect_err("wrong");
            let _ = write!(shown, "{error} {error:?} ");
        }
    }
    let permit = app.connect().expect("no limit");
    let decided = Rights::from_fn(|_, _| Ok(Grants::all()));
    let decided = decided
        .authenticate(None, "k", WRONG.as_bytes())
        .await
        .expect("decided");
    let _ = write!(
        shown,
        "{:?} {:?} {app:?} {permit:?} {apps:?} {first:?} {decided:?} {:?} {:?}",
        node.rights,
        app.revoked(),
        apps.list().await.expect("listed"),
        at.apps.create("shop", AppLimits::default()).await,
    );
    apps.disable("shop").await.expect("disabled");
    node.stop().await;

    let logged = recorder.0.lock().unwrap().clone();
    assert!(
        logged.contains("logins fail so often"),
        "the recorder records: {logged}"
    );
    assert!(logged.contains("an app has lost rights"), "{logged}");
    for secret in [first.reveal(), second.reveal(), CHOSEN, WRONG, "$argon2id$"] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}

#[tokio::test]
async fn a_caller_decides_and_ends_a_login_and_failures_are_slowed_all_the_same() {
    let rights = Rights::from_fn(|key, secret| match (key, secret) {
        ("shop", b"s") => Ok(Grants::new().allow("g", "order.*", Operations::PUBLISH)?),
        ("shop", _) => Err(AuthError::Secret),
        _ => Err(AuthError::Key),
    });
    rights.stop_clock();
    let from = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let log_in = async |secret: &'static [u8]| rights.authenticate(from, "shop", secret).await;
    assert!(rights.is_ready() && rights.apps().is_none());
    let app = log_in(b"s").await.expect("decided");
    assert_eq!(
        app.may(super::Operation::Publish, Some("g"), "order.x"),
        Ok(())
    );
    assert_eq!(
        app.may(super::Operation::Subscribe, None, "order.x"),
        Err(super::Denied::Operation)
    );
    let mut last = None;
    for _ in 0..11 {
        last = log_in(b"wrong").await.err();
    }
    assert_eq!(last, Some(AuthError::Slowed));
    let again = log_in(b"s").await.expect("right");
    rights.end("shop");
    assert!(app.revoked().is_cancelled() && again.revoked().is_cancelled());
    log_in(b"s").await.expect("decided anew");
    // `keep_current` has nothing to read, and stops when it is told.
    Node::begin(rights).stop().await;
}
