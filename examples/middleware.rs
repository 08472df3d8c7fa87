//! Layers around handlers: tower's timeout and concurrency limit, the bus's trace and catch-panic,
//! and one written by hand.
//!
//! ```sh
//! cargo run --example middleware
//! ```
//!
//! It prints how long each attempt took. The first attempt is cut off by the timeout; the bus's
//! retry stands outside all layers, so the second gets its own time.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use final_core::{
    Attempt, BoxError, Bus, MemoryBroker, Message, Outcome, Router, SqliteBus, State,
    middleware::{CatchPanicLayer, TraceLayer},
};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tower::{Layer, Service, ServiceBuilder};

/// Prints how long each attempt took.
#[derive(Clone)]
struct Stopwatch;

#[derive(Clone)]
struct Timed<S>(S);

impl<S> Layer<S> for Stopwatch {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed(inner)
    }
}

impl<S> Service<Message> for Timed<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Outcome, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let (topic, attempt) = (message.shared_topic(), message.attempt());
        let handling = self.0.call(message);
        Box::pin(async move {
            let start = Instant::now();
            let result = handling.await;
            let text = match &result {
                Ok(outcome) => format!("{outcome:?}"),
                Err(error) => error.to_string(),
            };
            println!(
                "{topic}, attempt {attempt}: {text} after {} ms",
                start.elapsed().as_millis()
            );
            result
        })
    }
}

/// Slow the first time.
async fn slow_once(State(done): State<mpsc::Sender<u32>>, Attempt(attempt): Attempt) {
    if attempt == 1 {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let _ = done.try_send(attempt);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter("warn").init();
    let pool = sqlx::SqlitePool::connect("sqlite::memory:").await?;
    let bus: SqliteBus = Bus::new("shop", pool, MemoryBroker::new());

    let (done, mut attempts) = mpsc::channel(16);
    let router = Router::new()
        .route("report.wanted", slow_once)
        // As in axum: the first one named is the innermost here, and in a builder the outermost.
        .layer(
            ServiceBuilder::new()
                .layer(TraceLayer::new())
                .layer(Stopwatch)
                .map_err(BoxError::from)
                .timeout(Duration::from_millis(200))
                .concurrency_limit(4)
                .layer(CatchPanicLayer::new()),
        )
        .with_state(done);
    bus.start(router).await?;

    bus.publish("report.wanted", "march").await?;
    let attempt = attempts.recv().await.ok_or("the handler is gone")?;
    bus.shutdown().await?;

    println!("done at attempt {attempt}");
    if attempt == 2 {
        Ok(())
    } else {
        Err("expected the second attempt to succeed".into())
    }
}
