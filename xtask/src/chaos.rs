//! The long form of the fault suite.

use std::process::ExitCode;

use final_tests::Result;

use crate::{
    cargo::{cargo, exec, target},
    install,
};

/// Builds the chaos run and its workers, and runs it.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    install::servers()?;
    let built = exec(
        cargo(),
        &["build", "--package", "final-tests", "--bins"],
        &[],
    )?;
    if built != ExitCode::SUCCESS {
        return Ok(built);
    }
    exec(target().join("debug/chaos"), args, &[])
}
