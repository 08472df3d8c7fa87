//! `final tail`.

use std::{process::Stdio, time::Duration};

use final_amqp::Amqp;
use final_core::{Bus, Message, Router};
use final_tests::eventually;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{
    database::{Database, Place},
    everywhere,
    program::{program, run},
};

/// A limit of waiting. Only what is broken takes this long, also on a machine with other work.
pub const SOON: Duration = Duration::from_secs(60);

everywhere!(a_tail_shows_what_is_written_to_the_log_from_then_on);

/// A tail that looks on already.
struct Tail {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    async fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut err = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let first = timeout(SOON, err.next_line())
            .await
            .expect("in time")
            .expect("a line");
        assert_eq!(first.as_deref(), Some("looking on"));
        // Read on, so that the program never waits for room.
        tokio::spawn(async move { while let Ok(Some(_)) = err.next_line().await {} });
        let out = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Self { child, out }
    }

    async fn next(&mut self) -> Value {
        let line = timeout(SOON, self.out.next_line()).await.expect("in time");
        let line = line.expect("a line").expect("no end");
        serde_json::from_str(&line).expect("JSON")
    }

    async fn ends_with(mut self, code: i32) {
        let ended = timeout(SOON, self.child.wait())
            .await
            .expect("in time")
            .expect("it ends");
        assert_eq!(ended.code(), Some(code));
    }
}

async fn a_tail_shows_what_is_written_to_the_log_from_then_on<DB: Database>(at: Place<DB>) {
    let ran = at.run(["tail", "t", "--for", "1s"]).await.ends_with(1);
    assert!(ran.err.contains("final_log"), "{ran:#?}");
    let bus = at.log_bus("shop");
    bus.migrate().await.expect("tables");
    bus.publish("order.placed", &1_i64)
        .await
        .expect("published");

    let mut tail = at.program();
    tail.args([
        "tail",
        "order.placed",
        "order.large",
        "--json",
        "--limit",
        "3",
    ]);
    let mut tail = Tail::start(&mut tail).await;
    // A transaction that is open has a lower number than what is committed meanwhile.
    let late = match at.url.starts_with("sqlite") {
        true => None,
        false => {
            let mut late = bus.with_tx(bus.begin().await.expect("a transaction"));
            late.publish("order.placed", "late").await.expect("staged");
            late.flush().await.expect("written");
            Some(late)
        }
    };
    bus.publish("order.other", &2_i64).await.expect("published");
    let id = bus
        .publish("order.placed", &u64::MAX)
        .key("42")
        .header("tenant", "acme")
        .await;
    let shown = tail.next().await;
    assert_eq!(shown["message_id"], id.expect("published").to_string());
    assert_eq!(shown["kind"], "message");
    assert_eq!(
        (&shown["topic"], &shown["key"]),
        (&"order.placed".into(), &"42".into())
    );
    assert_eq!(shown["payload"], u64::MAX);
    assert_eq!(shown["headers"]["tenant"], "acme");
    match late {
        Some(late) => late.commit().await.expect("committed"),
        None => bus
            .publish("order.placed", "late")
            .await
            .map(drop)
            .expect("published"),
    }
    assert_eq!(tail.next().await["payload"], "late");
    // Read apart from its row, because it is heavy.
    let large = "x".repeat(40_000);
    bus.publish("order.large", &large).await.expect("published");
    assert_eq!(tail.next().await["payload"], large);
    tail.ends_with(0).await;
    assert_eq!(at.number("SELECT count(*) FROM final_log_groups").await, 0);
    assert_eq!(at.number("SELECT count(*) FROM final_log_members").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_rabbitmq_takes_nothing_from_the_service_and_leaves_nothing_behind() {
    let vhost = final_tests::amqp_vhost().await.expect("RabbitMQ");
    let at = Place::<sqlx::Sqlite>::fresh().await;
    let topic = final_tests::unique("order.placed");
    let service = final_tests::unique("shop");
    let bus = Bus::new(
        &service,
        at.pool.clone(),
        Amqp::new(vhost.url()).expect("a URL"),
    );
    let handled = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = std::sync::Arc::clone(&handled);
    let router = Router::new().route(&topic, move |_: Message| {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async {}
    });
    bus.start(router).await.expect("start");
    eventually("a connected broker", SOON, async || {
        bus.stats().await.is_ok_and(|stats| stats.connected)
    })
    .await;

    // It asks first: its queue is a queue.
    let args = ["tail", &topic, "--rabbitmq", vhost.url(), "--json"];
    let refused = run(&mut program(), args).await.ends_with(5);
    assert!(refused.err.contains("counts as delivered"), "{refused:#?}");
    let misspelt = ["tail", "no.such.topic", "--rabbitmq", vhost.url(), "--yes"];
    let refused = run(&mut program(), misspelt).await.ends_with(1);
    assert!(refused.err.contains("misspelt"), "{refused:#?}");

    let mut tail = program();
    tail.args(args).args(["--yes", "--limit", "2"]);
    let mut tail = Tail::start(&mut tail).await;
    let id = bus
        .publish(&topic, &u64::MAX)
        .key("42")
        .await
        .expect("published");
    let shown = tail.next().await;
    assert_eq!(shown["message_id"], id.to_string());
    assert_eq!(
        (&shown["payload"], &shown["key"]),
        (&u64::MAX.into(), &"42".into())
    );
    bus.publish(&topic, &2_i64).await.expect("published");
    assert_eq!(tail.next().await["payload"], 2);
    tail.ends_with(0).await;
    eventually("both are handled", SOON, async || {
        handled.load(std::sync::atomic::Ordering::Relaxed) == 2
    })
    .await;
    bus.shutdown().await.expect("shutdown");
}
