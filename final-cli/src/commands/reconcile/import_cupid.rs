//! `final reconcile import-cupid`: cupid's `myConfig.json` as a configuration of ours.
//!
//! Input: the file. Output: TOML for `final reconcile run --config`; notes go to the standard error. No server is asked, and
//! no password is printed.

use std::path::PathBuf;

use clap::Args;

use super::file::import;
use crate::{
    cupid::Passwords,
    exit::{Exit, Failure},
    output::Output,
};

/// Write the configuration that does what cupid's myConfig.json says
///
/// Notes go to the standard error: what a person must know or do. No password is written.
#[derive(Debug, Args)]
#[command(after_help = "Example: final reconcile import-cupid myConfig.json > reconcile.toml")]
pub(super) struct ImportCupidArgs {
    /// cupid's myConfig.json, or - for the standard input
    #[arg(value_name = "FILE")]
    config: PathBuf,

    /// The id with which a job begins that has no position yet
    #[arg(long, short, alias = "startId", value_name = "ID")]
    start_id: Option<i64>,
}

impl ImportCupidArgs {
    pub(super) fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let (_, import) = import(&self.config, self.start_id, Passwords::InVariables)?;
        if out.is_json() {
            let row = serde_json::json!({ "toml": import.toml, "notes": import.notes });
            out.json("cupid_import", &row)?;
            return Ok(Exit::Done);
        }
        for note in &import.notes {
            eprintln!("final: {note}");
        }
        out.raw(import.toml.as_bytes())?;
        Ok(Exit::Done)
    }
}
