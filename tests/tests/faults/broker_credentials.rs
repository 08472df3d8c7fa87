//! User and password come from a source that is asked at each connect.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use final_amqp::{Amqp, Credentials};
use final_core::BoxError;
use final_tests::{Management, Vhost, eventually};

use crate::{
    overheard::{is_warned, warnings},
    shop::{SOON, Tally, hang_up, outbox_is_empty, pg_bus_with, service},
};

/// What the source does when it is asked.
#[derive(Clone)]
enum Answer {
    Fails,
    Hangs,
    Panics,
    Gives(Credentials),
}

/// A source whose answer the test sets.
#[derive(Clone)]
struct Vault {
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Vault {
    fn new(answer: Answer) -> Self {
        Self {
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
        }
    }

    fn set(&self, answer: Answer) {
        *self.answer.lock().expect("lock") = answer;
    }

    fn broker(&self, vhost: &Vhost) -> Amqp {
        let vault = self.clone();
        let (_, address) = vhost.url().rsplit_once('@').expect("a login");
        Amqp::new(format!("amqp://{address}"))
            .expect("a URL without a login")
            .connect_timeout(Duration::from_secs(1))
            .credentials(move || vault.clone().give())
    }

    async fn give(self) -> Result<Credentials, BoxError> {
        self.asked.fetch_add(1, SeqCst);
        let answer = self.answer.lock().expect("lock").clone();
        match answer {
            Answer::Fails => Err("the vault is sealed".into()),
            Answer::Hangs => pending().await,
            Answer::Panics => panic!("a bug of the source, on purpose"),
            Answer::Gives(credentials) => Ok(credentials),
        }
    }
}

async fn user(api: &Management, vhost: &Vhost, user: &str, password: &str) -> Answer {
    api.add_user(user, password).await.expect("a user");
    let permitted = api.set_permissions(user, vhost.name(), [".*"; 3]).await;
    permitted.expect("permissions");
    Answer::Gives(Credentials::new(user, password))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_goes_on_with_a_password_that_was_changed() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (api, name) = (vhost.api().expect("its API"), final_tests::unique("shop"));
    let vault = Vault::new(user(api, &vhost, &name, "s3cret-one").await);
    let service = service();
    let topic = format!("{service}.placed");
    let bus = pg_bus_with(&service, vault.broker(&vhost)).await;
    let tally = Tally::default();
    bus.start(tally.router(&topic)).await.expect("start");
    bus.publish(&topic, &0_i64).await.expect("publish");
    tally.has_all(0..1).await;

    // The broker has the new password before the source does, and RabbitMQ ends the sessions.
    let two = user(api, &vhost, &name, "s3cret-two").await;
    hang_up(&vhost).await;
    is_warned(&service, "`Amqp::credentials` gave this login").await;
    for n in 1..20 {
        bus.publish(&topic, &n).await.expect("publish");
    }
    vault.set(two);
    tally.has_all(0..20).await;
    outbox_is_empty(&bus).await;

    bus.shutdown().await.expect("shutdown");
    let warnings = warnings(&service);
    assert!(
        !warnings.iter().any(|text| text.contains("s3cret")),
        "{warnings:?}"
    );
    api.delete_user(&name).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_holds_up_neither_start_nor_shutdown() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (api, name) = (vhost.api().expect("its API"), final_tests::unique("shop"));
    let good = user(api, &vhost, &name, "s3cret").await;
    let wrong = Answer::Gives(Credentials::new(&name, "stale-s3cret"));
    for (answer, words) in [
        (Answer::Fails, "the vault is sealed"),
        (Answer::Hangs, "did not answer within 1s"),
        (Answer::Panics, "it panicked"),
        (wrong, "`Amqp::credentials` gave this login"),
    ] {
        let vault = Vault::new(answer.clone());
        let (service, tally) = (service(), Tally::default());
        let topic = format!("{service}.placed");
        let bus = pg_bus_with(&service, vault.broker(&vhost)).await;
        let limit = Duration::from_secs(20);
        let started = tokio::time::timeout(limit, bus.start(tally.router(&topic))).await;
        started.expect("start does not hang").expect("it passes");
        bus.publish(&topic, &0_i64).await.expect("publish");
        is_warned(&service, words).await;
        vault.set(good.clone());
        tally.has_all(0..1).await;

        vault.set(answer);
        hang_up(&vhost).await;
        eventually("the outage is noticed", SOON, async || {
            !bus.stats().await.expect("stats").connected
        })
        .await;
        let ended = tokio::time::timeout(limit, bus.shutdown()).await;
        ended.expect("shutdown does not hang").expect("shutdown");
    }
    api.delete_user(&name).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_renewed_before_they_are_over() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let (api, name) = (vhost.api().expect("its API"), final_tests::unique("shop"));
    let other = format!("{name}-2");
    let brief = Duration::from_secs(2);
    let answer = |given| match given {
        Answer::Gives(credentials) => Answer::Gives(credentials.valid_for(brief)),
        other => other,
    };
    let vault = Vault::new(answer(user(api, &vhost, &name, "s3cret").await));
    let (service, tally) = (service(), Tally::default());
    let topic = format!("{service}.placed");
    let bus = pg_bus_with(&service, vault.broker(&vhost)).await;
    bus.start(tally.router(&topic)).await.expect("start");
    let first = eventually("both connections", SOON, async || {
        let open = api.connections(vhost.name()).await.unwrap_or_default();
        (open.len() == 2).then_some(open)
    })
    .await;

    // Each connection asks again and again, and stays.
    eventually("more questions", SOON, async || {
        vault.asked.load(SeqCst) >= 8
    })
    .await;
    let now = api.connections(vhost.name()).await.expect("connections");
    assert_eq!(now, first);
    bus.publish(&topic, &0_i64).await.expect("publish");
    tally.has_all(0..1).await;

    // Another user needs other connections. Vault gives such users.
    vault.set(answer(user(api, &vhost, &other, "s3cret").await));
    eventually("other connections", SOON, async || {
        let open = api.connections(vhost.name()).await.unwrap_or_default();
        open.len() == 2 && open.iter().all(|name| !first.contains(name))
    })
    .await;
    bus.publish(&topic, &1_i64).await.expect("publish");
    tally.has_all(0..2).await;
    assert_eq!(warnings(&service), [] as [&str; 0]);

    // A source that fails meanwhile ends no connection.
    let asked = vault.asked.load(SeqCst);
    vault.set(Answer::Fails);
    eventually("a failed renewal", SOON, async || {
        vault.asked.load(SeqCst) > asked + 2
    })
    .await;
    is_warned(&service, "renewing the login").await;
    bus.publish(&topic, &2_i64).await.expect("publish");
    tally.has_all(0..3).await;
    bus.shutdown().await.expect("shutdown");
    for user in [&name, &other] {
        api.delete_user(user).await.expect("removed");
    }
}
