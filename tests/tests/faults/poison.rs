//! Messages that take their process down, again and again.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use final_amqp::Amqp;
use final_core::{Bus, Router, SqliteBus};
use final_tests::{Vhost, eventually};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicGetOptions},
    types::{AMQPValue, FieldTable},
};

use crate::shop::{SOON, bind_queue, options, service};

/// A dead letter: the number that was published, and the reason.
pub type Letter = (i64, String);

/// A service whose processes are started again when they end, as by Kubernetes.
struct Restarted {
    service: String,
    kind: &'static str,
    vhost: Vhost,
    file: final_tests::SqliteFile,
}

impl Restarted {
    /// With a queue that holds these numbers, and the delivery limit that a quorum queue may have.
    async fn with(kind: &'static str, numbers: impl IntoIterator<Item = i64>) -> Self {
        crate::shop::log();
        let (vhost, service) = (final_tests::amqp_vhost().await, service());
        let vhost = vhost.expect("RabbitMQ");
        let policy = vhost.api().expect("its API").set_policy(
            vhost.name(),
            "limit",
            ".*",
            serde_json::json!({"delivery-limit": 3}),
        );
        policy.await.expect("a policy");
        let mut arguments = FieldTable::default();
        let text = |text: &str| AMQPValue::LongString(text.into());
        arguments.insert("x-queue-type".into(), text(kind));
        let exchange = format!("{service}_exchange_dlx");
        arguments.insert("x-dead-letter-exchange".into(), text(&exchange));
        bind_queue(vhost.url(), &format!("{service}.job"), &service, arguments).await;

        let file = final_tests::sqlite_file().expect("a file");
        let pool = sqlx::SqlitePool::connect(&file.url()).await.expect("open");
        let amqp = Amqp::new(vhost.url()).expect("a good URL");
        let maker: SqliteBus = Bus::new("maker", pool, amqp).with_options(options());
        maker.start(Router::new()).await.expect("start");
        for number in numbers {
            let published = maker.publish(format!("{service}.job"), &number).await;
            published.expect("published");
        }
        eventually("an empty outbox", SOON, async || {
            maker.stats().await.expect("stats").pending == 0
        })
        .await;
        maker.shutdown().await.expect("shutdown");
        Self {
            service,
            kind,
            vhost,
            file,
        }
    }

    fn journal(&self) -> Journal {
        Journal(self.file.dir().path().join("journal"))
    }

    fn start(&self) -> Process {
        let broker = format!("{},{}", self.kind, self.vhost.url());
        Process::start(&self.service, &self.file.url(), &broker, &self.journal())
    }

    /// Takes the dead letters out of their queue.
    async fn dead_letters(&self) -> Vec<Letter> {
        let connection =
            Connection::connect(self.vhost.url(), ConnectionProperties::default()).await;
        let channel = connection.expect("RabbitMQ").create_channel().await;
        let channel = channel.expect("a channel");
        let queue = format!("{}_dlx", self.service);
        let mut letters = Vec::new();
        while let Some(letter) = channel
            .basic_get(queue.as_str().into(), BasicGetOptions { no_ack: false })
            .await
            .expect("a queue of dead letters")
        {
            let delivery = letter.delivery;
            let headers = delivery.properties.headers().as_ref();
            let reason = headers.and_then(|headers| headers.inner().get("x-final-reason"));
            let reason = match reason {
                Some(AMQPValue::LongString(reason)) => reason.to_string(),
                other => format!("{other:?}"),
            };
            let number = rmp_serde::from_slice(&delivery.data).expect("a number");
            letters.push((number, reason));
            delivery
                .acker
                .ack(BasicAckOptions::default())
                .await
                .expect("acked");
        }
        letters
    }

    /// See the function of that name.
    async fn until_done(&self, innocent: &BTreeSet<i64>, dead: usize) -> (usize, Vec<Letter>) {
        let letters = async || self.dead_letters().await;
        until_done(|| self.start(), &self.journal(), innocent, letters, dead).await
    }
}

/// Starts one process after the other until the innocent are done and so many are dead; `take` takes dead letters that
/// it has not taken before. How many starts it took, and all letters.
pub async fn until_done(
    start: impl Fn() -> Process,
    journal: &Journal,
    innocent: &BTreeSet<i64>,
    take: impl AsyncFn() -> Vec<Letter>,
    dead: usize,
) -> (usize, Vec<Letter>) {
    let (mut starts, mut letters) = (0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < SOON {
        let mut process = start();
        starts += 1;
        while process.runs() && began.elapsed() < SOON {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if journal.done().is_superset(innocent) {
                letters.extend(take().await);
                if letters.len() >= dead {
                    process.ends().await;
                    return (starts, letters);
                }
            }
        }
    }
    panic!("not done after {starts} starts: {letters:?}");
}

/// What the processes have written down.
pub struct Journal(pub PathBuf);

impl Journal {
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn done(&self) -> BTreeSet<i64> {
        let lines = self.lines();
        let done = lines.iter().filter_map(|line| line.strip_prefix("done "));
        done.map(|number| number.parse().expect("a number"))
            .collect()
    }

    /// How often the handler of a number has begun.
    pub fn begun(&self, number: i64) -> usize {
        let number = number.to_string();
        self.lines().iter().filter(|line| **line == number).count()
    }
}

/// One of the processes. Killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn start(service: &str, database: &str, broker: &str, journal: &Journal) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_poisoned"))
            .args([service, database, broker])
            .arg(&journal.0)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the child starts"))
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().expect("a state").is_none()
    }

    async fn ends(&mut self) {
        drop(self.0.stdin.take());
        eventually("the process to end", SOON, async || !self.runs()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two messages that abort the process, in the midst of forty others, with a delivery limit of three.
async fn only_the_poison_is_given_up(kind: &'static str) {
    let innocent: BTreeSet<i64> = (1..=40).collect();
    let numbers = (1..=9).chain([-1, -2]).chain(10..=40);
    let restarted = Restarted::with(kind, numbers).await;

    let (starts, mut letters) = restarted.until_done(&innocent, 2).await;

    letters.sort();
    the_poison_is_dead(&letters, &restarted.journal());
    assert!(starts <= 8, "{starts} starts");
}

/// These letters are of two messages, each given up after three runs.
pub fn the_poison_is_dead(letters: &[Letter], journal: &Journal) {
    let numbers: Vec<i64> = letters.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [-2, -1], "{letters:?}");
    for (_, reason) in letters {
        assert!(reason.contains("its handler began 3 times"), "{letters:?}");
    }
    for poison in [-1, -2] {
        let begun = journal.begun(poison);
        assert!(begun <= 3, "{poison} has begun {begun} times");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_its_process_is_dead_lettered_and_no_other_from_a_quorum_queue() {
    only_the_poison_is_given_up("quorum").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_its_process_is_dead_lettered_and_no_other_from_a_classic_queue() {
    only_the_poison_is_given_up("classic").await;
}
