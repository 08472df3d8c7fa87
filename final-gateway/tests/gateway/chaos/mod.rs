//! Nothing that was acknowledged is lost, whatever dies: two gateways and their database are killed and frozen while
//! twenty clients publish and consume over both protocols.
//!
//! `FINAL_GATEWAY_CHAOS_SECONDS` makes the storm longer, and `FINAL_GATEWAY_CHAOS_SEED` plays it again:
//! `cargo xtask chaos gateway --minutes 10` sets both.

mod books;
mod clients;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use final_gateway::rights::{AppLimits, Apps, Grant, Operations};
use final_tests::{
    MariaDb, Port, Postgres, WorkDir, eventually,
    process::{Launch, Process},
    servers::Server,
};
use futures::future::join_all;
use sqlx::Pool;
use tokio::task::JoinSet;

use self::{
    books::Books,
    clients::{Scene, http_consumer, http_publisher, resp_consumer, resp_publisher},
};

/// How long everything may take to come to rest.
const SOON: Duration = Duration::from_secs(120);
/// How long a message that was pulled stays in hand.
const VISIBILITY: Duration = Duration::from_secs(3);

/// A gateway as a process.
struct Node {
    name: &'static str,
    database: String,
    resp: Port,
    http: Port,
    dir: WorkDir,
    process: Option<Process>,
}

impl Node {
    fn new(name: &'static str, database: &str) -> Self {
        Self {
            name,
            database: database.to_owned(),
            resp: Port::free().expect("a port"),
            http: Port::free().expect("a port"),
            dir: WorkDir::new("gateway").expect("a folder"),
            process: None,
        }
    }

    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let at = |port: &Port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        (at(&self.resp), at(&self.http))
    }

    fn start(&mut self) {
        let (resp, http) = self.addresses();
        let visibility = VISIBILITY.as_secs().to_string();
        let launch = Launch::new(Path::new(env!("CARGO_BIN_EXE_gateway_node"))).args([
            "--database",
            &self.database,
            "--node",
            self.name,
            "--resp",
            &resp.to_string(),
            "--http",
            &http.to_string(),
            "--visibility",
            &visibility,
            // What is repeated by faults must not become a dead letter.
            "--max-deliveries",
            "1000000",
        ]);
        let process = launch.spawn(self.name, &self.dir.join("log.txt"));
        self.process = Some(process.expect("a gateway"));
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("it was started")
    }

    fn kill9(&self) {
        self.process().kill9();
    }
}

/// What is broken.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillGateway(usize),
    FreezeGateway(usize),
    KillDatabase,
    FreezeDatabase,
}

/// Each fault once and alone, then mixtures.
fn plan(random: &mut fastrand::Rng, seconds: u64) -> Vec<Fault> {
    use Fault::*;
    let mut plan = vec![
        KillGateway(0),
        KillDatabase,
        FreezeGateway(1),
        FreezeDatabase,
        KillGateway(1),
    ];
    let more = (seconds / 4).saturating_sub(plan.len() as u64);
    plan.extend((0..more).map(|_| match random.u32(..5) {
        0 => KillDatabase,
        1 => FreezeDatabase,
        2 => FreezeGateway(random.usize(..2)),
        _ => KillGateway(random.usize(..2)),
    }));
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_postgres_whatever_dies() {
    let database = Postgres::start().await.expect("PostgreSQL");
    holds(&database, database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_mariadb_whatever_dies() {
    let database = MariaDb::start().await.expect("MariaDB");
    holds(&database, database.url()).await;
}

fn number(variable: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or_else(otherwise, |value| value.parse().expect("a number"))
}

async fn holds(database: &Server, url: String) {
    let seed = number("FINAL_GATEWAY_CHAOS_SEED", || fastrand::u64(..1_000_000));
    let seconds = number("FINAL_GATEWAY_CHAOS_SECONDS", || 20);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (key, secret) = an_app(&url).await;
    let mut nodes = vec![Node::new("one", &url), Node::new("two", &url)];
    nodes.iter_mut().for_each(Node::start);
    let scene = Arc::new(Scene {
        books: Books::default(),
        nodes: nodes.iter().map(Node::addresses).collect(),
        key,
        secret,
        publishing: AtomicBool::new(true),
        clumsy: AtomicBool::new(true),
        over: AtomicBool::new(false),
        next: Default::default(),
    });
    let http = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let mut clients = JoinSet::new();
    for publisher in 0..5 {
        clients.spawn(resp_publisher(Arc::clone(&scene), publisher));
        clients.spawn(http_publisher(
            Arc::clone(&scene),
            http.clone(),
            5 + publisher,
        ));
        clients.spawn(resp_consumer(Arc::clone(&scene)));
        clients.spawn(http_consumer(Arc::clone(&scene), http.clone()));
    }

    arrives(&scene, "traffic before the first fault").await;
    let plan = plan(&mut random, seconds);
    for fault in &plan {
        println!("{fault:?}");
        break_it(*fault, database, &mut nodes, &mut random).await;
        arrives(&scene, &format!("traffic after {fault:?}")).await;
    }
    scene.clumsy.store(false, Ordering::Relaxed);
    scene.publishing.store(false, Ordering::Relaxed);
    comes_to_rest(&scene).await;

    // From here on nothing is broken, and nothing may come twice.
    scene.books.calm();
    scene.publishing.store(true, Ordering::Relaxed);
    arrives(&scene, "traffic in the calm").await;
    scene.publishing.store(false, Ordering::Relaxed);
    comes_to_rest(&scene).await;
    scene.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client");
    }
    let ends = nodes.iter().map(|node| async {
        tokio::task::block_in_place(|| {
            node.process()
                .end(final_tests::process::Signal::TERM, Duration::from_secs(30))
        })
        .expect("a clean end");
    });
    join_all(ends).await;

    let verdict = scene.books.close();
    println!("{} faults: {verdict}", plan.len());
    assert!(verdict.received > 200, "{verdict}");
    assert_eq!(verdict.lost, [], "seed {seed}: {verdict}");
    assert_eq!(verdict.invented, [], "seed {seed}: {verdict}");
    assert_eq!(verdict.unexplained, [], "seed {seed}: {verdict}");
    assert_eq!(
        verdict.nonsense,
        [] as [String; 0],
        "seed {seed}: {verdict}"
    );
}

/// Does one thing, and mends it.
async fn break_it(fault: Fault, database: &Server, nodes: &mut [Node], random: &mut fastrand::Rng) {
    let mut while_broken = async || {
        tokio::time::sleep(Duration::from_millis(random.u64(100..2_000))).await;
    };
    match fault {
        Fault::KillGateway(n) => {
            nodes[n].kill9();
            while_broken().await;
            nodes[n].start();
        }
        Fault::FreezeGateway(n) => {
            nodes[n].process().pause();
            while_broken().await;
            nodes[n].process().resume();
        }
        Fault::KillDatabase => {
            database.kill9();
            while_broken().await;
            database.start_again().await.expect("the database again");
        }
        Fault::FreezeDatabase => {
            database.pause();
            while_broken().await;
            database.resume();
        }
    }
}

/// Waits until messages that are sent from now on come.
async fn arrives(scene: &Scene, what: &str) {
    let now = Instant::now();
    eventually(what, SOON, async || {
        let (sent, came) = scene.books.since(now);
        (sent > 50 && came > 50).then_some(()).ok_or((sent, came))
    })
    .await;
}

/// Waits until everything that was acknowledged has come, and until what could come again has.
async fn comes_to_rest(scene: &Scene) {
    eventually(
        "everything that was acknowledged",
        SOON,
        async || match scene.books.missing() {
            0 => Ok(()),
            missing => Err(format!("{missing} missing")),
        },
    )
    .await;
    let quiet = VISIBILITY + Duration::from_secs(1);
    eventually("no more repeats", SOON, async || {
        scene
            .books
            .last_received()
            .is_none_or(|last| last.elapsed() > quiet)
    })
    .await;
}

/// An app that may publish and consume.
async fn an_app(url: &str) -> (String, String) {
    let apps = match url.starts_with("postgres") {
        true => Apps::new(Pool::<sqlx::Postgres>::connect_lazy(url).expect("a URL")),
        false => Apps::new(Pool::<sqlx::MySql>::connect_lazy(url).expect("a URL")),
    };
    apps.migrate().await.expect("tables");
    let secret = apps
        .create("chaos", AppLimits::default())
        .await
        .expect("an app");
    let all = Grant::new(clients::GROUP, clients::TOPIC, Operations::BOTH);
    apps.allow("chaos", all.expect("names"))
        .await
        .expect("a right");
    ("chaos".to_owned(), secret.reveal().to_owned())
}
