//! `final capture --config FILE`: runs a capture until it is told to stop.
//!
//! Input: a TOML file. Output: messages at the target; a service that the runner starts, asks and stops; an exit code.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use final_capture::{CaptureError, RunningCapture, position::SourcePoint};
use final_core::BoxError;

use super::{config::CaptureConfig, no_place};
use crate::{
    arguments::PlaceArgs,
    causes::chain,
    config::{Loaded, read},
    exit::Failure,
    service::{self, Condition, Mistake, RunArgs, Service},
};

/// Runs until a signal. It has a runtime and a log of its own.
pub(super) fn run(
    file: Option<PathBuf>,
    from: Option<SourcePoint>,
    run: RunArgs,
    place: &PlaceArgs,
) -> Result<ExitCode, Failure> {
    no_place(place)?;
    let file = file.ok_or_else(|| {
        Failure::usage("name a configuration by --config; docs/capture.md has all its keys")
    })?;
    let config = load(&file)?;
    let options = run.over(config.service.clone());
    Ok(service::main("capture", options, async move || {
        let mistake = |error: BoxError| Mistake::new(wrong(&file, &*error));
        let capture = config.capture(from).map_err(mistake)?;
        match capture.start().await {
            Ok(running) => Ok::<_, BoxError>(CaptureService(running)),
            Err(error @ (CaptureError::Name { .. } | CaptureError::Config(_))) => {
                Err(mistake(error.into()).into())
            }
            Err(error) => Err(error.into()),
        }
    }))
}

/// What is wrong in a file that can be read: TOML knows no line for it.
pub(super) fn wrong(file: &Path, error: &(dyn std::error::Error + 'static)) -> String {
    format!("{}: {}", file.display(), chain(error))
}

/// Reads a configuration, and tells what its author should know about it.
pub(super) fn load(file: &Path) -> Result<CaptureConfig, Failure> {
    let loaded: Result<Loaded<CaptureConfig>, _> = read(file);
    let loaded = loaded.map_err(|error| Failure::usage(chain(&error)))?;
    let warnings = loaded.warnings.iter();
    warnings.for_each(|warning| eprintln!("{warning}"));
    Ok(loaded.config)
}

struct CaptureService(RunningCapture);

impl Service for CaptureService {
    async fn died(&self) -> BoxError {
        self.0.died().await.into()
    }

    async fn stop(&self) -> Result<(), BoxError> {
        self.0.shutdown().await;
        Ok(())
    }

    async fn condition(&self) -> Condition {
        let health = self.0.health();
        Condition {
            live: health.is_live(),
            ready: health.is_ready(),
            reasons: [health.not_live, health.not_ready].concat(),
        }
    }

    async fn metrics(&self) -> String {
        self.0.metrics()
    }
}
