//! Rows that differ are found while a reconciler runs.

mod earlier;
mod fresh;
mod leftovers;
mod share;
mod sweep;
mod units;
mod updated;
mod watch;

use std::{collections::BTreeSet, time::Duration};

use final_reconcile::{Job, JobStatus, Reconciler, Repair, RunningReconciler};
use final_tests::eventually;
use tokio::runtime::Runtime;

use crate::{
    place::{Db, Place},
    receiver::Receiver,
};

pub const SOON: Duration = Duration::from_secs(60);
pub const OFTEN: Duration = Duration::from_millis(50);
pub const SETTLE: Duration = Duration::from_millis(100);

/// Two tables of the same name and form, in two databases.
pub async fn tables(place: &Place, from: Db, to: Db, columns: &str) {
    for (db, table) in [(from, "a"), (to, "b")] {
        place
            .run(db, format!("CREATE TABLE {table} ({columns})"))
            .await;
    }
}

/// A row of both tables.
pub async fn both(place: &Place, from: Db, to: Db, values: &str) {
    for (db, table) in [(from, "a"), (to, "b")] {
        place
            .run(db, format!("INSERT INTO {table} VALUES {values}"))
            .await;
    }
}

pub async fn drop_tables(place: &Place, from: Db, to: Db) {
    for (db, table) in [(from, "a"), (to, "b")] {
        place.run(db, format!("DROP TABLE {table}")).await;
    }
}

pub fn job(place: &Place, from: Db, to: Db) -> Job {
    Job::new("people")
        .source(place.side(from, "a"))
        .target(place.side(to, "b"), |map| map)
        .settle(SETTLE)
}

/// A process that is killed keeps its repairs no longer than the lease.
pub fn repair(receiver: &Receiver) -> Repair {
    let repair = Repair::callback(receiver.endpoint()).extras(true);
    repair.lease(Duration::from_secs(4))
}

pub fn new(place: &Place, state: Db) -> Reconciler {
    let reconciler = match state {
        Db::Postgres => Reconciler::new(&place.postgres),
        Db::Maria => Reconciler::new(&place.mariadb),
        Db::Sqlite => Reconciler::new(&place.sqlite),
    };
    reconciler.lease(Duration::from_secs(2))
}

pub async fn migrated(place: &Place, state: Db, job: Job) -> Reconciler {
    let reconciler = new(place, state).job(job).unwrap();
    reconciler.migrate().await.unwrap();
    reconciler
}

/// Waits until the status is as wanted.
pub async fn status(
    reconciler: &Reconciler,
    what: &str,
    is: impl Fn(&JobStatus) -> bool,
) -> JobStatus {
    eventually(what, SOON, async || {
        let all = reconciler.jobs().await.unwrap();
        match all.into_iter().find(|status| is(status)) {
            Some(status) => Ok(status),
            None => Err(format!("{:?}", reconciler.jobs().await)),
        }
    })
    .await
}

/// The ids of rows that were called for.
pub fn called(receiver: &Receiver) -> BTreeSet<String> {
    let came = receiver.came().into_iter();
    came.map(|came| came.body["key"]["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Waits until these rows were called for, and looks that it were no others.
pub async fn only_called(receiver: &Receiver, reconciler: &Reconciler, ids: &[&str]) {
    let expected: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    eventually("the rows that differ are called for", SOON, async || {
        let called = called(receiver);
        match called.is_superset(&expected) {
            true => Ok(()),
            false => Err(format!(
                "{called:?}, {:?}, {:?}",
                reconciler.jobs().await,
                reconciler.repairs("people", 100).await
            )),
        }
    })
    .await;
    assert_eq!(called(receiver), expected);
}

/// A process that can be killed: its tasks are cut off wherever they are, and nothing is given back.
pub struct Process {
    runtime: Option<Runtime>,
    running: Option<RunningReconciler>,
}

impl Process {
    pub fn start(reconciler: &Reconciler) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        let running = reconciler.start().unwrap();
        drop(inside);
        Self {
            runtime: Some(runtime),
            running: Some(running),
        }
    }

    pub fn running(&self) -> &RunningReconciler {
        self.running.as_ref().unwrap()
    }

    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
        // The runtime is gone, so no task can be told to stop.
        std::mem::forget(self.running.take());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
