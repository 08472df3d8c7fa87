//! `final capture status`: how the captures of a database are.
//!
//! Input: the table of captures. Output: a row for each, and exit code 3 if one of them has stopped or is not read.

use std::time::Duration;

use clap::Args;
use final_capture::position::{KnownCapture, SqlPositions};
use final_core::OutboxDatabase;
use serde::Serialize;

use super::FileArgs;
use crate::{
    exit::{Exit, Failure},
    output::{Cell, Output, Table, text::harmless, time::shown},
    session::Session,
};

/// See where the captures stand whose positions are in a database
///
/// The exit code is 3 if a capture has stopped or no process reads it.
#[derive(Debug, Args)]
#[command(after_help = "Example: final capture status")]
pub(super) struct StatusArgs {
    /// Only this one; with --config it is the one of the file
    #[arg(value_name = "CAPTURE")]
    pub(super) capture: Option<String>,

    #[command(flatten)]
    pub(super) file: FileArgs,
}

#[derive(Serialize)]
struct CaptureView<'a> {
    capture: &'a str,
    state: &'a str,
    reason: Option<&'a str>,
    read: bool,
    position: Option<&'a str>,
    partial_changes: Option<i64>,
    source: Option<&'a str>,
    seconds_since_commit: Option<f64>,
    seconds_since_update: Option<f64>,
    parked: i64,
    epoch: i64,
}

impl StatusArgs {
    pub(super) async fn run<DB: OutboxDatabase>(
        self,
        session: &Session<DB>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let positions = SqlPositions::new(session.pool.clone());
        let known = positions.known().await;
        let mut known =
            known.map_err(|error| Failure::doing("the captures cannot be read", &error))?;
        if let Some(wanted) = &self.capture {
            known.retain(|capture| capture.name == *wanted);
        }
        if known.is_empty() {
            eprintln!("{} has the position of no such capture", session.target);
            return Ok(Exit::NothingMatched);
        }
        write(&known, out)?;
        let is_well = |capture: &KnownCapture| capture.is_read && capture.state != "stopped";
        Ok(match known.iter().all(is_well) {
            true => Exit::Done,
            false => Exit::Found,
        })
    }
}

fn write(known: &[KnownCapture], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return known.iter().try_for_each(|capture| {
            let seconds = |micros: Option<i64>| micros.map(|micros| micros as f64 / 1e6);
            let view = CaptureView {
                capture: &capture.name,
                state: &capture.state,
                reason: capture.reason.as_deref(),
                read: capture.is_read,
                position: capture.position.as_deref(),
                partial_changes: capture.partial_changes,
                source: capture.identity.as_deref(),
                seconds_since_commit: seconds(capture.since_commit),
                seconds_since_update: seconds(capture.since_update),
                parked: capture.parked,
                epoch: capture.epoch,
            };
            out.json("capture", &view)
        });
    }
    let mut table = Table::new(&[
        "!capture", "state", "position", ">commit", ">saved", ">parked", ">epoch",
    ]);
    for capture in known {
        let state = state(capture);
        let ago = |micros: Option<i64>| {
            let micros = micros.map(|micros| u64::try_from(micros).unwrap_or_default());
            micros.map_or_else(String::new, |micros| shown(Duration::from_micros(micros)))
        };
        let mut position = capture.position.clone().unwrap_or_default();
        if let Some(changes) = capture.partial_changes {
            position.push_str(&format!(" and {changes} changes"));
        }
        table.row([
            capture.name.as_str().into(),
            Cell::new(state)
                .bad(!matches!(state, "streaming" | "connecting"))
                .good(state == "streaming"),
            position.into(),
            ago(capture.since_commit).into(),
            ago(capture.since_update).into(),
            Cell::new(capture.parked.to_string()).bad(capture.parked > 0),
            capture.epoch.to_string().into(),
        ]);
    }
    out.table(&table)?;
    for capture in known {
        if let Some(reason) = &capture.reason {
            out.line(&harmless(&format!("{}: {reason}", capture.name)))?;
        }
    }
    Ok(())
}

/// What a person is told: the state that was written down last, if a process still stands behind it.
fn state(capture: &KnownCapture) -> &str {
    match (capture.state.as_str(), capture.is_read) {
        ("stopped", _) => "stopped",
        (_, false) => "not read",
        ("", true) => "connecting",
        (state, true) => state,
    }
}
