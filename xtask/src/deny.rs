//! Checks the dependencies against `deny.toml` with cargo-deny.

use std::{path::PathBuf, process::ExitCode};

use final_tests::{Error, Result, process::Launch};

use crate::cargo::{cargo, exec, target};

/// Pinned: a newer one may need a newer compiler, or read `deny.toml` in another way.
const VERSION: &str = "0.20.2";

/// Checks licences, sources and bans; and advisories, where their database can be reached.
pub(crate) fn run() -> Result<ExitCode> {
    let tool = tool()?;
    let check = [
        "--all-features",
        "--locked",
        "check",
        "bans",
        "licenses",
        "sources",
    ];
    let checked = exec(&tool, &check, &[])?;
    if checked != ExitCode::SUCCESS {
        return Ok(checked);
    }
    if exec(&tool, &["fetch", "db"], &[])? != ExitCode::SUCCESS {
        eprintln!(
            "warning: known vulnerabilities were NOT CHECKED: the database of advisories cannot be \
             reached from here"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let advisories = [
        "--all-features",
        "--locked",
        "check",
        "--disable-fetch",
        "advisories",
    ];
    exec(&tool, &advisories, &[])
}

/// The cargo-deny that is installed, else our own under `target`.
fn tool() -> Result<PathBuf> {
    let ours = target().join("cargo-deny");
    for tool in [PathBuf::from("cargo-deny"), ours.join("bin/cargo-deny")] {
        if Launch::new(&tool).arg("--version").run().is_ok() {
            return Ok(tool);
        }
    }
    // Without optimisation the build takes a third of the time, and the tool runs for a second.
    let root = ours.display().to_string();
    let name = format!("cargo-deny@{VERSION}");
    let install = ["install", "--locked", "--debug", "--root", &root, &name];
    // With line tables the linker needs much memory and disk, and the tool is never debugged.
    let without_lines = [("CARGO_PROFILE_DEV_DEBUG", "0".to_owned())];
    if exec(cargo(), &install, &without_lines)? != ExitCode::SUCCESS {
        return Err(Error::new(
            "cargo-deny is missing and cannot be installed, see above",
            format!("cargo install --locked {name}"),
        ));
    }
    Ok(ours.join("bin/cargo-deny"))
}
