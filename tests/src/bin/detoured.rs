//! A process that dies when a message of its own has left the queue, and is not acked there.
//!
//! `detoured SERVICE POSTGRES_URL AMQP_URL`. It publishes a message to the topic `SERVICE.placed`, and its handler asks
//! for a retry in five seconds.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{
    Bus, HandlerError, Options, PgBus, Router,
    failpoint::{self, Failpoint},
};
use sqlx::PgPool;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [service, database, url] = args.as_slice() else {
        return Err("detoured SERVICE POSTGRES_URL AMQP_URL".into());
    };
    failpoint::arm(Failpoint::AfterDetour, 1, || std::process::abort());
    let pool = PgPool::connect(database).await?;
    let options = Options::default().retry_count(1);
    let bus: PgBus = Bus::new(service, pool, Amqp::new(url)?).with_options(options);
    let topic = format!("{service}.placed");
    let router = Router::new().route(&topic, async || {
        Err::<(), _>(HandlerError::retry_in(Duration::from_secs(5), "later"))
    });
    bus.start(router).await?;
    bus.publish_bytes(&topic, &b"later"[..]).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    Err("it should have died".into())
}
