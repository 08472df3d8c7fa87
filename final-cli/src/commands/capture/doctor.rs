//! `final capture doctor`: what is wrong with the source of a capture, and what to type against it.
//!
//! Input: a TOML file. Output: findings, the worst first, and exit code 3 if one of them is more than a note. Nothing is
//! changed.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use final_core::{
    BoxError,
    admin::doctor::{Finding, Level},
};

use super::{
    no_place,
    serve::{load, wrong},
};
use crate::{
    arguments::{FormatArgs, PlaceArgs},
    commands::doctor::write,
    exit::{Exit, Failure},
    output::Output,
};

/// Find what is wrong with the settings, rights and tables of a capture's source, and say how to mend it
///
/// Nothing is changed. The exit code is 3 if an error or a warning is found.
#[derive(Debug, Args)]
#[command(after_help = "Example: final capture doctor --config capture.toml")]
pub(super) struct DoctorArgs {
    /// The configuration in TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl DoctorArgs {
    pub(super) fn run(self, place: &PlaceArgs, format: FormatArgs) -> Result<ExitCode, Failure> {
        no_place(place)?;
        let config = load(&self.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::doing("the runtime cannot be started", &error))?;
        let examined = runtime.block_on(async {
            let mistake = |error: BoxError| Failure::usage(wrong(&self.config, &*error));
            let capture = config.capture(None).map_err(mistake)?;
            let doing = "the source cannot be examined";
            capture
                .doctor()
                .await
                .map_err(|error| Failure::doing(doing, &error))
        });
        let mut out = Output::new(format.json);
        let exit = told(examined?, &mut out)?;
        out.flush()?;
        Ok(exit.into())
    }
}

fn told(mut findings: Vec<Finding>, out: &mut Output) -> Result<Exit, Failure> {
    findings.sort_by_key(|finding| finding.level);
    for finding in &findings {
        write("source", finding, out)?;
    }
    if findings.is_empty() && !out.is_json() {
        out.line("nothing was found")?;
    }
    let is_found = findings.iter().any(|finding| finding.level < Level::Note);
    Ok(if is_found { Exit::Found } else { Exit::Done })
}
