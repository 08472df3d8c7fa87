//! An axum service: POST an order, and the row and its message are written in one transaction; a
//! handler receives the message from RabbitMQ.
//!
//! ```sh
//! eval "$(cargo xtask services up)"   # PostgreSQL and RabbitMQ, and their URLs
//! cargo run --example axum_orders
//! curl -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"total": 100}'
//! curl localhost:3000/metrics    # for Prometheus; /livez and /readyz are for an orchestrator's probes
//! ```
//!
//! With `--once` it sends itself one order, waits for the handler, asks how it does, and ends: that is how it is
//! tested.

use axum::{
    Json, Router as Http,
    extract::State as App,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::{get, post},
};
use final_amqp::Amqp;
use final_core::{Bus, Metrics, Payload, PgBus, Router, State, subscribe};
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

/// What Prometheus scrapes.
async fn metrics(App(bus): App<PgBus>) -> impl IntoResponse {
    let mut text = String::new();
    bus.metrics().await.write_prometheus(&mut text);
    ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], text)
}

/// Whether the process has to be restarted.
async fn livez(App(bus): App<PgBus>) -> impl IntoResponse {
    let health = bus.health().await;
    (status(health.live), format!("{health}\n"))
}

/// Whether it can be given requests.
async fn readyz(App(bus): App<PgBus>) -> impl IntoResponse {
    let health = bus.health().await;
    (status(health.ready), format!("{health}\n"))
}

fn status(is_well: bool) -> StatusCode {
    match is_well {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
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
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
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
            let order = r#"{"total": 100}"#;
            println!("{}", told(ask(address, "POST", "/orders", order).await));
            handled.recv().await;
            println!("{}", told(ask(address, "GET", "/readyz", "").await));
            let metrics = told(ask(address, "GET", "/metrics", "").await);
            println!("{} lines of metrics", metrics.lines().count());
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
async fn ask(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(body.trim_end().to_owned())
}

fn told(answer: std::io::Result<String>) -> String {
    answer.unwrap_or_else(|error| error.to_string())
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
enum AppError {
    Bus(#[from] final_core::Error),
    Sql(#[from] sqlx::Error),
}

impl IntoResponse for AppError {
    fn into_response(self) -> axum::response::Response {
        tracing::error!(error = &self as &dyn std::error::Error, "order refused");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
