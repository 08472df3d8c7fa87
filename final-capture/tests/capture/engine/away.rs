//! The server of the log, or that of the position, goes away and comes back.

use std::time::{Duration, Instant};

use final_capture::{RunningCapture, position::Positions, target::Target};
use final_core::SqlBroker;
use final_tests::{
    eventually,
    servers::{MariaDb, Postgres, Server},
};

use super::kit::*;
use crate::{
    place::{Database, Place},
    script::Script,
};

/// A database with a server that a test may kill.
trait Private: Database {
    async fn private() -> (Server, Place<Self>);
}

impl Private for sqlx::Postgres {
    async fn private() -> (Server, Place<Self>) {
        let server = Server::clone(&Postgres::start().await.unwrap());
        let pool = Self::connect(&server.url()).await;
        (server.clone(), Place::of(server.url(), pool))
    }
}

impl Private for sqlx::MySql {
    async fn private() -> (Server, Place<Self>) {
        let server = Server::clone(&MariaDb::start().await.unwrap());
        let first = Self::connect(&server.url()).await;
        Self::sql(&first, "CREATE DATABASE bus").await;
        let url = server.url().replace("/mysql", "/bus");
        let pool = Self::connect(&url).await;
        (server, Place::of(url, pool))
    }
}

on_servers!(
    nothing_is_lost_and_nothing_repeated_when_the_server_of_the_log_is_killed,
    nothing_is_lost_when_the_server_of_the_position_is_killed,
    a_stop_has_its_limit_while_the_server_of_the_log_is_away,
    a_stop_has_its_limit_while_the_server_of_the_position_is_away,
);

const LONG_LEASE: Duration = Duration::from_secs(20);

/// How long the last lots have at a stop, and by when it must have come to its end: the last steps have 15 s, and closing
/// the target 5 s.
const STOP: Duration = Duration::from_secs(2);
const STOPPED: Duration = Duration::from_secs(2 + 15 + 5 + 5);

/// A source that is read by and by, so that a fault comes between two lots, or within one.
fn slow() -> Script {
    let script = Script::new();
    script.slow(17);
    script
}

/// Commits 600 rows.
fn commit(script: &Script) {
    script.commit_many(20, 30, 13);
}

/// Waits until the position is behind everything.
async fn is_done(running: &RunningCapture, script: &Script) {
    let end = format!("lsn:0/{:X}", script.rows() / 30 * 10);
    eventually("all is proven", SOON * 2, async || {
        let at = running.stats().position.map(|at| at.point.to_string());
        (at.as_ref() == Some(&end)).then_some(()).ok_or(at)
    })
    .await;
}

async fn is_told(running: &RunningCapture) {
    eventually("the outage is told", SOON, async || {
        let reasons = running.health().not_ready.concat();
        reasons
            .contains("the target does not take messages: ")
            .then_some(())
            .ok_or(reasons)
    })
    .await;
    assert!(running.health().is_live());
}

async fn is_ready(running: &RunningCapture) {
    eventually("it is ready again", SOON, async || {
        let health = running.health();
        health.is_ready().then_some(()).ok_or(health)
    })
    .await;
}

async fn nothing_is_lost_and_nothing_repeated_when_the_server_of_the_log_is_killed<DB: Private>() {
    let (server, place) = DB::private().await;
    let script = slow();
    // The reader that was cut off goes on, or with a lease that is over takes the capture anew.
    for lease in [LONG_LEASE, LEASE] {
        let before = script.rows();
        commit(&script);
        let running = capture(&script, target(&place)).lease(lease);
        let running = running.start().await.unwrap();
        log_has(&place, before + 100).await;
        server.kill9();
        is_told(&running).await;
        commit(&script);
        server.start_again().await.unwrap();
        is_done(&running, &script).await;
        each_once(&in_log(&place).await, script.rows());
        is_ready(&running).await;
        running.shutdown().await;
        assert_eq!(count(&place).await, script.rows());
    }
}

async fn nothing_is_lost_when_the_server_of_the_position_is_killed<DB: Private>() {
    let (server, positions) = DB::private().await;
    let place = Place::<DB>::fresh().await;
    let script = slow();
    for lease in [LONG_LEASE, LEASE] {
        let before = script.rows();
        commit(&script);
        let running = capture(&script, apart(&place, &positions)).lease(lease);
        let running = running.start().await.unwrap();
        log_has(&place, before + 100).await;
        server.kill9();
        is_told(&running).await;
        commit(&script);
        server.start_again().await.unwrap();
        is_done(&running, &script).await;
        at_least_once(&in_log(&place).await, script.rows());
        is_ready(&running).await;
        running.shutdown().await;
    }
}

/// A log with its position elsewhere.
fn apart<DB: Database>(log: &Place<DB>, positions: &Place<DB>) -> Target {
    let broker = SqlBroker::new(log.pool.clone());
    Target::log_apart(broker, Positions::database(positions.pool.clone()))
}

async fn a_stop_has_its_limit_while_the_server_of_the_log_is_away<DB: Private>() {
    let (server, place) = DB::private().await;
    stops_in_time(&server, &place, || target(&place)).await;
}

async fn a_stop_has_its_limit_while_the_server_of_the_position_is_away<DB: Private>() {
    let (server, positions) = DB::private().await;
    let place = Place::<DB>::fresh().await;
    stops_in_time(&server, &place, || apart(&place, &positions)).await;
}

/// Stops a capture while the server is gone, and while it says nothing.
async fn stops_in_time<DB: Database>(
    server: &Server,
    log: &Place<DB>,
    target: impl Fn() -> Target,
) {
    let script = slow();
    capture(&script, target()).migrate().await.unwrap();
    let start = async || {
        let capture = capture(&script, target()).lease(LONG_LEASE);
        capture.shutdown_within(STOP).start().await.unwrap()
    };
    for is_killed in [true, false] {
        commit(&script);
        let before = count(log).await;
        let running = start().await;
        log_has(log, before + 50).await;
        match is_killed {
            true => server.kill9(),
            false => server.pause(),
        }
        let began = Instant::now();
        running.shutdown().await;
        let took = began.elapsed();
        match is_killed {
            true => server.start_again().await.unwrap(),
            false => server.resume(),
        }
        assert!(took < STOPPED, "killed: {is_killed}, {took:?}");
    }
    let running = start().await;
    is_done(&running, &script).await;
    at_least_once(&in_log(log).await, script.rows());
    running.shutdown().await;
}
