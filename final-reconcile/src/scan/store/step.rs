//! What a scan hands over to the tables, and what it gets back.

use std::{sync::Arc, time::Duration};

use final_core::database::columns;
use uuid::Uuid;

use crate::{
    form::{Row, RowHash},
    mirror::Due,
    pair::{difference::RowDifference, judge::Looks},
    unit::UnitName,
};

/// A lease that this process has, or had.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) unit: Arc<UnitName>,
    pub(crate) owner: Uuid,
    pub(crate) epoch: i64,
}

/// Which scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ScanKind {
    Fresh,
    Updated,
    Sweep,
    #[default]
    Watch,
    /// Looks at what the others have found.
    Look,
}

impl ScanKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Updated => "updated",
            Self::Sweep => "sweep",
            Self::Watch => "watch",
            Self::Look => "look",
        }
    }

    pub(crate) fn of(name: &str) -> Self {
        match name {
            "fresh" => Self::Fresh,
            "updated" => Self::Updated,
            "sweep" => Self::Sweep,
            _ => Self::Watch,
        }
    }
}

columns! {
    /// How far the scans of a unit are.
    #[derive(Clone, Debug)]
    pub(crate) struct Standing {
        pub(crate) fresh: Option<String>,
        pub(crate) updated: Option<String>,
        pub(crate) sweep: Option<String>,
        pub(crate) asked_at: i64,
        pub(crate) paused: Option<String>,
        /// The clock of the database.
        pub(crate) now_at: i64,
    }
}

/// A row that looks different, to be looked at again.
#[derive(Clone, Debug)]
pub(crate) struct NewSuspect {
    pub(crate) key: Row,
    pub(crate) source: Option<RowHash>,
    pub(crate) target: Option<RowHash>,
}

/// A row whose look is due.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    pub(crate) slot: String,
    pub(crate) stamp: Uuid,
    pub(crate) scan: ScanKind,
    pub(crate) key: SuspectKey,
    pub(crate) looks: Looks,
}

/// How a key is kept.
#[derive(Clone, Debug)]
pub(crate) enum SuspectKey {
    /// In canonical form.
    Row(Row),
    /// As JSON of a change.
    Json(String),
}

/// What came of a look.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// Both rows are equal. If the row was found once more during the look, it is looked at again.
    Equal,
    /// What the look has shown is counted.
    Over,
    /// It is looked at once more when the step says.
    Again(Looks),
    /// It cannot be looked at, and why not. It is tried again.
    Later(String, Duration),
    /// A repair is opened.
    Repair(RowDifference),
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    pub(crate) found: u64,
    pub(crate) healed: u64,
    pub(crate) unsettled: u64,
}

/// One step of a scan. All of it is written, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Which scan.
    pub(crate) scan: ScanKind,
    /// How far it is now.
    pub(crate) position: Option<String>,
    /// Rows that look different.
    pub(crate) suspects: Vec<NewSuspect>,
    /// When rows are looked at again that look different.
    pub(crate) due: Due,
    /// What came of looks.
    pub(crate) looked: Vec<(Suspect, Then)>,
    /// How many repairs may be opened within an hour.
    pub(crate) most_repairs: u64,
    /// What was counted, and when the run began where the scan knows that.
    pub(crate) tallies: Vec<(ScanKind, Option<i64>, Tally)>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// It was written. So many repairs were opened.
    Now { opened: u64 },
    /// Nothing more is done until somebody resumes the job: so many repairs were opened before.
    Paused { opened: u64 },
    /// Another process runs the scans. Nothing was written.
    Deposed,
}

/// A key of a change, for one unit.
#[derive(Clone, Debug)]
pub(crate) struct WatchedKey {
    pub(crate) unit: Arc<UnitName>,
    /// The columns of the key, in the order of their names.
    pub(crate) json: String,
    pub(crate) due: Due,
}
