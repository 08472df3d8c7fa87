//! Rights of databus.

use super::{AuthError, Denied, Operation, Operations, Place, TestDatabase, everywhere, grant};
use crate::rights::{
    AppLimits,
    databus::{DatabusApp, read_tables},
};

everywhere!(
    tables_of_both_names_are_taken_over_once_and_deleted_rows_are_not,
    what_cannot_be_taken_over_is_told_and_takes_nothing_with_it,
);

/// The tables as databus's users make them, and one of a release without `deleted_at`.
async fn tables<DB: TestDatabase>(at: &Place<DB>) {
    for (apps, rights) in [("app_tb", "auth_tb"), ("app", "auth")] {
        let deleted = match apps {
            "app_tb" => ", deleted_at BIGINT NULL",
            _ => "",
        };
        at.sql(&format!(
            "CREATE TABLE {apps} (id INT NOT NULL PRIMARY KEY, app_key VARCHAR(45) NOT NULL, \
             app_secret VARCHAR(64) NOT NULL, cluster VARCHAR(45) NOT NULL{deleted})"
        ))
        .await;
        at.sql(&format!(
            "CREATE TABLE {rights} (id INT NOT NULL PRIMARY KEY, app_id INT NOT NULL, group_name VARCHAR(45) NULL, \
             operation SMALLINT DEFAULT 0, topic VARCHAR(45) NOT NULL{deleted})"
        ))
        .await;
    }
}

async fn tables_of_both_names_are_taken_over_once_and_deleted_rows_are_not<DB: TestDatabase>(
    at: Place<DB>,
) {
    tables(&at).await;
    at.sql(
        "INSERT INTO app_tb VALUES (1, 'app_key1', 'app_secret1', 'c', NULL), (2, 'gone', 's', 'c', 1600000000), \
         (3, 'zero', 's3', 'c', 0)",
    )
    .await;
    at.sql(
        "INSERT INTO auth_tb VALUES (1, 1, 'group_name1', 3, 'test156', NULL), (2, 1, 'group_name1', 1, 'second', 0), \
         (3, 1, 'group_name1', 2, 'removed', 1600000000), (4, 2, 'group_name1', 3, 'test156', NULL), \
         (5, 3, 'g', 2, 'out', NULL)",
    )
    .await;
    at.sql("INSERT INTO app VALUES (1, 'other', 's1', 'c'), (2, 'app_key1', 'app_secret1', 'c')")
        .await;
    at.sql("INSERT INTO auth VALUES (1, 1, 'g', 1, 'in'), (2, 2, 'more', 2, 'x')")
        .await;

    let found = read_tables(&at.pool).await.expect("read");
    let plan = at.apps.plan_import(&found).await.expect("a plan");
    let new: Vec<&str> = plan.new_apps().collect();
    assert_eq!(new, ["app_key1", "zero", "other"]);
    assert_eq!(
        (plan.new_rights().count(), plan.skipped.len()),
        (5, 2),
        "{plan:?}"
    );
    at.apps.import(&plan).await.expect("imported");

    let node = at.node().await;
    let app = node
        .log_in_with("app_key1", "app_secret1")
        .await
        .expect("as before");
    let (publish, subscribe) = (Operation::Publish, Operation::Subscribe);
    assert_eq!(app.may(publish, Some("group_name1"), "test156"), Ok(()));
    assert_eq!(app.may(subscribe, Some("group_name1"), "second"), Ok(()));
    assert_eq!(
        app.may(publish, Some("group_name1"), "second"),
        Err(Denied::Operation)
    );
    assert_eq!(
        app.may(publish, Some("group_name1"), "removed"),
        Err(Denied::Topic)
    );
    assert_eq!(app.may(publish, Some("more"), "x"), Ok(()));
    assert_eq!(app.may(publish, Some("g"), "out"), Err(Denied::Group));
    assert_eq!(
        node.log_in_with("gone", "s").await.err(),
        Some(AuthError::Key)
    );
    node.log_in_with("zero", "s3").await.expect("not deleted");

    // Once more: nothing, whatever was changed here meanwhile. What was revoked here stays revoked.
    at.apps
        .revoke("app_key1", "group_name1", "test156", Operations::PUBLISH)
        .await
        .expect("revoked");
    at.apps
        .revoke("zero", "g", "out", Operations::PUBLISH)
        .await
        .expect("revoked");
    at.apps
        .allow("other", grant("g", "in", Operations::PUBLISH))
        .await
        .expect("allowed");
    at.apps.rotate("zero", super::SOON).await.expect("rotated");
    let again = at.apps.plan_import(&found).await.expect("a plan");
    assert!(again.is_empty() && again.unchanged == 7, "{again:?}");
    let left_out = |part: &str| {
        let skipped = again.skipped.iter();
        skipped.filter(|one| one.why.contains(part)).count()
    };
    assert_eq!((left_out("decided here"), again.skipped.len()), (2, 4));
    // An app that is new in databus is added with its rights, and a new right of one that is here is told.
    at.sql("INSERT INTO auth VALUES (3, 1, 'g', 3, 'in2'), (4, 3, 'g', 1, 'late')")
        .await;
    at.sql("INSERT INTO app VALUES (3, 'late', 's', 'c')").await;
    let found = read_tables(&at.pool).await.expect("read");
    let plan = at.apps.plan_import(&found).await.expect("a plan");
    let new: Vec<_> = plan
        .new_rights()
        .map(|(app, grant)| (app, grant.topic()))
        .collect();
    assert_eq!(plan.new_apps().collect::<Vec<_>>(), ["late"]);
    assert_eq!(new, [("late", "late")]);
    let in2 = plan.skipped.iter().find(|one| one.what.contains("in2"));
    assert!(
        in2.is_some_and(|one| one.why.contains("apps allow")),
        "{plan:?}"
    );
    node.stop().await;
}

async fn what_cannot_be_taken_over_is_told_and_takes_nothing_with_it<DB: TestDatabase>(
    at: Place<DB>,
) {
    assert_eq!(
        read_tables(&at.pool).await.expect("read"),
        [],
        "there are no tables"
    );
    tables(&at).await;
    at.apps
        .create("here", AppLimits::default())
        .await
        .expect("created");
    at.sql(
        "INSERT INTO app VALUES (1, 'good', 's1', 'c'), (2, 'here', 'theirs', 'c'), (3, 'a:b', 's', 'c'), \
         (4, '', 's', 'c'), (5, 'empty', '', 'c'), (6, 'good', 's2', 'c'), (7, 'twice', 's', 'c')",
    )
    .await;
    at.sql(
        "INSERT INTO auth VALUES (1, 1, 'g', 3, 'a*'), (2, 1, 'g', 0, 't'), (3, 1, NULL, 3, 't'), (4, 1, 'g', 4, 't'), \
         (5, 1, 'g', 1, 'fine'), (6, 1, 'g', 2, 'fine'), (7, 99, 'g', 3, 't'), (8, 1, '*', 3, 't'), \
         (9, 1, 'g h', 3, 't'), (10, 2, 'g', 3, 't')",
    )
    .await;
    let found = read_tables(&at.pool).await.expect("read");
    let plan = at.apps.plan_import(&found).await.expect("a plan");
    assert_eq!(plan.new_apps().collect::<Vec<_>>(), ["good", "twice"]);
    assert_eq!(plan.skipped.len(), 5 + 6 + 1, "{:#?}", plan.skipped);
    let why = |part: &str| {
        plan.skipped
            .iter()
            .filter(|skipped| skipped.why.contains(part))
            .count()
    };
    assert_eq!(
        (why("another secret"), why("pattern"), why("operation is")),
        (2, 2, 2)
    );
    let shown = format!("{plan:?} {found:?}");
    for secret in ["s1", "theirs", "s2"] {
        assert!(!shown.contains(&format!("\"{secret}\"")), "{shown}");
    }
    at.apps.import(&plan).await.expect("imported");
    let node = at.node().await;
    let good = node
        .log_in_with("good", "s1")
        .await
        .expect("the first of both");
    assert_eq!(good.may(Operation::Publish, Some("g"), "fine"), Ok(()));
    assert_eq!(good.may(Operation::Subscribe, Some("g"), "fine"), Ok(()));
    assert_eq!(
        good.may(Operation::Subscribe, Some("g"), "ab"),
        Err(Denied::Topic)
    );
    assert_eq!(
        node.log_in_with("here", "theirs").await.err(),
        Some(AuthError::Secret)
    );

    // A plan whose app somebody creates meanwhile changes nothing at all.
    let late = [app("late1"), app("late2")];
    let plan = at.apps.plan_import(&late).await.expect("a plan");
    at.apps
        .create("late2", AppLimits::default())
        .await
        .expect("created");
    at.apps.import(&plan).await.expect_err("it is there");
    let list = at.apps.list().await.expect("listed");
    assert!(list.iter().all(|app| app.key != "late1"));
    node.stop().await;
}

fn app(key: &str) -> DatabusApp {
    DatabusApp {
        place: "a test".to_owned(),
        key: key.to_owned(),
        secret: "s".to_owned(),
        is_deleted: false,
        rights: Vec::new(),
    }
}
