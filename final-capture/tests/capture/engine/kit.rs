//! What the tests of the engine share.

use std::{collections::HashMap, time::Duration};

use final_capture::{
    Capture, CaptureState, RunningCapture,
    position::{
        Partial, Position, PositionStore, SourceIdentity, SourcePoint, SqlPositions, Standing,
    },
    select::Selection,
    target::Target,
};
use final_core::SqlBroker;
use final_tests::eventually;
use uuid::Uuid;

use crate::{
    place::{Database, Place},
    script::Script,
};

/// For what takes milliseconds on a quiet machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The shortest lease.
pub const LEASE: Duration = Duration::from_secs(1);

pub fn target<DB: Database>(place: &Place<DB>) -> Target {
    Target::log(place.pool.clone(), SqlBroker::new(place.pool.clone()))
}

/// A capture of the script from its beginning.
pub fn capture(script: &Script, target: Target) -> Capture {
    Capture::new("shop", script.clone(), Selection::tables(["shop.*"]))
        .to(target)
        .begin_at(SourcePoint::Lsn(0))
        .lease(LEASE)
}

pub async fn reaches(running: &RunningCapture, state: &str) {
    let mut states = running.state();
    let reached = states.wait_for(|now| now.to_string() == state);
    let reached = tokio::time::timeout(SOON, reached).await.map(drop);
    reached.unwrap_or_else(|_| panic!("{state}, not {}", *running.state().borrow()));
}

/// What the log has: id, key and row of each message, in order.
pub async fn in_log<DB: Database>(place: &Place<DB>) -> Vec<LogRow> {
    let sql = match std::any::type_name::<DB>().contains("mysql") {
        true => {
            "SELECT CONCAT(HEX(message_id), ' ', message_key, ' ', CONVERT(payload USING utf8mb4)) FROM final_log ORDER BY seq"
        }
        false if std::any::type_name::<DB>().contains("sqlite") => {
            "SELECT hex(message_id) || ' ' || message_key || ' ' || CAST(payload AS TEXT) FROM final_log ORDER BY seq"
        }
        false => {
            "SELECT replace(message_id::text, '-', '') || ' ' || message_key || ' ' || convert_from(payload, 'UTF8') \
             FROM final_log ORDER BY seq"
        }
    };
    place
        .texts(sql)
        .await
        .iter()
        .map(|text| row(text))
        .collect()
}

/// How many messages the log has.
pub async fn count<DB: Database>(place: &Place<DB>) -> usize {
    place.number("SELECT COUNT(*) FROM final_log").await as usize
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    pub id: String,
    pub key: String,
    /// The text of the row.
    pub text: String,
}

fn row(text: &str) -> LogRow {
    let mut parts = text.splitn(3, ' ');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (id, key) = (part().to_lowercase(), part());
    LogRow {
        id,
        key,
        text: text_of(&part()),
    }
}

/// The text of the row in a message.
pub fn text_of(payload: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(payload).expect(payload);
    message["after"]["text"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Asserts that the log has each row of the script once, and the rows of each key in order. The texts are numbers.
pub fn each_once(rows: &[LogRow], count: usize) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut numbers: Vec<i64> = Vec::new();
    for LogRow { key, text, .. } in rows {
        let number: i64 = text
            .parse()
            .unwrap_or_else(|_| panic!("{text:?} is no number"));
        let before = last.insert(key, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{key}: {number} after {before:?}"
        );
        numbers.push(number);
    }
    numbers.sort_unstable();
    let all: Vec<i64> = (0..count as i64).collect();
    assert_eq!(numbers, all);
}

/// Asserts that the log has each row of the script, and the rows of each key in order. What comes again has the same id.
pub fn at_least_once(rows: &[LogRow], count: usize) {
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut firsts = Vec::new();
    for row in rows {
        match ids.insert(row.text.clone(), row.id.clone()) {
            Some(before) => assert_eq!(before, row.id, "{}", row.text),
            None => firsts.push(row.clone()),
        }
    }
    each_once(&firsts, count);
}

pub async fn log_has<DB: Database>(place: &Place<DB>, count: usize) -> Vec<LogRow> {
    eventually("the messages are in the log", SOON, async || {
        let now = self::count(place).await;
        (now >= count).then_some(()).ok_or(now)
    })
    .await;
    in_log(place).await
}

/// Saves that so many changes of the script's first transaction are done.
pub async fn is_done_in_part<DB: Database>(place: &Place<DB>, changes: u64) {
    let script = Script::new();
    capture(&script, target(place)).migrate().await.unwrap();
    let positions = SqlPositions::new(place.pool.clone());
    let taken = positions.take("shop", Uuid::now_v7(), LEASE).await.unwrap();
    let term = taken.unwrap().term;
    let standing = Standing {
        position: Position {
            identity: SourceIdentity("script:1".into()),
            point: SourcePoint::Lsn(0),
            partial: Some(Partial {
                transaction: "t0".into(),
                changes,
            }),
        },
        at: None,
        number: 1,
    };
    positions.save(&term, &standing, &[]).await.unwrap();
    positions.release(&term).await.unwrap();
}

/// The position in the table.
pub async fn position<DB: Database>(place: &Place<DB>) -> (String, Option<i64>) {
    let point = place
        .texts("SELECT COALESCE(position, '') FROM final_captures")
        .await;
    let changes = place
        .number("SELECT COALESCE(MAX(partial_changes), -1) FROM final_captures")
        .await;
    (
        point.first().cloned().unwrap_or_default(),
        (changes >= 0).then_some(changes),
    )
}

pub fn is_stopped(running: &RunningCapture) -> Option<String> {
    match &*running.state().borrow() {
        CaptureState::Stopped(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Makes a test of each function of a list, on each database that is a server.
macro_rules! on_servers {
    ($($name:ident),+ $(,)?) => {
        on_servers!(@on postgres, sqlx::Postgres: $($name),+);
        on_servers!(@on mariadb, sqlx::MySql: $($name),+);
    };
    (@on $database:ident, $type:ty: $($name:ident),+) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name::<$type>().await;
                }
            )+
        }
    };
}
pub(crate) use on_servers;
