//! An axum service: POST an order, and the row and its message are written in one transaction; a
//! handler receives the message from RabbitMQ.
//!
//! ```sh
//! eval "$(cargo xtask services up)"   # PostgreSQL and RabbitMQ, and their URLs
//! cargo run --example axum_orders
//! curl -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"total": 100}'
//! ```
//!
//! With `--once` it sends itself one order, waits for the handler, and ends: that is how it is
//! tested.

use axum::{Json, Router as Http, extract::State as App, http::StatusCode, routing::post};
use final_amqp::Amqp;
use final_core::{Bus, Payload, PgBus, Router, State, subscribe};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

#[derive(Serialize, Deserialize)]
struct OrderPlaced {
    id: i64,
    total: i64,
}

#[derive(Deserialize)]
struct NewOrder {
    total: i64,
}

#[subscribe("order.placed")]
async fn send_receipt(State(done): State<mpsc::Sender<i64>>, Payload(order): Payload<OrderPlaced>) {
    println!("receipt for order {} ({})", order.id, order.total);
    let _ = done.try_send(order.id);
}

async fn place(App(bus): App<PgBus>, Json(order): Json<NewOrder>) -> Result<String, AppError> {
    let total = order.total;
    let tx = bus.begin().await?;
    let id = bus
        .transaction(tx, async |mut txbus| {
            let id = sqlx::query_scalar("INSERT INTO orders (total) VALUES ($1) RETURNING id")
                .bind(total)
                .fetch_one(txbus.conn())
                .await?;
            txbus
                .publish("order.placed", &OrderPlaced { id, total })
                .await?;
            Ok::<_, AppError>(id)
        })
        .await?;
    Ok(format!("order {id}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("info,lapin::returned_messages=off")
        .init();
    let database = variable("DATABASE_URL")?;
    let broker = variable("AMQP_URL")?;

    let pool = sqlx::PgPool::connect(&database).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, total bigint NOT NULL)",
    )
    .execute(&pool)
    .await?;

    let bus: PgBus = Bus::new("orders", pool, Amqp::new(broker)?);
    let (done, mut handled) = mpsc::channel(16);
    bus.start(Router::new().subscribe(send_receipt).with_state(done))
        .await?;

    let http = Http::new()
        .route("/orders", post(place))
        .with_state(bus.clone());
    let once = std::env::args().any(|arg| arg == "--once");
    let listener = TcpListener::bind(if once {
        "127.0.0.1:0"
    } else {
        "127.0.0.1:3000"
    })
    .await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    let server = axum::serve(listener, http).with_graceful_shutdown(async move {
        if once {
            println!(
                "{}",
                post_one(address)
                    .await
                    .unwrap_or_else(|error| error.to_string())
            );
            handled.recv().await;
        } else {
            let _ = tokio::signal::ctrl_c().await;
        }
    });
    server.await?;
    // After the HTTP server, so that requests in hand can still publish.
    bus.shutdown().await?;
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name)
        .map_err(|_| format!("set {name}; `eval \"$(cargo xtask services up)\"` does"))
}

/// What `curl` would do.
async fn post_one(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let body = r#"{"total": 100}"#;
    let request = format!(
        "POST /orders HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum AppError {
    Bus(#[from] final_core::Error),
    Sql(#[from] sqlx::Error),
}

impl axum::response::IntoResponse for AppError {
    fn into_response(self) -> axum::response::Response {
        tracing::error!(error = &self as &dyn std::error::Error, "order refused");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
