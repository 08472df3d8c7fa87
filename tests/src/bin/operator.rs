//! A program that carries an operation out, and is killed meanwhile.
//!
//! `operator DATABASE_URL OPERATION PER_SECOND`.

use final_core::{
    OutboxDatabase,
    admin::{Admin, Pace},
};
use sqlx::{Pool, pool::PoolOptions};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), AnyError> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [database, operation, pace] = args.as_slice() else {
        return Err("operator DATABASE_URL OPERATION PER_SECOND".into());
    };
    let (operation, pace) = (operation.parse()?, pace.parse()?);
    match database.split(':').next() {
        Some("postgres" | "postgresql") => {
            carry_out(pool::<sqlx::Postgres>(database)?, operation, pace).await
        }
        Some("mysql") => carry_out(pool::<sqlx::MySql>(database)?, operation, pace).await,
        _ => carry_out(pool::<sqlx::Sqlite>(database)?, operation, pace).await,
    }
}

fn pool<DB: OutboxDatabase>(url: &str) -> Result<Pool<DB>, sqlx::Error> {
    PoolOptions::new().connect_lazy(url)
}

async fn carry_out<DB: OutboxDatabase>(
    pool: Pool<DB>,
    operation: i64,
    pace: u32,
) -> Result<(), AnyError> {
    let admin = Admin::new(pool);
    let pace = Pace::per_second(pace);
    println!("{:?}", admin.carry_out(operation, pace, |_| {}).await?);
    Ok(())
}
