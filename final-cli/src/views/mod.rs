//! What the admin API gives, as rows of JSON and of tables.
//!
//! Input: the types of `final_core::admin`. Output: structs whose fields are the fields of the JSON lines, a written
//! surface (docs/cli.md), and the cells of the tables.

mod group;
mod held;
mod letter;
mod message;
mod operation;
mod overview;
mod record;
mod trail;

use std::time::{Duration, SystemTime};

use final_core::admin::Count;
use serde::Serialize;

pub(crate) use self::{
    group::{GroupView, LaneView, group_table, lane_table},
    held::{HeldView, held_table},
    letter::{LetterView, WholeLetterView, letter_table},
    message::MessageView,
    operation::{OperationView, PlanView, operation_table},
    overview::{OverviewView, overview_table},
    record::{RecordView, WholeRecordView, record_table, state_name},
    trail::TrailView,
};
use crate::output::time::{millis, shown, utc};

/// A count that may have stopped.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct CountView {
    /// How many were counted.
    number: u64,
    /// Whether there are more.
    more: bool,
}

impl From<Count> for CountView {
    fn from(count: Count) -> Self {
        Self {
            number: count.number,
            more: count.more,
        }
    }
}

/// A count as a cell: `>10000` if it has stopped.
fn count_text(count: Count) -> String {
    match count.more {
        true => format!(">{}", count.number),
        false => count.number.to_string(),
    }
}

/// A length of time as a cell; nothing where there is none.
fn age_text(age: Option<Duration>) -> String {
    age.map(shown).unwrap_or_default()
}

fn ms(time: Option<Duration>) -> Option<u64> {
    time.map(millis)
}

fn moment(time: Option<SystemTime>) -> Option<String> {
    time.map(utc)
}
