//! What one step of a scan leaves in the tables.

use std::sync::Arc;

use final_tests::shared::{SqliteFile, sqlite_file};
use sqlx::{Sqlite, SqlitePool};

use super::*;
use crate::{
    form::{Row, RowHash},
    job::Job,
    mirror::Due,
    pair::{
        difference::{DifferenceKind, RowDifference},
        judge::Looks,
    },
    repair::store::RepairStore,
    scan::{term::Unit, vitals::SharedVitals},
};

/// The tables in a database of SQLite, and the lease of a unit.
pub(crate) struct Stored {
    pub(crate) store: Arc<SqlState<Sqlite>>,
    pub(crate) term: Term,
    _file: SqliteFile,
}

impl Stored {
    pub(crate) async fn new() -> Self {
        let file = sqlite_file().unwrap();
        let pool = SqlitePool::connect_lazy(&file.url()).unwrap();
        let store = Arc::new(SqlState::new(&pool));
        assert!(store.migrate().await.unwrap());
        let unit = Arc::new(UnitName::new("people", "a", "b"));
        let owner = Uuid::now_v7();
        let length = Duration::from_secs(600);
        let epoch = store.take(&unit, owner, length).await.unwrap().unwrap();
        let term = Term { unit, owner, epoch };
        Self {
            store,
            term,
            _file: file,
        }
    }

    pub(crate) fn unit(&self) -> Arc<Unit> {
        Arc::new(Unit {
            name: Arc::clone(&self.term.unit),
            job: Job::new("people").settle(Duration::ZERO),
            store: Arc::clone(&self.store) as Arc<dyn ScanStore>,
            vitals: SharedVitals::default(),
            lease: Duration::from_secs(600),
        })
    }

    async fn found(&self, key: u8) {
        let suspect = NewSuspect {
            key: Row(vec![key]),
            source: Some(RowHash(vec![1])),
            target: None,
        };
        let step = Step {
            scan: ScanKind::Fresh,
            suspects: vec![suspect],
            ..Step::default()
        };
        self.store.save(&self.term, &step).await.unwrap();
    }

    async fn due(&self) -> Vec<Suspect> {
        self.store.due(&self.term.unit, None, 100).await.unwrap()
    }

    async fn looked(&self, suspect: &Suspect, then: Then, most_repairs: u64) -> Saved {
        let step = Step {
            scan: ScanKind::Look,
            looked: vec![(suspect.clone(), then)],
            most_repairs,
            ..Step::default()
        };
        self.store.save(&self.term, &step).await.unwrap()
    }
}

fn differs(key: u8) -> Then {
    Then::Repair(RowDifference {
        key_form: "id".into(),
        key: Row(vec![key]),
        named: Vec::new(),
        kind: DifferenceKind::Missing,
        columns: Vec::new(),
    })
}

#[tokio::test]
async fn a_row_that_is_found_once_more_during_a_look_is_not_forgotten_by_that_look() {
    let stored = Stored::new().await;
    stored.found(1).await;
    let suspect = stored.due().await.remove(0);
    // The look has read both rows as equal by now.
    stored.found(1).await;
    stored.looked(&suspect, Then::Equal, 1).await;
    let again = stored.due().await;
    assert_eq!(again.len(), 1);

    stored.looked(&again[0], Then::Equal, 1).await;
    assert!(stored.due().await.is_empty());
}

#[tokio::test]
async fn a_row_that_is_found_in_each_round_is_repaired_all_the_same() {
    let stored = Stored::new().await;
    stored.found(1).await;
    let suspect = stored.due().await.remove(0);
    stored.found(1).await;
    let looks = Looks {
        same: 1,
        ..Looks::begun(None, None)
    };
    let again = Then::Again(looks.clone());
    stored.looked(&suspect, again, 1).await;
    let suspect = stored.due().await.remove(0);
    assert_eq!(suspect.looks, looks);
    stored.found(1).await;
    let saved = stored.looked(&suspect, differs(1), 1).await;
    assert_eq!(saved, Saved::Now { opened: 1 });
    assert!(stored.due().await.is_empty());
}

#[tokio::test]
async fn a_row_whose_repair_is_open_does_not_pause_a_job_that_has_as_many_as_it_may() {
    let stored = Stored::new().await;
    for (key, expected) in [
        (1, Saved::Now { opened: 1 }),
        (1, Saved::Now { opened: 0 }),
        (2, Saved::Paused { opened: 0 }),
    ] {
        stored.found(key).await;
        let suspect = stored.due().await.remove(0);
        let saved = stored.looked(&suspect, differs(key), 1).await;
        assert_eq!(saved, expected, "row {key}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_told_until_it_can() {
    let stored = Stored::new().await;
    let unreadable = async || stored.store.unreadable(&stored.term.unit).await.unwrap();
    stored.found(1).await;
    let suspect = stored.due().await.remove(0);
    assert_eq!(unreadable().await, None);
    let why = "too large".to_owned();
    let later = Then::Later(why.clone(), Duration::ZERO);
    stored.looked(&suspect, later, 1).await;
    assert_eq!(unreadable().await, Some(why));
    let again = Then::Again(Looks::default());
    stored.looked(&suspect, again, 1).await;
    assert_eq!(unreadable().await, None);
}

#[tokio::test]
async fn a_row_that_waits_under_another_key_is_forgotten_and_a_sweep_is_asked_for() {
    let stored = Stored::new().await;
    let asked = async || {
        let standing = stored.store.standing(&stored.term.unit).await.unwrap();
        standing.unwrap().asked_at
    };
    stored.found(1).await;
    for (key, is_other) in [
        ("id", false),
        ("id", false),
        ("code", true),
        ("code", false),
    ] {
        let keyed = stored.store.keyed(&stored.term, key).await.unwrap();
        assert_eq!(keyed, is_other, "{key}");
        assert_eq!(asked().await > 0, key == "code");
        assert_eq!(stored.due().await.len(), usize::from(key == "id"));
    }
    let lost = Term {
        epoch: stored.term.epoch + 1,
        ..stored.term.clone()
    };
    assert!(!stored.store.keyed(&lost, "id").await.unwrap());
}

#[tokio::test]
async fn a_row_waits_for_the_mirror_and_what_was_seen_by_the_clock_counts_no_more() {
    let stored = Stored::new().await;
    stored.found(1).await;
    let due = async |passed| {
        let unit = &stored.term.unit;
        stored.store.due(unit, passed, 100).await.unwrap()
    };
    let suspect = due(Some(i64::MAX)).await.remove(0);
    assert_eq!(suspect.looks, Looks::default());

    let mut looks = Looks::begun(Some(RowHash(vec![1])), None);
    looks.changes = 3;
    let step = Step {
        scan: ScanKind::Look,
        looked: vec![(suspect, Then::Again(looks.clone()))],
        due: Due::Passed(5),
        ..Step::default()
    };
    stored.store.save(&stored.term, &step).await.unwrap();
    assert_eq!(due(Some(4)).await.len(), 0);
    assert_eq!(due(Some(5)).await[0].looks, looks);
    assert_eq!(due(None).await[0].looks.last, None);
}

#[tokio::test]
async fn a_row_that_changes_faster_than_the_mirror_lags_is_looked_at() {
    let stored = Stored::new().await;
    let unit = &stored.term.unit;
    let mut looks = 0;
    for now in 10..20 {
        let key = WatchedKey {
            unit: Arc::clone(unit),
            json: r#"{"id":1}"#.into(),
            due: Due::Passed(now),
        };
        stored.store.suspect(&[key]).await.unwrap();
        let passed = now - 5;
        for suspect in stored.store.due(unit, Some(passed), 100).await.unwrap() {
            looks += 1;
            let looked = Then::Again(Looks::begun(Some(RowHash(vec![1])), None));
            let step = Step {
                scan: ScanKind::Look,
                looked: vec![(suspect, looked)],
                due: Due::Passed(now),
                ..Step::default()
            };
            stored.store.save(&stored.term, &step).await.unwrap();
        }
    }
    assert_eq!(looks, 1);
}

#[tokio::test]
async fn more_rows_than_one_transaction_removes_are_gone_once_the_key_is_another_one() {
    let stored = Stored::new().await;
    assert!(!stored.store.keyed(&stored.term, "id").await.unwrap());
    let suspect = |key: u16| NewSuspect {
        key: Row(key.to_be_bytes().to_vec()),
        source: None,
        target: None,
    };
    let step = Step {
        scan: ScanKind::Sweep,
        suspects: (0..1_200).map(suspect).collect(),
        ..Step::default()
    };
    stored.store.save(&stored.term, &step).await.unwrap();

    assert!(stored.store.keyed(&stored.term, "code").await.unwrap());

    assert!(stored.due().await.is_empty());
    let left = stored.store.waiting(&stored.term.unit, 1).await;
    assert_eq!(left.unwrap(), 0);
}

#[tokio::test]
async fn rows_of_changes_are_listed_before_their_unit_is_scanned() {
    let stored = Stored::new().await;
    let unit = Arc::new(UnitName::new("people", "a", "other"));
    let key = WatchedKey {
        unit: Arc::clone(&unit),
        json: r#"{"id":1}"#.into(),
        due: Due::After(Duration::ZERO),
    };

    stored.store.suspect(&[key]).await.unwrap();

    let all = stored.store.status("people", &[]).await.unwrap();
    let waiting = all.iter().find(|status| status.target == "other");
    assert_eq!(waiting.map(|status| status.suspects), Some(1), "{all:?}");
    let left = stored.store.leftovers("people", &[]).await.unwrap();
    assert!(
        left.iter()
            .any(|left| left.target == "other" && left.suspects == 1)
    );
}
