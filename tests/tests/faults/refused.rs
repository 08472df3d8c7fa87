//! `start` reports what can never work.

use final_amqp::{Amqp, QueueKind};
use final_core::{Bus, Error, PgBus, Router, broker::BrokerErrorKind};

use crate::shop::{SOON, Tally, service};

pub async fn start(service: &str, broker: Amqp, router: Router) -> Result<PgBus, Error> {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let pool = sqlx::PgPool::connect(&url).await.expect("PostgreSQL");
    let bus: PgBus = Bus::new(service, pool, broker);
    tokio::time::timeout(SOON, bus.start(router))
        .await
        .expect("start does not hang")?;
    Ok(bus)
}

pub fn kind(result: Result<PgBus, Error>) -> (BrokerErrorKind, String) {
    match result {
        Err(Error::Broker(error)) => (error.kind(), format!("{error} {error:?}")),
        other => panic!("expected an error of the broker, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_login_is_an_error_of_start_without_the_password() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let at = url.rfind('@').expect("a URL with a login");
    let wrong = format!("amqp://nobody:wr0ng-s3cret{}", &url[at..]);
    let (kind, text) =
        kind(start(&service(), Amqp::new(wrong).expect("a URL"), Router::new()).await);

    assert_eq!(kind, BrokerErrorKind::Refused);
    assert!(!text.contains("wr0ng-s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_host_that_is_not_there_is_an_error_of_start() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let slash = url.rfind('/').expect("a URL with a virtual host");
    let wrong = format!("{}/no-such-vhost", &url[..slash]);
    let (kind, _) = kind(start(&service(), Amqp::new(wrong).expect("a URL"), Router::new()).await);

    assert_eq!(kind, BrokerErrorKind::Refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_an_error_that_names_the_option() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let url = vhost.url().to_owned();
    let (service, tally) = (service(), Tally::default());
    let topic = format!("{service}.placed");
    let classic = Amqp::new(&url)
        .expect("a URL")
        .queue_kind(QueueKind::Classic);
    let bus = start(&service, classic, tally.router(&topic))
        .await
        .expect("start");
    bus.shutdown().await.expect("shutdown");

    let quorum = Amqp::new(&url).expect("a URL");
    let (kind, text) = kind(start(&service, quorum, tally.router(&topic)).await);

    assert_eq!(kind, BrokerErrorKind::Mismatch);
    assert!(text.contains("Classic"), "{text}");
}
