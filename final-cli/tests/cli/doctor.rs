//! `final doctor`: exit codes, the two forms of its output, and its words, typed.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, Router};
use final_tests::unique;
use sqlx::PgPool;

use crate::{
    database::{Database, Place},
    program::{Ran, program, run},
};

crate::everywhere!(
    a_healthy_database_ends_with_zero,
    a_service_without_tables_is_mended_by_the_words,
    a_message_that_waits_ends_with_three,
);

/// The names of what was found.
fn names(ran: &Ran) -> Vec<String> {
    let name = |line: serde_json::Value| line["name"].as_str().expect("a name").to_owned();
    ran.json().into_iter().map(name).collect()
}

async fn a_healthy_database_ends_with_zero<DB: Database>(place: Place<DB>) {
    place.outbox_bus("shop").migrate().await.expect("migrate");
    place.log_bus("shop").migrate().await.expect("migrate");

    let ran = place.run(["doctor"]).await.ends_with(0);

    assert_eq!(ran.out.trim(), "nothing was found");
    let ran = place.run(["doctor", "shop", "--json"]).await.ends_with(0);
    assert_eq!(ran.out, "");
}

async fn a_service_without_tables_is_mended_by_the_words<DB: Database>(place: Place<DB>) {
    let ran = place.run(["doctor", "stock", "--json"]).await.ends_with(3);
    assert_eq!(names(&ran), ["tables_missing"]);
    let line = &ran.json()[0];
    assert_eq!(
        (&line["kind"], &line["level"], &line["place"]),
        (&"finding".into(), &"error".into(), &"database".into())
    );
    let mend = line["mend"].as_str().expect("words").to_owned();
    let typed = mend.split('`').nth(1).expect("something to type");
    let words = typed
        .strip_prefix("final ")
        .expect("a command of ours")
        .split(' ');

    place.run(words.chain(["--yes"])).await.ends_with(0);

    place.run(["doctor", "stock"]).await.ends_with(0);
    place.run(["doctor", "No Name"]).await.ends_with(2);
}

async fn a_message_that_waits_ends_with_three<DB: Database>(place: Place<DB>) {
    let bus = place.outbox_bus("shop");
    bus.migrate().await.expect("migrate");
    bus.publish("placed", &1_i64).await.expect("published");
    // Five minutes are not over.
    place.run(["doctor"]).await.ends_with(0);
    tokio::time::sleep(Duration::from_millis(1_100)).await;

    let ran = place.run(["doctor", "--service-is-no-option"]).await;
    assert_eq!(ran.code, 2);
    let ran = place
        .run(["doctor", "shop", "--older-than", "1s"])
        .await
        .ends_with(3);

    for text in [
        "error records_without_owner (database)",
        "  what ",
        "  why ",
        "  mend  Start an instance of the service shop",
    ] {
        assert!(ran.out.contains(text), "{text:?} is missing: {}", ran.out);
    }
}

/// Notes alone are no alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_note_ends_with_zero() {
    let place = Place::<sqlx::Postgres>::fresh().await;
    place.outbox_bus("shop").migrate().await.expect("migrate");
    for sql in [
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER tell AFTER INSERT ON final_shop_outbox EXECUTE FUNCTION tell()",
    ] {
        place.sql(sql).await;
    }

    let ran = place.run(["doctor", "--json"]).await.ends_with(0);

    assert_eq!(names(&ran), ["trigger_after"]);
}

async fn a_clock_that_is_wrong_is_told<DB: Database>() {
    let place = Place::<DB>::fresh().await;
    place.outbox_bus("shop").migrate().await.expect("migrate");
    for seconds in [120, -120] {
        let mut wrong = place.program();
        wrong.envs(final_tests::clock_offset(seconds).expect("libfaketime"));

        let ran = run(&mut wrong, ["doctor", "--json"]).await.ends_with(3);

        assert_eq!(names(&ran), ["clock_skew"], "{ran:?}");
    }
    // By a clock that is right:
    place.run(["doctor"]).await.ends_with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_differs_from_that_of_postgres_is_told() {
    a_clock_that_is_wrong_is_told::<sqlx::Postgres>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_differs_from_that_of_mariadb_is_told() {
    a_clock_that_is_wrong_is_told::<sqlx::MySql>().await;
}

/// The queue of a service that is named has to be there; that of others may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_is_looked_at_as_well_and_its_password_is_not_shown() {
    let place = Place::<sqlx::Postgres>::fresh().await;
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let service = unique("svc");
    let amqp = || Amqp::new(vhost.url()).expect("a URL");
    let bus = Bus::new(
        &service,
        PgPool::connect_lazy(&place.url).expect("a URL"),
        amqp(),
    );
    bus.migrate().await.expect("migrate");
    let api = vhost.api().expect("its API").url();
    let look = async |more: &[&str]| {
        let args = ["doctor", "--json", "--rabbitmq", vhost.url()];
        place
            .run(args.iter().chain(&["--management", &api]).chain(more))
            .await
    };
    assert_eq!(look(&[]).await.ends_with(0).out, "");
    let by_amqp = ["doctor", "--json", "--rabbitmq", vhost.url()];
    let note = place.run(by_amqp).await.ends_with(0);
    assert_eq!(names(&note), ["could_not_check"]);

    let ran = look(&[&service]).await.ends_with(3);

    assert_eq!(names(&ran), ["queue_missing"]);
    assert_eq!(ran.json()[0]["place"], "rabbitmq");
    bus.start(Router::new().route(format!("{service}.placed"), async || {}))
        .await
        .expect("start");
    assert_eq!(look(&[&service]).await.ends_with(0).out, "");
    bus.shutdown().await.expect("shutdown");

    let nothing = place.run(["doctor", "--management", &api]).await;
    nothing.ends_with(2);
    let away = "amqp://guest:s3cret@127.0.0.1:1/%2f";
    let ran = place
        .run(["doctor", "--json", "--rabbitmq", away])
        .await
        .ends_with(3);
    assert_eq!(names(&ran), ["rabbitmq_unreachable"]);
    assert!(!ran.all().contains("s3cret"), "{ran:?}");
}

#[tokio::test]
async fn without_a_database_it_says_which_words_are_missing() {
    let ran = run(&mut program(), ["doctor"]).await.ends_with(2);

    assert!(ran.err.contains("--database-url"), "{ran:?}");
}
