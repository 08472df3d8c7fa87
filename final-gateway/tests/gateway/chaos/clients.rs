//! The clients of the run: publishers and consumers over both protocols, each with its own connection.
//!
//! Input: the addresses of the nodes, and the books. State: a connection, made anew after each error. Output: notes in
//! the books. A publisher sends a number once, whatever the answer, so a message that comes twice was delivered twice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, aio::MultiplexedConnection};
use serde::Deserialize;
use serde_json::json;

use super::books::{Books, Id};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What all clients share.
pub struct Scene {
    pub books: Books,
    /// RESP and HTTP of each node.
    pub nodes: Vec<(SocketAddr, SocketAddr)>,
    pub key: String,
    pub secret: String,
    /// Publishers send.
    pub publishing: AtomicBool,
    /// Consumers break their connections and forget what they have in hand, now and then.
    pub clumsy: AtomicBool,
    /// Everybody stops.
    pub over: AtomicBool,
    pub next: [AtomicU64; 16],
}

pub const TOPIC: &str = "chaos.sold";
pub const GROUP: &str = "chaos-group";

#[derive(Deserialize)]
struct Sold {
    p: u32,
    n: u64,
}

#[derive(Deserialize)]
struct FromResp {
    value: Sold,
    partition: i64,
    offset: i64,
}

#[derive(Deserialize)]
struct HttpAnswer {
    messages: Vec<FromHttp>,
}

#[derive(Deserialize)]
struct FromHttp {
    receipt: String,
    payload: Sold,
}

impl Scene {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn is_clumsy(&self, one_in: u32) -> bool {
        self.clumsy.load(Ordering::Relaxed) && fastrand::u32(..one_in) == 0
    }

    fn node(&self) -> (SocketAddr, SocketAddr) {
        self.nodes[fastrand::usize(..self.nodes.len())]
    }

    /// The next message of a publisher, once it may send.
    async fn next(&self, publisher: u32) -> Option<Id> {
        loop {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(2..20))).await;
            if self.is_over() {
                return None;
            }
            if self.publishing.load(Ordering::Relaxed) {
                let n = self.next[publisher as usize].fetch_add(1, Ordering::Relaxed);
                self.books.sending((publisher, n));
                return Some((publisher, n));
            }
        }
    }

    async fn connect(&self, role: &str) -> Option<MultiplexedConnection> {
        let (resp, _) = self.node();
        let dsn = format!(
            "{}:{}@{GROUP}/topic={TOPIC}&role={role}",
            self.key, self.secret
        );
        let address = ConnectionAddr::Tcp(resp.ip().to_string(), resp.port());
        let info = address.into_connection_info().expect("an address");
        let settings = RedisConnectionInfo::default().set_password(dsn);
        let client = redis::Client::open(info.set_redis_settings(settings)).expect("a client");
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        match client
            .get_multiplexed_async_connection_with_config(&config)
            .await
        {
            Ok(connection) => Some(connection),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }
}

fn body((p, n): Id) -> String {
    json!({ "p": p, "n": n }).to_string()
}

/// Publishes by `SET`.
pub async fn resp_publisher(scene: Arc<Scene>, publisher: u32) {
    let mut connection = None;
    while let Some(id) = scene.next(publisher).await {
        while connection.is_none() && !scene.is_over() {
            connection = scene.connect("pub").await;
        }
        let Some(conn) = &mut connection else { return };
        let mut set = redis::cmd("SET");
        set.arg(format!("key-{}", id.1 % 7)).arg(body(id));
        match set.query_async::<redis::Value>(conn).await {
            Ok(redis::Value::Okay) => scene.books.acknowledged(id),
            Ok(other) => scene.books.nonsense(format!("SET: {other:?}")),
            // Stored or not. The next message goes over a new connection, to any node.
            Err(_) => connection = None,
        }
    }
}

/// Takes by `MGET` and settles by `SET partition offset`.
pub async fn resp_consumer(scene: Arc<Scene>) {
    while !scene.is_over() {
        let Some(mut connection) = scene.connect("sub").await else {
            continue;
        };
        while !scene.is_over() {
            let take = redis::cmd("MGET").arg("").clone();
            // Without messages the answer takes thirty seconds, so the client's patience may end before.
            let Ok(taken) = take.query_async::<Vec<Vec<u8>>>(&mut connection).await else {
                break;
            };
            let mut last = std::collections::HashMap::new();
            for bytes in &taken {
                match serde_json::from_slice::<FromResp>(bytes) {
                    Ok(message) => {
                        scene.books.received((message.value.p, message.value.n));
                        last.insert(message.partition, message.offset);
                    }
                    Err(error) => scene
                        .books
                        .nonsense(format!("MGET: {error}: {}", String::from_utf8_lossy(bytes))),
                }
            }
            if scene.is_clumsy(10) {
                break;
            }
            let mut broken = false;
            for (partition, offset) in last {
                let set = redis::cmd("SET").arg(partition).arg(offset).clone();
                match set.query_async::<redis::Value>(&mut connection).await {
                    Ok(redis::Value::Okay) => {}
                    Ok(other) => scene.books.nonsense(format!("commit: {other:?}")),
                    Err(_) => broken = true,
                }
            }
            if broken {
                break;
            }
        }
    }
}

/// Publishes by `POST`.
pub async fn http_publisher(scene: Arc<Scene>, http: reqwest::Client, publisher: u32) {
    while let Some(id) = scene.next(publisher).await {
        let (_, node) = scene.node();
        let sent = http
            .post(format!("http://{node}/v1/topics/{TOPIC}/messages"))
            .basic_auth(&scene.key, Some(&scene.secret))
            .header("content-type", "application/json")
            .header("x-key", format!("key-{}", id.1 % 7))
            .body(body(id))
            .timeout(PATIENCE)
            .send()
            .await;
        match sent {
            Ok(answer) if answer.status().is_success() => scene.books.acknowledged(id),
            Ok(answer) if answer.status().is_server_error() => {}
            Ok(answer) => scene.books.nonsense(format!("POST: {}", answer.status())),
            Err(_) => {}
        }
    }
}

/// Takes by `GET` and settles by `POST ack`, at the same node.
pub async fn http_consumer(scene: Arc<Scene>, http: reqwest::Client) {
    while !scene.is_over() {
        let (_, node) = scene.node();
        let at = format!("http://{node}/v1/groups/{GROUP}");
        let taken = http
            .get(format!("{at}/messages?topic={TOPIC}&max=50&wait=1s"))
            .basic_auth(&scene.key, Some(&scene.secret))
            .timeout(PATIENCE)
            .send()
            .await;
        let answer = match taken {
            Ok(answer) if answer.status().is_success() => answer.bytes().await,
            Ok(answer) if answer.status().is_server_error() => continue,
            Ok(answer) => {
                scene.books.nonsense(format!("GET: {}", answer.status()));
                continue;
            }
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(answer) = answer else { continue };
        let taken = match serde_json::from_slice::<HttpAnswer>(&answer) {
            Ok(answer) => answer.messages,
            Err(error) => {
                scene.books.nonsense(format!("GET: {error}"));
                continue;
            }
        };
        for message in &taken {
            scene.books.received((message.payload.p, message.payload.n));
        }
        if taken.is_empty() || scene.is_clumsy(10) {
            continue;
        }
        let receipts: Vec<&str> = taken.iter().map(|message| &*message.receipt).collect();
        let acked = http
            .post(format!("{at}/ack"))
            .basic_auth(&scene.key, Some(&scene.secret))
            .json(&json!({ "receipts": receipts }))
            .timeout(PATIENCE)
            .send()
            .await;
        if let Ok(answer) = acked
            && answer.status().is_client_error()
        {
            scene.books.nonsense(format!("ack: {}", answer.status()));
        }
    }
}
