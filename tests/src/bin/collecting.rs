//! A process that dies when it has stored dead letters, and has not acked them in RabbitMQ.
//!
//! `collecting SERVICE POSTGRES_URL AMQP_URL`. It consumes the topic `SERVICE.placed`, and collects the dead letters of
//! the service.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{
    Bus, Options, PgBus, Router,
    failpoint::{self, Failpoint},
};
use sqlx::PgPool;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [service, database, url] = args.as_slice() else {
        return Err("collecting SERVICE POSTGRES_URL AMQP_URL".into());
    };
    failpoint::arm(Failpoint::AfterCollect, 2, || std::process::abort());
    let pool = PgPool::connect(database).await?;
    let options = Options::default().collect_dead_letters(true);
    let bus: PgBus = Bus::new(service, pool, Amqp::new(url)?).with_options(options);
    let router = Router::new().route(format!("{service}.placed"), async || {});
    bus.start(router).await?;
    tokio::time::sleep(Duration::from_secs(60)).await;
    Err("it should have died".into())
}
