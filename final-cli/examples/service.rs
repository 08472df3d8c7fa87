//! A program around a bus that an orchestrator and systemd can run: configuration from TOML, SIGTERM, probes, logs.
//!
//! ```sh
//! cargo run -p final-cli --example service   # ends with Ctrl-C
//! curl localhost:9090/readyz
//! ```
//!
//! With `--once` it asks itself whether it is ready, and tells itself to stop: that is how it is tested.

use std::process::ExitCode;

use final_cli::{
    config::{self, DatabaseAddress},
    service::{self, Condition, Service, ServiceOptions},
};
use final_core::{BoxError, Bus, Payload, Router, SqlBroker, SqliteBus, subscribe};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What the file says. A key that is not here is an error that names its line.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    database: DatabaseAddress,
    #[serde(default)]
    service: ServiceOptions,
}

#[subscribe("order.placed")]
async fn send_receipt(Payload(order): Payload<i64>) {
    println!("receipt for order {order}");
}

struct Shop(SqliteBus);

impl Service for Shop {
    async fn stop(&self) -> Result<(), BoxError> {
        // Handlers finish, and what they acked is acked.
        Ok(self.0.shutdown().await?)
    }

    async fn condition(&self) -> Condition {
        self.0.health().await.into()
    }

    async fn metrics(&self) -> String {
        let mut text = String::new();
        self.0.metrics().await.write_prometheus(&mut text);
        text
    }
}

fn main() -> ExitCode {
    let once = std::env::args().any(|arg| arg == "--once");
    let port = if once { free_port() } else { 9090 };
    let listen = format!("127.0.0.1:{port}");
    // A program of yours reads a file here: `config::read(path)`.
    let text = format!("database = 'sqlite::memory:'\n[service]\nlisten = '{listen}'");
    let loaded = match config::parse::<Config>("shop.toml", &text) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    loaded
        .warnings
        .iter()
        .for_each(|warning| eprintln!("{warning}"));
    let Config { database, service } = loaded.config;

    service::main("shop", service, async move || {
        // A database in memory is that of one connection.
        let pool = sqlx::pool::PoolOptions::new().max_connections(1);
        let pool = pool.connect(database.expose()).await?;
        let bus: SqliteBus = Bus::new("shop", pool.clone(), SqlBroker::new(pool));
        bus.start(Router::new().subscribe(send_receipt)).await?;
        bus.publish("order.placed", &42_i64).await?;
        if once {
            tokio::spawn(probe_and_stop(listen));
        }
        Ok(Shop(bus))
    })
}

/// A port that nobody has.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    address.map_or(9090, |address| address.port())
}

/// What an orchestrator does: it probes, and later sends SIGTERM.
async fn probe_and_stop(address: String) -> Result<(), BoxError> {
    loop {
        let mut stream = TcpStream::connect(&address).await?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") {
            println!("ready");
            break;
        }
    }
    let pid = std::process::id().to_string();
    std::process::Command::new("kill").arg(pid).status()?;
    Ok(())
}
