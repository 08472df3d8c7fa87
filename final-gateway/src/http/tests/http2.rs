//! HTTP/2: a client that grants no window gets nothing, and keeps nothing.

use std::{net::SocketAddr, time::Duration};

use axum::body::Body;
use final_core::Message;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::duplex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{request, rooms::Made, router, small};
use crate::http::serve_connection;

const PULL: &str = "/v1/groups/billing/messages?topic=t&wait=60s";

/// A client whose streams begin with such a window, and the connection that serves it.
async fn connect(rooms: &Made, window: u32) -> (SendRequest<Body>, JoinHandle<()>) {
    let (ours, theirs) = duplex(1 << 16);
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let stop = CancellationToken::new();
    let serving = serve_connection(theirs, peer, router(rooms), small(), stop);
    let serving = tokio::spawn(serving);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(ours)).await.unwrap();
    tokio::spawn(connection);
    (sender, serving)
}

async fn get(
    sender: &mut SendRequest<Body>,
    path: &str,
) -> hyper::Result<hyper::Response<Incoming>> {
    let request = request("GET", &format!("http://gateway{path}"));
    sender
        .send_request(request.body(Body::empty()).unwrap())
        .await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answer_is_closed_though_it_goes_on_asking() {
    for window in [0, 1, 10_000] {
        // One of many pieces, and one of a single piece.
        for (path, size) in [("/openapi.json", 0), (PULL, 20_000), (PULL, 9_000)] {
            let rooms = Made::default();
            rooms.offer([Message::new("t", vec![0; size])]);
            let (mut sender, serving) = connect(&rooms, window).await;
            let unread = get(&mut sender, path).await.unwrap();
            assert_eq!(unread.status(), 200);
            let began = Instant::now();
            while !serving.is_finished() {
                // What is small needs no more than a small window.
                let _ = timeout(Duration::from_secs(5), get(&mut sender, "/nothing")).await;
                sleep(Duration::from_secs(5)).await;
                let waited = began.elapsed();
                assert!(
                    waited < Duration::from_secs(70),
                    "{window} {path} {waited:?}"
                );
            }
            assert_eq!(rooms.state().connections, 0, "{window} {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_answer_slowly_gets_all_of_it() {
    let rooms = Made::default();
    rooms.offer([Message::new("t", vec![0; 300_000])]);
    let (mut sender, serving) = connect(&rooms, 4096).await;
    let mut body = get(&mut sender, PULL).await.unwrap().into_body();
    let mut count = 0;
    while !body.is_end_stream() {
        sleep(Duration::from_secs(2)).await;
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context));
        match frame.await {
            Some(frame) => count += frame.unwrap().into_data().map_or(0, |data| data.len()),
            None => break,
        }
    }
    assert!(count > 400_000, "{count}");
    assert!(!serving.is_finished());
    assert_eq!(rooms.state().connections, 0);
}
