//! What stands between a delivery and the handler, without any I/O.
//!
//! The handler takes a decoded payload and the topic; decoding alone is measured beside it and taken
//! off. The layers pass on and do nothing, so that the row is the router's cost and not theirs.

use std::{
    hint::black_box,
    task::{Context, Poll},
    time::Instant,
};

use final_core::{Bytes, Message, Payload, Router, Topic};
use tower::Service;

use crate::{
    Result,
    bench::Bench,
    payload::{Order, TOPIC},
    row::{Must, Row},
};

/// A layer's service that only passes on.
#[derive(Clone)]
struct PassOn<S>(S);

impl<S: Service<Message>> Service<Message> for PassOn<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        self.0.call(message)
    }
}

pub(super) async fn run(bench: &mut Bench) -> Result<()> {
    let calls = bench.count(200_000);
    let payload = Bytes::from(Order::new(1).encode()?);
    for layers in [0, 3, 10] {
        let mut router = Router::new().route(TOPIC, handler);
        for _ in 0..layers {
            router = router.layer(tower::layer::layer_fn(PassOn));
        }
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..bench.rounds(9) {
            ours.push(through(&router, messages(calls, &payload)).await?);
            plain.push(called(messages(calls, &payload)).await?);
        }
        let net: Vec<_> = ours
            .iter()
            .zip(&plain)
            .map(|(ours, plain)| ours - plain)
            .collect();
        let metric = |what| format!("ns per message, {layers} layers{what}");
        let mut row = Row::alone("dispatch", "ours", "-", metric(""), &net);
        if layers == 3 {
            row = row.must(Must::Below(400.0));
        }
        bench.add([
            row,
            Row::alone("dispatch", "ours", "-", metric(", with decoding"), &ours),
            Row::alone(
                "dispatch",
                "plain call",
                "-",
                metric(", with decoding"),
                &plain,
            ),
        ]);
    }
    Ok(())
}

async fn handler(Topic(topic): Topic, Payload(order): Payload<Order>) {
    black_box((topic, order));
}

fn messages(count: u64, payload: &Bytes) -> Vec<Message> {
    (0..count)
        .map(|_| Message::new(TOPIC, payload.clone()))
        .collect()
}

/// Nanoseconds each, through the router.
async fn through(router: &Router, messages: Vec<Message>) -> Result<f64> {
    let (start, count) = (Instant::now(), messages.len());
    for message in messages {
        router.dispatch(message).await?;
    }
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}

/// Nanoseconds each, by a call of the same handler.
async fn called(messages: Vec<Message>) -> Result<f64> {
    let (start, count) = (Instant::now(), messages.len());
    for message in messages {
        let order = Order::decode(message.payload())?;
        handler(Topic(message.topic().into()), Payload(order)).await;
        drop(message);
    }
    Ok(start.elapsed().as_nanos() as f64 / count as f64)
}
