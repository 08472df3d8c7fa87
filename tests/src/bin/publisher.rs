//! A process to be killed: publishes numbers in transactions as fast as it can, until it dies.
//!
//! `publisher SERVICE POSTGRES_URL AMQP_URL`; the database has a table `orders (id bigint)`.

use std::time::Duration;

use final_amqp::Amqp;
use final_core::{Bus, MessageId, Options, PgBus, Router};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or_else(|| format!("{what} is missing"));
    let (service, database, broker) = (next("SERVICE")?, next("POSTGRES_URL")?, next("AMQP_URL")?);

    let pool = sqlx::PgPool::connect(&database).await?;
    let options = Options::default().lease(Duration::from_secs(2));
    let bus: PgBus = Bus::new(&service, pool, Amqp::new(broker)?).with_options(options);
    bus.start(Router::new()).await?;

    let first = i64::from(std::process::id()) * 1_000_000_000;
    let writers = (0..8).map(|writer| {
        let (bus, topic) = (bus.clone(), format!("{service}.placed"));
        tokio::spawn(async move {
            for n in 0.. {
                let number: i64 = first + writer * 1_000_000 + n;
                let tx = bus.begin().await?;
                bus.transaction(tx, async |mut txbus| {
                    let insert = sqlx::query("INSERT INTO orders VALUES ($1)").bind(number);
                    insert.execute(txbus.conn()).await?;
                    // Each order has a number of its own. Of four messages two have the same id.
                    let publish = txbus.publish(&topic, &number);
                    match n % 4 {
                        0 | 1 => publish.await?,
                        _ => {
                            publish
                                .id(MessageId::from_text(&(number / 4).to_string()))
                                .await?
                        }
                    };
                    Ok::<_, AnyError>(())
                })
                .await?;
            }
            Ok::<_, AnyError>(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok(())
}
