//! Who gets in, and what each may.

use std::time::Duration;

use super::{
    AppLimits, AuthError, Denied, Operation, Operations, Place, TestDatabase, everywhere, grant,
};
use crate::rights::AppsError;

everywhere!(
    an_app_logs_in_by_its_secret_and_may_what_its_rights_say,
    hostile_keys_and_secrets_are_refused_and_nothing_else_happens,
    an_old_secret_is_valid_for_the_overlap_and_its_logins_end_with_it,
    operations_are_allowed_and_revoked_one_by_one,
    an_operator_hears_what_cannot_be_done,
);

async fn an_app_logs_in_by_its_secret_and_may_what_its_rights_say<DB: TestDatabase>(at: Place<DB>) {
    let secret = at
        .apps
        .create("Shop", AppLimits::default())
        .await
        .expect("created");
    for right in [
        grant("billing", "order.*", Operations::SUBSCRIBE),
        grant("billing", "order.paid", Operations::PUBLISH),
        grant("audit", "*", Operations::BOTH),
        grant("*", "ping", Operations::PUBLISH),
    ] {
        at.apps.allow("Shop", right).await.expect("allowed");
    }
    let node = at.node().await;
    let app = node.log_in("Shop", &secret).await.expect("logged in");
    let may = |operation, group, topic| app.may(operation, group, topic);
    let (publish, subscribe) = (Operation::Publish, Operation::Subscribe);
    assert_eq!(app.key(), "Shop");
    assert_eq!(may(subscribe, Some("billing"), "order.placed"), Ok(()));
    assert_eq!(
        may(publish, Some("billing"), "order.placed"),
        Err(Denied::Operation)
    );
    // Rights add up: the topic's own does not hide the prefix.
    assert_eq!(may(subscribe, Some("billing"), "order.paid"), Ok(()));
    assert_eq!(may(publish, Some("billing"), "order.paid"), Ok(()));
    assert_eq!(
        may(subscribe, Some("billing"), "orders"),
        Err(Denied::Topic)
    );
    assert_eq!(
        may(subscribe, Some("Billing"), "order.paid"),
        Err(Denied::Topic)
    );
    assert_eq!(may(publish, Some("anything"), "ping"), Ok(()));
    assert_eq!(may(publish, Some("audit"), "x"), Ok(()));
    assert_eq!(may(publish, None, "order.paid"), Ok(()));
    // Without a group any will do, and `audit` has every topic.
    assert_eq!(may(publish, None, "order.placed"), Ok(()));

    let only = at
        .apps
        .create("only", AppLimits::default())
        .await
        .expect("created");
    at.apps
        .allow("only", grant("g", "t", Operations::PUBLISH))
        .await
        .expect("allowed");
    node.rights.read().await.expect("read");
    let only = node.log_in("only", &only).await.expect("logged in");
    assert_eq!(only.may(publish, Some("h"), "t"), Err(Denied::Group));
    assert_eq!(only.may(publish, Some("g"), "u"), Err(Denied::Topic));
    assert_eq!(only.may(publish, None, "u"), Err(Denied::Topic));
    assert_eq!(only.may(subscribe, None, "t"), Err(Denied::Operation));

    let log_in = async |key, secret| node.log_in_with(key, secret).await.err();
    assert_eq!(log_in("Shop", "wrong").await, Some(AuthError::Secret));
    assert_eq!(log_in("Shop", "").await, Some(AuthError::Secret));
    assert_eq!(log_in("shop", secret.reveal()).await, Some(AuthError::Key));
    assert_eq!(log_in("Shop ", secret.reveal()).await, Some(AuthError::Key));
    node.stop().await;
}

async fn hostile_keys_and_secrets_are_refused_and_nothing_else_happens<DB: TestDatabase>(
    at: Place<DB>,
) {
    let good = at.app("good").await;
    let node = at.node().await;
    let long = "x".repeat(1024 * 1024);
    let hostile = [
        "",
        " ",
        "\0",
        "a\0b",
        "'",
        "\"; DROP TABLE final_gateway_apps; --",
        "good'--",
        "🦀",
        "ü\u{301}",
        "\u{202e}good",
        "good\n",
        "%00",
        "{0}",
        "$1",
        "?",
        &long,
    ];
    for text in hostile {
        let key = node.log_in_with(text, good.reveal()).await.err();
        assert_eq!(key, Some(AuthError::Key), "{:.20?}", text);
        let secret = node.log_in_with("good", text).await.err();
        let slowed = secret == Some(AuthError::Slowed);
        assert!(slowed || secret == Some(AuthError::Secret), "{:.20?}", text);
        assert!(at.apps.disable(text).await.is_err(), "{:.20?}", text);
    }
    let bytes = b"\xff\xfe\0".repeat(100);
    assert!(
        node.rights
            .authenticate(None, "good", &bytes)
            .await
            .is_err()
    );
    for key in [
        "",
        " a",
        "a ",
        "a\0",
        "a:b",
        "a@b",
        "a/b",
        "\n",
        &"k".repeat(191),
    ] {
        let created = at.apps.create(key, AppLimits::default()).await;
        assert!(matches!(created, Err(AppsError::Key(_))), "{key:.20?}");
    }
    // Names that are only unusual are names.
    for key in [
        "a'b",
        "a\"b",
        "注文🦀",
        "a;b--",
        "a b",
        &"k".repeat(190),
        "%s",
        "{x}",
    ] {
        let secret = at.app(key).await;
        node.rights.read().await.expect("read");
        node.log_in(key, &secret).await.expect(key);
    }
    node.log_in("good", &good).await.expect("still there");
    node.stop().await;
}

async fn an_old_secret_is_valid_for_the_overlap_and_its_logins_end_with_it<DB: TestDatabase>(
    at: Place<DB>,
) {
    // Shorter than the time until the tables are read as a whole.
    let overlap = Duration::from_secs(50);
    let first = at.app("shop").await;
    let node = at.node().await;
    let apps = node.rights.apps().expect("tables");
    let by_first = node.log_in("shop", &first).await.expect("the first");

    let second = apps.rotate("shop", overlap).await.expect("rotated");
    let by_second = node.log_in("shop", &second).await.expect("the new one");
    node.log_in("shop", &first).await.expect("the old one");
    assert!(!by_first.revoked().is_cancelled());

    node.rights.put_forward(overlap);
    assert_eq!(
        node.log_in("shop", &first).await.err(),
        Some(AuthError::Secret)
    );
    // So it is by the database's clock.
    at.sql("UPDATE final_gateway_apps SET old_until = old_until - 50000000")
        .await;
    node.rights.read().await.expect("read");
    assert!(by_first.revoked().is_cancelled());
    assert_eq!(
        by_first.may(Operation::Publish, None, "t"),
        Err(Denied::Group)
    );
    assert!(!by_second.revoked().is_cancelled());
    assert_eq!(by_second.may(Operation::Publish, None, "t"), Ok(()));

    // Of three, the two latest; without an overlap, the latest alone.
    let third = apps.rotate("shop", overlap).await.expect("rotated");
    let fourth = apps.rotate("shop", overlap).await.expect("rotated");
    assert_eq!(
        node.log_in("shop", &second).await.err(),
        Some(AuthError::Secret)
    );
    assert!(by_second.revoked().is_cancelled());
    node.log_in("shop", &third).await.expect("the old one");
    let by_fourth = node.log_in("shop", &fourth).await.expect("the new one");
    let fifth = apps.rotate("shop", Duration::ZERO).await.expect("rotated");
    assert!(by_fourth.revoked().is_cancelled());
    assert_eq!(
        node.log_in("shop", &fourth).await.err(),
        Some(AuthError::Secret)
    );
    node.log_in("shop", &fifth).await.expect("the new one");
    node.stop().await;
}

async fn operations_are_allowed_and_revoked_one_by_one<DB: TestDatabase>(at: Place<DB>) {
    let secret = at
        .apps
        .create("shop", AppLimits::default())
        .await
        .expect("created");
    let node = at.node().await;
    let apps = node.rights.apps().expect("tables");
    let app = node.log_in("shop", &secret).await.expect("logged in");
    let publish = || app.may(Operation::Publish, Some("g"), "t");
    let subscribe = || app.may(Operation::Subscribe, Some("g"), "t");

    let right = grant("g", "t", Operations::PUBLISH).batch(7);
    apps.allow("shop", right).await.expect("allowed");
    assert_eq!((publish(), subscribe()), (Ok(()), Err(Denied::Operation)));
    apps.allow("shop", grant("g", "t", Operations::SUBSCRIBE))
        .await
        .expect("allowed");
    assert_eq!((publish(), subscribe()), (Ok(()), Ok(())));
    assert_eq!(app.batch("g", "t"), Some(7), "a limit stays");
    let before = app.revoked();
    assert!(!before.is_cancelled(), "more rights revoke nothing");

    apps.revoke("shop", "g", "t", Operations::PUBLISH)
        .await
        .expect("revoked");
    assert_eq!((publish(), subscribe()), (Err(Denied::Operation), Ok(())));
    assert!(before.is_cancelled() && !app.revoked().is_cancelled());
    apps.revoke("shop", "g", "t", Operations::BOTH)
        .await
        .expect("revoked");
    assert_eq!(subscribe(), Err(Denied::Group));
    let gone = apps.revoke("shop", "g", "t", Operations::BOTH).await;
    assert!(matches!(gone, Err(AppsError::NoRight { .. })), "{gone:?}");

    // Another login of the same app is told as well, and a new app of the same key is another app.
    let token = app.revoked();
    apps.remove("shop").await.expect("removed");
    assert!(token.is_cancelled());
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Key)
    );
    let again = apps
        .create("shop", AppLimits::default())
        .await
        .expect("created");
    assert_eq!(
        node.log_in("shop", &secret).await.err(),
        Some(AuthError::Secret)
    );
    node.log_in("shop", &again).await.expect("logged in");
    assert!(apps.list().await.expect("listed")[0].rights.is_empty());
    node.stop().await;
}

async fn an_operator_hears_what_cannot_be_done<DB: TestDatabase>(at: Place<DB>) {
    at.app("shop").await;
    let exists = at.apps.create("shop", AppLimits::default()).await;
    assert!(matches!(exists, Err(AppsError::Exists(key)) if key == "shop"));
    let right = || grant("g", "t", Operations::BOTH);
    for refused in [
        at.apps.allow("none", right()).await,
        at.apps.rotate("none", Duration::ZERO).await.map(drop),
        at.apps.disable("none").await,
        at.apps.enable("none").await,
        at.apps.remove("none").await,
        at.apps.limit("none", AppLimits::default()).await,
        // MySQL compares without blanks at the end.
        at.apps.remove("shop ").await,
        at.apps.allow("Shop", right()).await,
    ] {
        assert!(matches!(refused, Err(AppsError::NoApp(_))), "{refused:?}");
    }
    let list = at.apps.list().await.expect("listed");
    assert_eq!((list.len(), list[0].key.as_str()), (1, "shop"));
    assert_eq!(list[0].secret_kind, "sha256");
    assert!(list[0].disabled_at.is_none() && list[0].faults.is_empty());
    let age = list[0].created_at.elapsed().expect("in the past");
    assert!(age < Duration::from_secs(600), "{age:?}");
}
