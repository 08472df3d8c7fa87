//! The servers, the endpoint and the reconcilers of a run, and how each is broken.
//!
//! Input: a [`Fault`]. State: two processes that share their repairs, and the wires of both. Output: the fault is done, and
//! mended.
//!
//! The mirror's lag is promised to stay below its limit. So the reconcilers are let back to a database that was away only
//! once the writers and the mirror have caught up with it.

use std::{sync::Arc, time::Duration};

use final_tests::{
    Conn, MariaDb, Postgres, Proxy, eventually,
    servers::{Server, Setup},
};
use tokio::time::{sleep, timeout};

use super::{
    books::Books,
    endpoint::{Mood, Repairer},
    fault::Fault,
    node::{Judgement, LEASE, Node, Urls},
    table::{Kind, Place},
    writer::Scene,
};

/// How long anything may take.
pub const SOON: Duration = Duration::from_secs(120);

/// The wires of the reconcilers. Both have the same: a target is known by its address.
#[derive(Debug)]
struct Wires {
    source: Proxy,
    target: Proxy,
    state: Proxy,
    endpoint: Proxy,
}

/// Everything that can be broken.
#[derive(Debug)]
pub struct Stage {
    /// Without the wires.
    pub urls: Urls,
    wires: Wires,
    source: Server,
    target: Server,
    state: Server,
    endpoint: Repairer,
    nodes: Vec<Node>,
    judgement: Judgement,
    /// How long a call may take to come: its row has to be looked at several times.
    patience: Duration,
    books: Arc<Books>,
}

impl Stage {
    pub async fn set(
        from: Kind,
        rows: i64,
        (judgement, patience): (Judgement, Duration),
        books: Arc<Books>,
    ) -> Self {
        let to = match from {
            Kind::Postgres => Kind::MariaDb,
            Kind::MariaDb => Kind::Postgres,
        };
        let (source, target, state) = tokio::join!(server(from), server(to), server(from));
        let url = target.url();
        for (server, place) in [(&source, Place::Source), (&target, Place::Copy)] {
            let mut conn = Conn::open(&server.url()).await.expect("a server");
            for statement in Kind::of(&server.url()).table(place, rows) {
                conn.run(&statement).await.expect(&statement);
            }
        }
        let mut conn = Conn::open(&url).await.expect("a server");
        for statement in to.beats() {
            conn.run(&statement).await.expect(&statement);
        }
        let endpoint = Repairer::start(url, Arc::clone(&books)).await;
        let urls = Urls {
            source: source.url(),
            target: target.url(),
            state: state.url(),
            endpoint: endpoint.url.clone(),
        };
        let wire = async |url: &str| Proxy::to(url).await.expect("a proxy");
        let wires = Wires {
            source: wire(&urls.source).await,
            target: wire(&urls.target).await,
            state: wire(&urls.state).await,
            endpoint: wire(&urls.endpoint).await,
        };
        let nodes = vec![Node::new("one"), Node::new("two")];
        Self {
            urls,
            wires,
            source,
            target,
            state,
            endpoint,
            nodes,
            judgement,
            patience,
            books,
        }
    }

    fn start(&mut self, at: usize) {
        let through = Urls {
            source: self.wires.source.url(&self.urls.source),
            target: self.wires.target.url(&self.urls.target),
            state: self.wires.state.url(&self.urls.state),
            endpoint: self.wires.endpoint.url(&self.urls.endpoint),
        };
        self.nodes[at].start(&through, self.judgement);
    }

    pub fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.start(at));
    }

    pub async fn stop_all(&mut self) {
        for node in &mut self.nodes {
            node.stop(SOON).await;
        }
    }

    /// Reads what the reconcilers have said since.
    pub fn listen(&mut self) {
        self.nodes
            .iter_mut()
            .for_each(|node| node.listen(&self.books));
    }

    /// A reconciler that has ended by itself, or has told of a fault of its own, is a problem.
    pub fn problems(&mut self) -> Vec<String> {
        let dead = self.nodes.iter().filter(|node| node.has_died());
        let told = dead.map(|node| format!("{} has died: {}", node.name, node.last_lines()));
        let mut all: Vec<String> = told.collect();
        let own = self
            .nodes
            .iter_mut()
            .flat_map(|node| node.problems.drain(..));
        all.extend(own);
        all
    }

    pub fn forget_equal(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.equal = 0);
    }

    /// Whether each reconciler has found both tables equal, in a comparison that has begun since that was forgotten.
    pub fn is_proved(&self) -> bool {
        self.nodes.iter().all(|node| node.equal >= 2)
    }

    /// What each has said last.
    pub fn last_lines(&self) -> String {
        let last = self
            .nodes
            .iter()
            .map(|node| format!("{}:\n{}", node.name, node.last_lines()));
        last.collect::<Vec<_>>().join("\n")
    }

    /// Repairs that are not over, rows that wait for a look, and jobs that have paused.
    pub async fn open(&self) -> Result<i64, sqlx::Error> {
        let mut conn = Conn::open(&self.urls.state).await?;
        let sql = "SELECT (SELECT count(*) FROM final_reconcile_repairs) + (SELECT count(*) FROM final_reconcile_suspects) \
            + (SELECT count(*) FROM final_reconcile_jobs WHERE paused IS NOT NULL)";
        conn.number(sql).await
    }

    /// Rows that are not the same on both sides, at most one of each thousand.
    pub async fn differences(&self) -> Vec<String> {
        let urls = [&self.urls.source, &self.urls.target];
        let mut conns = Vec::new();
        let mut last = 0;
        for url in urls {
            let mut conn = Conn::open(url).await.expect("a server");
            let most = conn.number("SELECT coalesce(max(id), 0) FROM goods").await;
            last = most.expect("a number").max(last);
            conns.push((conn, Kind::of(url).rows()));
        }
        let (mut from, mut wrong) = (0, Vec::new());
        while from < last {
            let mut rows = Vec::new();
            for (conn, sql) in &mut conns {
                let sql = sql.replace("{from}", &from.to_string());
                let sql = sql.replace("{to}", &(from + 2_000).to_string());
                rows.push(conn.text(&sql).await.expect(&sql));
            }
            if rows[0] != rows[1] {
                let (mut a, mut b) = (rows[0].lines(), rows[1].lines());
                let first = loop {
                    match (a.next(), b.next()) {
                        (None, None) => break "nothing".to_owned(),
                        (a, b) if a != b => break format!("{a:?} is not {b:?}"),
                        _ => {}
                    }
                };
                wrong.push(first);
            }
            from += 2_000;
        }
        wrong
    }

    /// Breaks something for so long, and mends it.
    pub async fn break_it(&mut self, fault: Fault, lasts: Duration, scene: &Scene, one: usize) {
        if fault.disturbs() {
            self.books.disturb();
        }
        self.do_it(fault, lasts, scene, one % self.nodes.len())
            .await;
        self.books.calm();
    }

    async fn do_it(&mut self, fault: Fault, lasts: Duration, scene: &Scene, one: usize) {
        if let Some(mood) = fault.mood() {
            self.endpoint.is(mood);
            // So long that a call meets it.
            sleep(lasts * 3).await;
            self.endpoint.is(Mood::Well);
            return;
        }
        match fault {
            Fault::KillReconciler => {
                self.nodes[one].kill();
                sleep(lasts).await;
                self.start(one);
            }
            Fault::KillBothReconcilers => {
                self.kill_all();
                sleep(lasts).await;
                self.start_all();
            }
            Fault::DieAfterRepair => self.dies(Mood::IsATrap { repairs: true }).await,
            Fault::DieBeforeRepair => self.dies(Mood::IsATrap { repairs: false }).await,
            Fault::DieBeforeRecord => {
                // The answer is on its way while they die.
                self.wires.endpoint.stall_answers();
                self.dies(Mood::TakesItsTime).await;
                self.wires.endpoint.resume();
            }
            Fault::StopReconciler => {
                self.nodes[one].stop(SOON).await;
                self.start(one);
            }
            Fault::FreezeReconciler => self.frozen_node(one, lasts).await,
            Fault::FreezeReconcilerForLong => self.frozen_node(one, LEASE + lasts).await,
            Fault::KillSource => {
                self.wires.source.down();
                away(&self.source, lasts).await;
                let before = scene.transactions();
                eventually("writers go on", SOON, async || {
                    (scene.transactions() > before + 10).then_some(())
                })
                .await;
                self.wires.source.up().expect("a port");
            }
            Fault::KillTarget => {
                self.wires.target.down();
                away(&self.target, lasts).await;
                eventually("the mirror catches up", SOON, async || {
                    let behind = scene.behind();
                    let most = scene.lag + Duration::from_millis(200);
                    (behind <= most).then_some(()).ok_or(behind)
                })
                .await;
                self.wires.target.up().expect("a port");
            }
            Fault::KillState => away(&self.state, lasts).await,
            Fault::FreezeSource => frozen(&self.source, lasts).await,
            Fault::FreezeTarget => frozen(&self.target, lasts).await,
            Fault::FreezeState => frozen(&self.state, lasts).await,
            Fault::CutSource => cut_again(lasts, &self.wires.source).await,
            Fault::CutTarget => cut_again(lasts, &self.wires.target).await,
            Fault::CutState => cut_again(lasts, &self.wires.state).await,
            Fault::LoseAnswersOfState => lose_answers(lasts, &self.wires.state).await,
            Fault::LoseAnswersOfEndpoint => lose_answers(lasts, &self.wires.endpoint).await,
            Fault::KillReconcilerAndState => {
                self.state.kill9();
                self.nodes[one].kill();
                sleep(lasts).await;
                self.start(one);
                self.state.start_again().await.expect("the state again");
            }
            Fault::EndpointIsDown => {
                self.wires.endpoint.down();
                sleep(lasts * 3).await;
                self.wires.endpoint.up().expect("a port");
            }
            // Those of the endpoint's moods are above.
            _ => {}
        }
    }

    /// Kills all reconcilers while a call is under way.
    async fn dies(&mut self, mood: Mood) {
        let before = self.endpoint.caught();
        self.endpoint.is(mood);
        eventually("a call comes", self.patience, async || {
            self.endpoint.caught() > before
        })
        .await;
        self.kill_all();
        self.endpoint.is(Mood::Well);
        self.start_all();
    }

    fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    async fn frozen_node(&self, at: usize, lasts: Duration) {
        self.nodes[at].pause();
        sleep(lasts).await;
        self.nodes[at].resume();
    }
}

async fn server(kind: Kind) -> Server {
    match kind {
        Kind::Postgres => {
            let server = Postgres::start_with(Setup::default()).await;
            Server::clone(&server.expect("PostgreSQL"))
        }
        Kind::MariaDb => {
            let server = MariaDb::start_with(Setup::default()).await;
            Server::clone(&server.expect("MariaDB"))
        }
    }
}

async fn away(server: &Server, lasts: Duration) {
    server.kill9();
    sleep(lasts).await;
    server.start_again().await.expect("the server again");
}

async fn frozen(server: &Server, lasts: Duration) {
    server.pause();
    sleep(lasts).await;
    server.resume();
}

/// Again and again, so that a cut falls into the middle of something.
async fn cut_again(lasts: Duration, wire: &Proxy) {
    let end = tokio::time::Instant::now() + lasts;
    while tokio::time::Instant::now() < end {
        wire.cut();
        sleep(Duration::from_millis(300)).await;
    }
}

async fn lose_answers(lasts: Duration, wire: &Proxy) {
    wire.stall_answers();
    sleep(lasts).await;
    wire.cut();
    wire.resume();
}

/// Notes each row that has an open repair, until it is over.
pub async fn hear_of_repairs(state: String, scene: Arc<Scene>) {
    let (sql, mut conn) = (Kind::of(&state).repaired_keys(), None);
    while !scene.is_over() {
        if conn.is_none() {
            conn = Conn::open(&state).await.ok();
        }
        if let Some(open) = &mut conn {
            match timeout(Duration::from_secs(2), open.text(sql)).await {
                Ok(Ok(keys)) => {
                    let keys = keys.split_terminator(';').map(str::parse);
                    keys.for_each(|key| scene.books.opened(key.expect("the key of a row")));
                }
                _ => conn = None,
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
