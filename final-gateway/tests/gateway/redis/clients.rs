//! Real clients of Redis: redis-cli, redis-benchmark, redis-py, ioredis, node-redis.

use std::{collections::BTreeSet, net::SocketAddr};

use final_gateway::{
    Listen, Tls,
    rights::{Grants, Rights},
};
use final_tests::clients::{Client, redis_tool};
use serde_json::Value;

use super::{PUB, SUB, raw::Raw, start};
use crate::{
    engine::Stand,
    place::{Database, Place},
};

crate::everywhere!(
    redis_py_publishes_and_consumes,
    ioredis_publishes_and_consumes,
    node_redis_publishes_and_consumes,
    redis_cli_publishes_and_consumes,
    redis_benchmark_publishes_with_and_without_pipelines,
);

/// How many messages a script publishes in a pipeline.
const PIPELINE: usize = 50;

async fn redis_py_publishes_and_consumes<DB: Database>(place: Place<DB>) {
    publishes_and_consumes(place, Client::RedisPy).await;
}

async fn ioredis_publishes_and_consumes<DB: Database>(place: Place<DB>) {
    publishes_and_consumes(place, Client::Ioredis).await;
}

async fn node_redis_publishes_and_consumes<DB: Database>(place: Place<DB>) {
    publishes_and_consumes(place, Client::NodeRedis).await;
}

async fn run(client: Client, address: SocketAddr, dsn: &str, work: [&str; 2]) -> Vec<Value> {
    let (port, dsn) = (address.port().to_string(), dsn.to_owned());
    let [work, count] = work.map(str::to_owned);
    let run = move || client.run(&[&port, &dsn, &work, &count]);
    let lines = tokio::task::spawn_blocking(run).await.expect("no panic");
    let lines = lines.expect("the client");
    lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

async fn publishes_and_consumes<DB: Database>(place: Place<DB>, client: Client) {
    let stand = Stand::on(place);
    let (running, address) = start(&stand).await;
    // A group has the messages from its first connection on.
    drop(Raw::log_in(address, SUB).await);
    let count = PIPELINE.to_string();
    let told = run(client, address, PUB, ["publish", &count]).await;
    let is_ok = |name: &str| {
        let answer = told.iter().find_map(|line| line.get(name));
        matches!(answer, Some(Value::Bool(true))) || answer == Some(&Value::from("OK"))
    };
    for name in ["text", "bytes", "pipeline", "ping"] {
        assert!(is_ok(name), "{name}: {told:?}");
    }
    let unknown = told.iter().find_map(|line| line["unknown"].as_str());
    assert!(
        unknown
            .expect("an error")
            .contains("unknown command 'FLUSHALL'"),
        "{told:?}"
    );

    let all = PIPELINE + 2;
    let taken = run(client, address, SUB, ["consume", &all.to_string()]).await;
    assert_eq!(taken.len(), all, "{taken:?}");
    let of = |key: &str| taken.iter().find(|one| one["key"] == key).expect("it came");
    assert_eq!(of("k1")["value"]["name"], "Zoë");
    assert_eq!(of("k2")["value"], "/wANCg==");
    assert_eq!(of("k2")["metadata"]["final-encoding"], "base64");
    let numbers: BTreeSet<_> = taken
        .iter()
        .filter_map(|one| one["value"].as_u64())
        .collect();
    assert_eq!(numbers, (0..PIPELINE as u64).collect());

    // What was committed does not come again.
    let mut publisher = Raw::log_in(address, PUB).await;
    assert_eq!(publisher.ask(&["SET", "last", "1000"]).await, "+OK");
    let taken = run(client, address, SUB, ["consume", "1"]).await;
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(taken[0]["key"], "last");
    running.shutdown().await;
}

async fn tool(program: &'static str, args: Vec<String>, input: &str) -> String {
    let input = input.to_owned();
    let run = move || {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        redis_tool(program, &args, &input)
    };
    let said = tokio::task::spawn_blocking(run).await.expect("no panic");
    said.expect("the program")
}

fn words<const N: usize>(address: SocketAddr, words: [&str; N]) -> Vec<String> {
    let mut all = vec!["-p".to_owned(), address.port().to_string()];
    all.extend(words.map(str::to_owned));
    all
}

async fn redis_cli_publishes_and_consumes<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let (running, address) = start(&stand).await;
    let cli = |args| tool("redis-cli", args, "");
    // What stands in databus's README, and the login as an option.
    let login = words(address, ["-a", SUB, "--no-auth-warning", "ping"]);
    assert_eq!(cli(login).await.trim(), "PONG");
    let set = words(
        address,
        ["-a", PUB, "--no-auth-warning", "set", "1", "\"xx\""],
    );
    assert_eq!(cli(set).await.trim(), "OK");
    let typed = format!("auth {PUB}\nping\nset 2 '{{\"id\": 2}}'\nset 3\n");
    let said = tool("redis-cli", words(address, []), &typed).await;
    let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["OK", "PONG", "OK", "pub params error"]);

    // Nothing is committed, so the messages come again.
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mget = words(address, ["-a", SUB, "--no-auth-warning", "mget", ""]);
        let said = cli(mget).await;
        let messages = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        taken = messages.collect();
        let values: Vec<_> = taken.iter().map(|one| &one["value"]).collect();
        assert!(values.contains(&&Value::from("xx")), "{said}");
    }
    assert_eq!(taken[0]["topic"], "test156");
    let resp3 = words(
        address,
        ["-3", "-a", PUB, "--no-auth-warning", "set", "4", "4"],
    );
    assert_eq!(cli(resp3).await.trim(), "OK");
    running.shutdown().await;
}

async fn redis_benchmark_publishes_with_and_without_pipelines<DB: Database>(place: Place<DB>) {
    let stand = Stand::on(place);
    let (running, address) = start(&stand).await;
    for (connections, pipeline, count) in [("10", "1", 300), ("5", "16", 1600)] {
        let count = count.to_string();
        let args = [
            "-a",
            PUB,
            "-t",
            "set",
            "-q",
            "-r",
            "1000",
            "-c",
            connections,
            "-P",
            pipeline,
            "-n",
            &count,
        ];
        let said = tool("redis-benchmark", words(address, args), "").await;
        assert!(
            said.contains("SET: ") && said.contains("requests per second"),
            "{said}"
        );
        assert!(!said.contains("Error from server"), "{said}");
    }
    let metrics = running.metrics().await;
    assert!(
        metrics.contains("final_gateway_messages_total{answer=\"committed\"} 1900"),
        "{metrics}"
    );
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_cli_publishes_by_tls_and_trusts_no_other_certificate() {
    let stand = Stand::<sqlx::Sqlite>::log().await;
    let folder = final_tests::WorkDir::new("tls").expect("a folder");
    let [authority, other] = [(); 2].map(|()| final_tests::Authority::new().expect("made"));
    let server = authority.for_server().expect("signed");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let (certificate, key) = (
        file("edge.crt", &server.certificate),
        file("edge.key", &server.key),
    );
    let trusted = file("trusted.crt", &authority.certificate());
    let foreign = file("foreign.crt", &other.certificate());
    let tls = Tls::from_files(&certificate, &key).expect("a certificate");
    let rights = Rights::from_fn(|_, _| Ok(Grants::all()));
    let gateway = stand.gateway().rights(rights);
    let running = gateway.resp(Listen::at("127.0.0.1:0").tls(tls)).start();
    let running = running.await.expect("start");
    let address = running.addresses().resp.expect("an address");
    let set = |trusted: &str| {
        let tls = ["--tls", "--cacert", trusted, "-h", "localhost"];
        let login = ["-a", PUB, "--no-auth-warning", "set", "1", "1"];
        let all: Vec<&str> = tls.into_iter().chain(login).collect();
        let mut words = words(address, []);
        words.extend(all.into_iter().map(str::to_owned));
        words
    };

    assert_eq!(tool("redis-cli", set(&trusted), "").await.trim(), "OK");
    let refused = set(&foreign);
    let refused = tokio::task::spawn_blocking(move || {
        let args: Vec<_> = refused.iter().map(String::as_str).collect();
        redis_tool("redis-cli", &args, "")
    });
    let refused = refused.await.expect("no panic").expect_err("no trust");
    let refused = refused.to_string().to_lowercase();
    assert!(refused.contains("certificate"), "{refused}");
    running.shutdown().await;
}
