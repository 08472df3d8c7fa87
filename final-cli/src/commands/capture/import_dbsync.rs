//! `final capture import-dbsync`: dbsync's `config.json` as a configuration of a capture.
//!
//! Input: the file, and where dbsync stands. Output: TOML for `final capture --config`; warnings go to the standard error.
//! No server is asked, and no password is printed.

use std::{fs, io::Read, path::PathBuf, process::ExitCode};

use clap::Args;
use final_capture::import::{DbsyncImport, DbsyncStart};

use crate::{
    arguments::FormatArgs,
    exit::{Exit, Failure},
    output::Output,
};

/// A configuration is small. Anything larger is another file.
const MOST: u64 = 1024 * 1024;

/// Write a capture's configuration that does what dbsync's config.json says
///
/// Warnings go to the standard error: what a person must know or do. No password is written.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: final capture import-dbsync config.json --from file:mysql-bin.000010:1234 > capture.toml"
)]
pub(super) struct ImportDbsyncArgs {
    /// dbsync's config.json, or - for the standard input
    #[arg(value_name = "FILE")]
    config: PathBuf,

    /// Where dbsync stands in the binary log, as file:mysql-bin.000010:1234
    #[arg(long, value_name = "POSITION", conflicts_with = "position")]
    from: Option<String>,

    /// The value that dbsync keeps in Redis or bolt, as {"Name":"mysql-bin.000010","Pos":1234}
    #[arg(long, value_name = "JSON")]
    position: Option<String>,

    /// Where messages go: amqp://…, or the URL of the database with the log
    #[arg(long, value_name = "URL")]
    target: Option<String>,
}

impl ImportDbsyncArgs {
    pub(super) fn run(self, format: FormatArgs) -> Result<ExitCode, Failure> {
        let wrong =
            |error: final_capture::import::DbsyncImportError| Failure::usage(error.to_string());
        let start = match (&self.from, &self.position) {
            (Some(from), _) => DbsyncStart::at(from).map_err(wrong)?,
            (None, Some(stored)) => DbsyncStart::stored(stored).map_err(wrong)?,
            (None, None) => DbsyncStart::unknown(),
        };
        let import =
            DbsyncImport::new(&self.text()?, &start, self.target.as_deref()).map_err(wrong)?;
        let mut out = Output::new(format.json);
        if out.is_json() {
            let row = serde_json::json!({ "toml": import.toml, "warnings": import.warnings });
            out.json("dbsync_import", &row)?;
        } else {
            for warning in &import.warnings {
                eprintln!("final: {warning}");
            }
            out.raw(import.toml.as_bytes())?;
        }
        out.flush()?;
        Ok(Exit::Done.into())
    }

    fn text(&self) -> Result<String, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::usage(format!("{} cannot be read: {error}", self.config.display()))
        };
        let mut text = String::new();
        let read = match self.config.to_str() {
            Some("-") => std::io::stdin().take(MOST).read_to_string(&mut text),
            _ => fs::File::open(&self.config)
                .and_then(|file| file.take(MOST).read_to_string(&mut text)),
        };
        read.map_err(cannot)?;
        Ok(text)
    }
}
