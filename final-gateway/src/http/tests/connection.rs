//! Connections: kept open, pipelined, idle, slow, stopped.

use std::{net::SocketAddr, time::Duration};

use base64::Engine as _;
use final_core::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{rooms::Made, router, small};
use crate::http::{BUSY, serve_connection};

/// A client's end of a connection that is served.
struct Client {
    stream: DuplexStream,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

fn connect(rooms: &Made, buffer: usize) -> Client {
    let (stream, theirs) = duplex(buffer);
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    let stop = CancellationToken::new();
    let serving = serve_connection(theirs, peer, router(rooms), small(), stop.clone());
    Client {
        stream,
        serving: tokio::spawn(serving),
        stop,
    }
}

fn publish(payload: &str) -> String {
    let login = base64::engine::general_purpose::STANDARD.encode("shop:secret:1");
    let length = payload.len();
    format!(
        "POST /v1/topics/t/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n\
         Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{payload}"
    )
}

fn pull() -> String {
    let login = base64::engine::general_purpose::STANDARD.encode("shop:secret:1");
    format!(
        "GET /v1/groups/billing/messages?topic=t&wait=60s HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n\r\n"
    )
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The head of the next answer and its body.
    async fn answer(&mut self) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// Waits until the server has closed the connection; says how long that took, and what came before.
    async fn closed(mut self) -> (Duration, String) {
        let began = Instant::now();
        let mut rest = Vec::new();
        timeout(Duration::from_secs(600), self.stream.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        self.serving.await.unwrap();
        (began.elapsed(), String::from_utf8(rest).unwrap())
    }
}

#[tokio::test]
async fn one_connection_takes_many_requests_also_pipelined_ones() {
    let rooms = Made::default();
    let mut client = connect(&rooms, 1 << 16);
    client.send(&publish("1")).await;
    assert!(client.answer().await.0.starts_with("http/1.1 200"));
    client
        .send(&[publish("2"), publish("3"), publish("4")].concat())
        .await;
    for _ in 0..3 {
        assert!(client.answer().await.0.starts_with("http/1.1 200"));
    }
    let state = rooms.state();
    let payloads: Vec<_> = state
        .published
        .iter()
        .map(|message| message.payload().as_ref())
        .collect();
    assert_eq!(payloads, [b"1", b"2", b"3", b"4"]);
    assert_eq!(state.from, Some("192.0.2.7".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let rooms = Made::default();
    let (waited, said) = connect(&rooms, 1 << 16).closed().await;
    assert_eq!(said, "");
    assert!(waited <= Duration::from_secs(61), "{waited:?}");

    let mut client = connect(&rooms, 1 << 16);
    client.send(&publish("1")).await;
    client.answer().await;
    let (waited, said) = client.closed().await;
    assert_eq!(said, "");
    assert!(waited <= Duration::from_secs(61), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    for (before, start) in [
        (false, "GET / HT"),
        (true, "GET /livez HTTP/1.1\r\nX-Slow: "),
        (false, "PRI * HTTP/2.0"),
    ] {
        let rooms = Made::default();
        let mut client = connect(&rooms, 1 << 16);
        if before {
            client.send(&publish("1")).await;
            client.answer().await;
        }
        let began = Instant::now();
        client.send(start).await;
        let mut buffer = [0; 1024];
        loop {
            let reading = timeout(Duration::from_secs(5), client.stream.read(&mut buffer)).await;
            match reading {
                Ok(Ok(0) | Err(_)) => break,
                // It may say 408 before it closes.
                Ok(Ok(_)) => {}
                Err(_) => drop(client.stream.write_all(b"x").await),
            }
            assert!(began.elapsed() < Duration::from_secs(130), "{start}");
        }
        client.serving.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_its_answer_is_closed_and_its_place_is_free() {
    let rooms = Made::default();
    rooms.offer([Message::new("t", vec![0; 500_000])]);
    let mut client = connect(&rooms, 4096);
    client.send(&pull()).await;
    let began = Instant::now();
    client.serving.await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(rooms.state().connections, 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    let rooms = Made::default();
    let large = "x".repeat(300_000);
    rooms.offer([Message::new("t", format!("{large:?}")).with_content_type("application/json")]);
    let mut client = connect(&rooms, 4096);
    client.send(&pull()).await;
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !said.ends_with(b"}]}\n") {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let count = client.stream.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "closed after {} bytes", said.len());
        said.extend_from_slice(&buffer[..count]);
    }
    assert!(said.len() > 300_000);
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_request_end_and_takes_no_new_one() {
    let rooms = Made::default();
    let idle = connect(&rooms, 1 << 16);
    idle.stop.cancel();
    let (waited, _) = idle.closed().await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");

    let mut client = connect(&rooms, 1 << 16);
    let whole = publish("late");
    let (head, body) = whole.split_at(whole.len() - 4);
    client.send(head).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    client.stop.cancel();
    tokio::time::sleep(Duration::from_millis(10)).await;
    client.send(body).await;
    let (head, _) = client.answer().await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("connection: close"),
        "{head}"
    );
    client.closed().await;
    assert_eq!(rooms.state().published[0].payload(), "late");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_pull_that_waits() {
    let rooms = Made::default();
    let mut client = connect(&rooms, 1 << 16);
    client.send(&pull()).await;
    while rooms.state().lot.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.stop.cancel();
    let (waited, said) = client.closed().await;
    assert!(waited <= Duration::from_secs(1), "{waited:?}");
    assert!(said.contains("\"stopping\""), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_no_longer_than_its_limit() {
    let rooms = Made::default();
    rooms.state().commits_never = true;
    let mut client = connect(&rooms, 1 << 16);
    client.send(&publish("1")).await;
    while rooms.state().published.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.stop.cancel();
    let (waited, _) = client.closed().await;
    assert!(waited <= Duration::from_secs(21), "{waited:?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_leaves_nothing_behind() {
    let rooms = Made::default();
    let mut client = connect(&rooms, 1 << 16);
    client.send(&pull()).await;
    while rooms.state().lot.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rooms.state().connections, 1);
    drop(client.stream);
    client.serving.await.unwrap();
    assert_eq!(rooms.state().connections, 0);
}

#[tokio::test]
async fn garbage_is_answered_and_closed() {
    for text in [
        "\x16\x03\x01\x02\x00\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PING\r\n\r\n",
    ] {
        let rooms = Made::default();
        let mut client = connect(&rooms, 1 << 16);
        client.send(text).await;
        let (_, said) = client.closed().await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    }
    let rooms = Made::default();
    let mut client = connect(&rooms, 1 << 20);
    let headers: String = (0..200).map(|at| format!("X-{at}: x\r\n")).collect();
    client
        .send(&format!("GET /livez HTTP/1.1\r\n{headers}\r\n"))
        .await;
    let (_, said) = client.closed().await;
    assert!(said.starts_with("HTTP/1.1 431"), "{said}");
}

#[test]
fn the_answer_beyond_the_limit_of_connections_is_whole() {
    let text = std::str::from_utf8(BUSY).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", body.len())),
        "{head}"
    );
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(json["error"]["code"], "too_many_connections");
}
