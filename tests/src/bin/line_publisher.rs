//! A second process on a log in PostgreSQL. It publishes every number that it reads from its standard input.
//!
//! `line_publisher POSTGRES_URL`

use final_core::{Bus, PgBus, Router, SqlBroker};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let url = std::env::args().nth(1).ok_or("POSTGRES_URL is missing")?;
    let pool = sqlx::PgPool::connect(&url).await?;
    let bus: PgBus = Bus::new("publisher", pool.clone(), SqlBroker::new(pool));
    bus.start(Router::new()).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        bus.publish("placed", &line.trim().parse::<i64>()?).await?;
    }
    Ok(bus.shutdown().await?)
}
