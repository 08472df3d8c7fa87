//! HTTP: curl and Python against a gateway that runs.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use final_gateway::{
    Limits, Listen, Running, Tls,
    rights::{AppLimits, AuthError, Grants, Operations, Rights},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, timeout},
};

use crate::{
    engine::{SOON, Stand},
    place::{Database, Place},
    redis::raw::Raw,
};

crate::on_each_engine!(
    what_curl_publishes_curl_pulls_and_acks,
    a_client_that_does_not_read_its_answer_gets_the_messages_again,
    a_message_is_dead_after_its_last_nack,
);

crate::everywhere!(
    the_examples_of_the_docs_are_what_curl_gets,
    pulls_wait_for_messages_and_end_in_time,
    a_receipt_is_good_for_its_group_and_once,
    an_app_uses_as_many_groups_and_topics_as_its_limit_says_by_both_protocols,
    dead_letters_of_a_colour_are_listed_and_put_back_and_its_connections_are_told,
);

const APP: &str = "shop:secret";

fn rights() -> Rights {
    Rights::from_fn(|key, secret| match (key, secret) {
        ("shop", b"secret") => Ok(Grants::all()),
        ("narrow", b"secret") => Ok(Grants::new()
            .allow("billing", "order.*", Operations::BOTH)
            .expect("names")),
        ("shop" | "narrow", _) => Err(AuthError::Secret),
        _ => Err(AuthError::Key),
    })
}

/// A gateway with HTTP.
struct Edge {
    running: Running,
    address: SocketAddr,
}

async fn edge<DB: Database>(stand: &Stand<DB>) -> Edge {
    edge_with(stand, Limits::default()).await
}

async fn edge_with<DB: Database>(stand: &Stand<DB>, limits: Limits) -> Edge {
    let gateway = stand.gateway().rights(rights()).limits(limits);
    let running = gateway.http(Listen::at("127.0.0.1:0")).start().await;
    let running = running.expect("start");
    let address = running.addresses().http.expect("an address");
    Edge { running, address }
}

/// What curl got.
#[derive(Debug)]
struct Got {
    status: u16,
    body: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Edge {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn curl(&self, path: &str, arguments: &[&str]) -> Got {
        let url = self.url(path);
        let arguments = [&["-u", APP][..], arguments, &[&url]].concat();
        curl(&arguments).await
    }

    /// Publishes bytes, and gives the answer.
    async fn publish(&self, topic: &str, payload: &str) -> Value {
        let path = format!("/v1/topics/{topic}/messages");
        let got = self.curl(&path, &["--data-binary", payload]).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.json()
    }

    /// Opens a group, which has nothing yet.
    async fn pull_nothing(&self, group: &str, topic: &str) {
        let path = format!("/v1/groups/{group}/messages?topic={topic}&wait=0");
        let got = self.curl(&path, &[]).await;
        assert_eq!(got.json(), json!({"messages": []}));
    }

    /// Pulls until there is something.
    async fn pull(&self, group: &str, topic: &str, more: &str) -> Vec<Value> {
        let path = format!("/v1/groups/{group}/messages?topic={topic}&wait=5s{more}");
        let end = Instant::now() + SOON;
        loop {
            let got = self.curl(&path, &[]).await;
            assert_eq!(got.status, 200, "{got:?}");
            let messages = got.json()["messages"].as_array().expect("messages").clone();
            if !messages.is_empty() {
                return messages;
            }
            assert!(Instant::now() < end, "nothing came");
        }
    }

    /// Pulls until so many messages are there.
    async fn pull_all(&self, group: &str, topic: &str, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.pull(group, topic, "&visibility=10m").await);
        }
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    async fn settle(&self, group: &str, what: &str, body: Value) -> Got {
        let path = format!("/v1/groups/{group}/{what}");
        self.curl(&path, &["-d", &body.to_string()]).await
    }

    async fn ack(&self, group: &str, messages: &[Value]) {
        let receipts: Vec<_> = messages.iter().map(|message| &message["receipt"]).collect();
        let got = self
            .settle(group, "ack", json!({"receipts": receipts}))
            .await;
        assert_eq!(got.status, 200, "{got:?}");
    }

    async fn close(self) {
        self.running.shutdown().await;
    }
}

async fn curl(arguments: &[&str]) -> Got {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "100", "-w", "\n%{http_code}"]);
    let output = command.args(arguments).stdin(Stdio::null()).output().await;
    let output = output.expect("curl is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).expect("text");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    Got {
        status: status.parse().expect("a status"),
        body: body.to_owned(),
    }
}

async fn what_curl_publishes_curl_pulls_and_acks<DB: Database>(stand: Stand<DB>) {
    let edge = edge(&stand).await;
    let payload = "{\"b\": 1.10, \"a\":12345678901234567890123,\"a\":2}";
    let headers = [
        "-H",
        "X-Key: k",
        "-H",
        "X-Header-Tenant: acme",
        "-H",
        "X-Id: 17",
        "-d",
        payload,
    ];
    let path = "/v1/topics/order.placed/messages";
    // The group is there before the first message.
    edge.curl("/v1/groups/billing/messages?topic=order.placed&wait=0", &[])
        .await;

    let first = edge.curl(path, &headers).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.json()["seq"].is_i64(), stand.is_log(), "{first:?}");
    let again = edge.curl(path, &headers).await;
    assert_eq!(first.json()["id"], again.json()["id"]);
    let typed = ["-H", "Content-Type: text/plain", "--data-binary", "ü\t"];
    edge.curl(path, &typed).await;

    let mut messages = edge.pull_all("billing", "order.placed", 3).await;
    messages.sort_by_key(|message| message["content_type"].to_string());
    let message = &messages[0];
    assert_eq!(message["id"], first.json()["id"]);
    assert_eq!(
        (&message["key"], &message["attempt"]),
        (&json!("k"), &json!(1))
    );
    assert_eq!(message["headers"], json!({"tenant": "acme"}));
    assert_eq!(message["seq"].is_i64(), stand.is_log(), "{message}");
    if stand.is_log() {
        assert_eq!(message["partition"], first.json()["partition"]);
        let places: Vec<_> = messages.iter().map(|message| &message["seq"]).collect();
        assert!(places.contains(&&first.json()["seq"]) && places.contains(&&again.json()["seq"]));
    }
    assert_eq!(messages[2]["payload_base64"], "w7wJ");
    assert_eq!(messages[2]["content_type"], "text/plain");
    edge.ack("billing", &messages).await;
    edge.close().await;

    let edge = self::edge(&stand).await;
    let left = edge
        .curl(
            "/v1/groups/billing/messages?topic=order.placed&wait=2s",
            &[],
        )
        .await;
    assert_eq!(left.json(), json!({"messages": []}));
    let last = edge.publish("order.placed", payload).await;
    let messages = edge
        .curl(
            "/v1/groups/billing/messages?topic=order.placed&wait=60s",
            &[],
        )
        .await;
    assert!(
        messages.body.contains(&format!("\"payload\":{payload}")),
        "{}",
        messages.body
    );
    assert_eq!(messages.json()["messages"][0]["id"], last["id"]);
    edge.close().await;
}

async fn a_client_that_does_not_read_its_answer_gets_the_messages_again<DB: Database>(
    stand: Stand<DB>,
) {
    let edge = edge(&stand).await;
    edge.curl("/v1/groups/billing/messages?topic=t&wait=0", &[])
        .await;
    let id = edge.publish("t", "1").await["id"].clone();

    // It asks, and is gone as soon as its answer is there.
    let mut stream = TcpStream::connect(edge.address).await.expect("connected");
    let request = "GET /v1/groups/billing/messages?topic=t&wait=60s&visibility=1s HTTP/1.1\r\nHost: x\r\n\
         Authorization: Basic c2hvcDpzZWNyZXQ=\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut first = [0];
    timeout(SOON, stream.read_exact(&mut first))
        .await
        .expect("in time")
        .expect("an answer");
    drop(stream);

    let messages = edge.pull("billing", "t", "").await;
    assert_eq!(
        (&messages[0]["id"], &messages[0]["attempt"]),
        (&id, &json!(2))
    );
    edge.close().await;
}

async fn a_message_is_dead_after_its_last_nack<DB: Database>(stand: Stand<DB>) {
    let mut limits = Limits::default();
    limits.max_deliveries = 2;
    let edge = edge_with(&stand, limits).await;
    edge.curl("/v1/groups/billing/messages?topic=t&wait=0", &[])
        .await;
    let id = edge.publish("t", "1").await["id"].clone();
    for attempt in 1..=2 {
        let messages = edge.pull("billing", "t", "").await;
        assert_eq!(
            (&messages[0]["id"], &messages[0]["attempt"]),
            (&id, &json!(attempt))
        );
        let receipts = json!({"receipts": [messages[0]["receipt"]], "reason": "no stock"});
        let got = edge.settle("billing", "nack", receipts).await;
        assert_eq!(got.status, 200, "{got:?}");
    }
    let list = "/v1/groups/billing/dead-letters?topic=t";
    if !stand.is_log() {
        let got = edge.curl(list, &[]).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (501, &json!("cannot_tell"))
        );
        return edge.close().await;
    }
    let end = Instant::now() + SOON;
    let letter = loop {
        let page = edge.curl(list, &[]).await.json();
        if let Some(letter) = page["dead_letters"].get(0) {
            break letter.clone();
        }
        assert!(Instant::now() < end, "no dead letter");
    };
    assert_eq!(
        (&letter["id"], &letter["reason"]),
        (&id, &json!("no stock"))
    );
    assert_eq!(
        (&letter["attempts"], &letter["payload"]),
        (&json!(2), &json!(1))
    );
    let replay = format!("{}/replay?topic=t", list.split('?').next().expect("a path"));
    let got = edge
        .curl(&replay, &["-d", &json!({"ids": [id]}).to_string()])
        .await;
    assert_eq!(got.json(), json!({"replayed": 1}));
    let messages = edge.pull("billing", "t", "").await;
    assert_eq!(messages[0]["id"], id);
    edge.ack("billing", &messages).await;
    edge.close().await;
}

async fn pulls_wait_for_messages_and_end_in_time<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let edge = edge(&stand).await;
    edge.curl("/v1/groups/billing/messages?topic=t&wait=0", &[])
        .await;
    let began = Instant::now();
    let got = edge
        .curl("/v1/groups/billing/messages?topic=t&wait=1s", &[])
        .await;
    assert_eq!(got.json(), json!({"messages": []}));
    assert!(began.elapsed() >= Duration::from_secs(1));

    let pulling = edge.curl("/v1/groups/billing/messages?topic=t&topic=u&wait=60s", &[]);
    let publishing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        edge.publish("u", "1").await
    };
    let (got, published) = tokio::join!(pulling, publishing);
    assert_eq!(got.json()["messages"][0]["id"], published["id"]);
    edge.close().await;
}

async fn a_receipt_is_good_for_its_group_and_once<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let edge = edge(&stand).await;
    for topic in ["order.placed", "invoice"] {
        let path = format!("/v1/groups/billing/messages?topic={topic}&wait=0");
        edge.curl(&path, &[]).await;
        edge.publish(topic, "1").await;
    }
    let order = edge.pull("billing", "order.placed", "").await;
    let invoice = edge.pull("billing", "invoice", "").await;
    let receipts = json!({"receipts": [order[0]["receipt"], invoice[0]["receipt"], "forged"]});

    let got = edge.settle("shipping", "ack", receipts.clone()).await;
    assert_eq!(got.status, 400, "{got:?}");
    let url = edge.url("/v1/groups/billing/ack");
    let got = curl(&["-u", "narrow:secret", "-d", &receipts.to_string(), &url]).await;
    let codes = |got: &Got| -> Vec<u64> {
        let json = got.json();
        let results = json["results"].as_array().expect("results");
        results
            .iter()
            .map(|result| result["status"].as_u64().expect("a status"))
            .collect()
    };
    assert_eq!(
        (got.status, codes(&got)),
        (207, vec![200, 403, 400]),
        "{got:?}"
    );
    let got = edge.settle("billing", "ack", receipts).await;
    assert_eq!(codes(&got), [410, 200, 400], "{got:?}");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_get_in_with_their_secret_and_do_what_they_may() {
    let stand = Stand::<sqlx::Sqlite>::log().await;
    let edge = edge(&stand).await;
    let to = |topic: &str| edge.url(&format!("/v1/topics/{topic}/messages"));
    for (app, topic, status) in [
        ("shop:wrong", "order.placed", 401),
        ("nobody:secret", "order.placed", 401),
        ("narrow:secret", "order.placed", 200),
        ("narrow:secret", "invoice", 403),
    ] {
        let got = curl(&["-u", app, "-d", "1", &to(topic)]).await;
        assert_eq!(got.status, status, "{app} {topic}: {got:?}");
    }
    let got = curl(&["-d", "1", &to("order.placed")]).await;
    assert_eq!(got.status, 401, "{got:?}");
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_http_2_with_tls_and_without() {
    let stand = Stand::<sqlx::Sqlite>::log().await;
    let folder = final_tests::sqlite_file().expect("a file");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let file = |name: &str| folder.dir().path().join(name).display().to_string();
    let (certificate, key) = (file("edge.crt"), file("edge.key"));
    std::fs::write(&certificate, certified.cert.pem()).expect("written");
    std::fs::write(&key, certified.signing_key.serialize_pem()).expect("written");
    let tls = Tls::from_files(&certificate, &key).expect("a certificate");
    let gateway = stand.gateway().rights(rights());
    let secret = gateway
        .http(Listen::at("127.0.0.1:0").tls(tls))
        .start()
        .await
        .expect("start");
    let plain = edge(&stand).await;
    let port = secret.addresses().http.expect("an address").port();

    let version = ["-w", "\n%{http_version} %{http_code}", "-u", APP, "-d", "1"];
    for (arguments, url, expected) in [
        (
            vec!["--cacert", &certificate],
            format!("https://localhost:{port}"),
            "2 200",
        ),
        (
            vec!["--cacert", &certificate, "--http1.1"],
            format!("https://localhost:{port}"),
            "1.1 200",
        ),
        (vec!["--http2-prior-knowledge"], plain.url(""), "2 200"),
        (vec![], plain.url(""), "1.1 200"),
    ] {
        let url = format!("{url}/v1/topics/t/messages");
        let arguments = [arguments.as_slice(), &version, &["-sS", &url]].concat();
        let output = Command::new("curl")
            .args(arguments)
            .output()
            .await
            .expect("curl");
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(said.ends_with(expected), "{said} {errors}");
    }
    secret.shutdown().await;
    plain.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_clients_hear_to_come_again() {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    let proxy = final_tests::Proxy::to(&url).await.expect("a proxy");
    let pool = <sqlx::Postgres as Database>::connect(&proxy.url(&url)).await;
    let edge = edge(&Stand::on(Place::of(url, pool))).await;
    edge.pull_nothing("billing", "t").await;
    edge.publish("t", "1").await;

    proxy.down();
    let got = edge.curl("/v1/topics/t/messages", &["-d", "2"]).await;
    assert!(matches!(got.status, 503 | 504), "{got:?}");
    let body = r#"{"records":[{"key":"","value":3}]}"#;
    let got = edge
        .curl("/databus/pub?topic=t&group=billing", &["-d", body])
        .await;
    assert_eq!(
        got.body,
        r#"{"offsets":[{"partition":0,"offset":0,"error_code":2}]}"#
    );
    let began = Instant::now();
    let got = edge
        .curl("/v1/groups/billing/messages?topic=t&wait=1s", &[])
        .await;
    assert!(matches!(got.status, 200 | 503), "{got:?}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(edge.curl("/livez", &[]).await.status, 200);
    proxy.up().expect("the port is free");

    let end = Instant::now() + SOON;
    while edge
        .curl("/v1/topics/t/messages", &["-d", "4"])
        .await
        .status
        != 200
    {
        assert!(Instant::now() < end, "it never recovers");
    }
    // What was in hand while the database was away may come twice.
    let mut seen = Vec::new();
    while !(seen.contains(&json!(1)) && seen.contains(&json!(4))) {
        assert!(Instant::now() < end, "{seen:?}");
        let messages = edge.pull("billing", "t", "").await;
        seen.extend(messages.iter().map(|message| message["payload"].clone()));
        edge.curl("/readyz", &[]).await;
    }
    edge.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_its_own_nests_the_routes() {
    let stand = Stand::<sqlx::Sqlite>::log().await;
    let running = stand
        .gateway()
        .rights(rights())
        .start()
        .await
        .expect("start");
    let service = axum::Router::new().nest("/bus", running.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async { axum::serve(listener, service).await });
    let ask = async |path: &str| {
        let url = format!("http://{address}{path}");
        curl(&["-u", APP, "-d", "1", &url]).await
    };
    assert_eq!(ask("/bus/v1/topics/t/messages").await.status, 200);
    assert_eq!(
        ask("/bus/v1/topics/a*b/messages").await.json()["error"]["code"],
        "bad_name"
    );
    for path in ["/bus/livez", "/v1/topics/t/messages"] {
        assert_eq!(ask(path).await.status, 404, "{path}");
    }
    serving.abort();
    running.shutdown().await;
}

/// What is done by Python's `http.client` on one connection; it prints statuses.
const PYTHON: &str = r#"
import base64, http.client, json, sys
host, port = sys.argv[1].rsplit(":", 1)
login = {"Authorization": "Basic " + base64.b64encode(b"shop:secret").decode()}
connection = http.client.HTTPConnection(host, int(port), timeout=100)

def ask(method, path, body=None, **headers):
    connection.request(method, path, body, {**login, **headers})
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text)

to = "/v1/topics/t/messages"
group = "/v1/groups/billing"
ask("GET", group + "/messages?topic=t&wait=0")
connection.connect()
sock = connection.sock
for number in range(20):
    status, answer = ask("POST", to, str(number))
    assert status == 200, answer
lines = "\n".join(json.dumps({"payload": number}) for number in range(20, 1000)).encode()
status, answer = ask("POST", to, iter([lines[:5000], lines[5000:]]), **{"Content-Type": "application/x-ndjson"})
assert status == 200 and len(answer["results"]) == 980, answer
seen = []
while len(seen) < 1000:
    status, answer = ask("GET", group + "/messages?topic=t&max=1000&wait=10s")
    assert status == 200, answer
    messages = answer["messages"]
    if not messages:
        continue
    seen += [message["payload"] for message in messages]
    status, answer = ask("POST", group + "/ack", json.dumps({"receipts": [message["receipt"] for message in messages]}))
    assert status == 200, answer
assert sorted(seen) == list(range(1000)), seen
assert connection.sock is sock, "the connection was not kept"
status, answer = ask("POST", to, b"x" * 6_000_000, **{"Content-Type": "text/plain"})
assert status == 413 and answer["error"]["code"] == "too_large", answer
status, answer = ask("POST", to, "1")
assert status == 200, answer
print("fine")
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_keeps_its_connection_and_reads_the_answer_to_a_body_that_is_too_large() {
    let stand = Stand::<sqlx::Sqlite>::log().await;
    let edge = edge(&stand).await;
    let address = edge.address.to_string();
    let output = Command::new("python3")
        .args(["-c", PYTHON, &address])
        .output()
        .await;
    let output = output.expect("python3");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.stdout, b"fine\n", "{errors}");
    edge.close().await;
}

/// What differs from run to run.
const OTHERWISE: [&str; 7] = [
    "id",
    "partition",
    "seq",
    "offset",
    "receipt",
    "oldest_seconds",
    "waiting",
];

async fn the_examples_of_the_docs_are_what_curl_gets<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let edge = edge(&stand).await;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/gateway-http.md");
    let text = std::fs::read_to_string(file).expect("the docs");
    let mut receipts = Vec::new();
    let mut played = 0;
    for example in text.split("```sh\n").skip(1) {
        let (command, rest) = example.split_once("```").expect("the end of the command");
        let expected = rest.split_once("```json\n").expect("an answer").1;
        let expected = expected.split_once("```").expect("the end of the answer").0;
        let expected: Value = serde_json::from_str(expected).expect(command);
        let receipt = |at: usize| receipts.get(at).cloned().unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .env("GATEWAY", edge.url(""))
            .env("APP", APP);
        shell
            .env("RECEIPT", receipt(0))
            .env("NEXT_RECEIPT", receipt(1));
        let output = shell.output().await.expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let got: Value = serde_json::from_str(&said).unwrap_or_else(|error| {
            panic!(
                "{error}: {command}: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        if let Some(messages) = got["messages"].as_array() {
            let mut all = messages.clone();
            while all.len() < 3 {
                all.extend(edge.pull("billing", "order.placed", "").await);
            }
            receipts.extend(
                all.iter()
                    .map(|message| message["receipt"].as_str().expect("a receipt").to_owned()),
            );
            let shown = &expected["messages"][0];
            let same = all
                .iter()
                .find(|message| message["payload"] == shown["payload"]);
            compare(shown, same.expect("the message of the example"), command);
        } else {
            compare(&expected, &got, command);
        }
        played += 1;
    }
    assert!(played >= 12, "{played}");
    edge.close().await;
}

fn compare(expected: &Value, got: &Value, at: &str) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            let names = |object: &serde_json::Map<String, Value>| -> BTreeMap<String, ()> {
                object.keys().map(|name| (name.clone(), ())).collect()
            };
            assert_eq!(names(expected), names(got), "{at}");
            for (name, value) in expected {
                let found = &got[name];
                if OTHERWISE.contains(&name.as_str()) {
                    let kind =
                        |value: &Value| (value.is_number() || value.is_null(), value.is_string());
                    assert_eq!(kind(value), kind(found), "{at}: {name}: {found}");
                } else {
                    compare(value, found, &format!("{at}: {name}"));
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            assert_eq!(expected.len(), got.len(), "{at}: {got:?}");
            for (one, other) in expected.iter().zip(got) {
                compare(one, other, at);
            }
        }
        _ => assert_eq!(expected, got, "{at}"),
    }
}

async fn an_app_uses_as_many_groups_and_topics_as_its_limit_says_by_both_protocols<DB: Database>(
    place: Place<DB>,
) {
    let stand = Stand::on(place);
    let rights = Rights::from_fn(|key, _| {
        let open_pairs = (key == "narrow").then_some(1);
        Ok(Grants::all().limits(AppLimits {
            open_pairs,
            ..AppLimits::default()
        }))
    });
    let at = || Listen::at("127.0.0.1:0");
    let gateway = stand.gateway().rights(rights).http(at()).resp(at());
    let running = gateway.start().await.expect("start");
    let address = running.addresses().http.expect("an address");
    let redis = running.addresses().resp.expect("an address");
    let edge = Edge { running, address };
    let dsn = |topic| format!("narrow:secret@billing/topic={topic}&role=sub");
    let pull = async |app: &str, topic: &str| {
        let url = edge.url(&format!("/v1/groups/billing/messages?topic={topic}&wait=0"));
        curl(&["-u", app, &url]).await
    };

    let _consumer = Raw::log_in(redis, &dsn("order")).await;
    assert_eq!(pull("narrow:secret", "order").await.status, 200);
    let refused = pull("narrow:secret", "invoice").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["code"], "too_many_groups");
    let mut second = Raw::connect(redis).await;
    let answer = second.ask(&["AUTH", &dsn("invoice")]).await;
    assert!(
        answer.starts_with("-ERR app \"narrow\" uses 1 groups") && answer.contains("--open-pairs"),
        "{answer}"
    );
    assert_eq!(pull("shop:secret", "invoice").await.status, 200);
    edge.running.shutdown().await;
}

async fn dead_letters_of_a_colour_are_listed_and_put_back_and_its_connections_are_told<
    DB: Database,
>(
    place: Place<DB>,
) {
    let stand = Stand::on(place);
    let mut limits = Limits::default();
    limits.max_deliveries = 1;
    let at = || Listen::at("127.0.0.1:0");
    let gateway = stand.gateway().rights(rights()).limits(limits);
    let running = gateway.http(at()).resp(at()).start().await.expect("start");
    let address = running.addresses().http.expect("an address");
    let redis = running.addresses().resp.expect("an address");
    let edge = Edge { running, address };
    let dsn = |role| format!("{APP}@billing/topic=order&color=red&role={role}");
    let told = async || {
        edge.curl("/databus/consumer/addrs?group=billing", &[])
            .await
    };
    assert_eq!(told().await.json()["data"], json!([]));

    let mut consumer = Raw::log_in(redis, &dsn("sub")).await;
    let data = told().await.json()["data"].clone();
    let one = data[0].as_str().expect("an address");
    assert!(one.starts_with("127.0.0.1:"), "{data}");
    let mut publisher = Raw::log_in(redis, &dsn("pub")).await;
    assert_eq!(publisher.ask(&["SET", "k", "7"]).await, "+OK");
    assert_eq!(consumer.take_all(1).await[0]["value"], 7);
    // It was given out as often as it may be.
    drop(consumer);
    let letters = "/v1/groups/billing/dead-letters";
    let red = format!("{letters}?topic=order&color=red");
    let end = Instant::now() + SOON;
    let listed = loop {
        let listed = edge.curl(&red, &[]).await.json()["dead_letters"].clone();
        if listed != json!([]) {
            break listed;
        }
        assert!(Instant::now() < end, "no dead letter");
    };
    assert_eq!(listed[0]["payload"], 7);
    assert_eq!(told().await.json()["data"], json!([]));
    let plain = edge.curl(&format!("{letters}?topic=order"), &[]).await;
    assert_eq!(plain.json()["dead_letters"], json!([]));
    let backlog = edge.curl("/v1/groups/billing/backlog?topic=order&color=red", &[]);
    assert_eq!(backlog.await.json()["dead_letters"], 1);

    let replay = format!("{letters}/replay?topic=order&color=red");
    let replayed = edge.curl(&replay, &["-d", r#"{"all":true}"#]).await;
    assert_eq!(replayed.json(), json!({"replayed": 1}));
    let mut consumer = Raw::log_in(redis, &dsn("sub")).await;
    assert_eq!(consumer.take_all(1).await[0]["value"], 7);
    edge.running.shutdown().await;
}
