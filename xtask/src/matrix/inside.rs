//! What runs in the Debian of a set: this very program, once more.
//!
//! Input: test programs, and a part of tests' names. It starts the servers once for all of them. Output: what
//! the programs print, with a line before each as cargo has it.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, ExitCode},
};

use final_tests::{Error, Result, process::Lifetime, servers::Set};

use super::{enter, suites::TestProgram};

/// The word that begins our own arguments inside.
pub(crate) const COMMAND: &str = "matrix-inside";

/// The command by which this program, at `ours`, runs the others in the Debian with this root.
pub(super) fn command(
    debian: &Path,
    ours: &Path,
    programs: &[TestProgram],
    filter: Option<&str>,
) -> Result<Command> {
    let mut command = enter::command(debian, ours)?;
    command.args([COMMAND, filter.unwrap_or_default()]);
    for TestProgram {
        suite,
        path,
        folder,
    } in programs
    {
        command.args([OsStr::new(suite), path.as_ref(), folder.as_ref()]);
    }
    Ok(command)
}

/// Runs them, to the end also where some fail. `args` are as [`command`] writes them.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    let [filter, programs @ ..] = args else {
        return Err(Error::new(
            format!("`{COMMAND}` without arguments"),
            "run `cargo xtask matrix`",
        ));
    };
    let servers = Set::start(Lifetime::Tests)?;
    let mut has_passed = true;
    for program in programs.chunks_exact(3) {
        let [suite, path, folder] = program else {
            continue;
        };
        println!("     Running {suite} ({path})");
        let mut test = Command::new(path);
        test.envs(servers.env()).current_dir(folder);
        test.args((!filter.is_empty()).then_some(filter));
        let status = test
            .status()
            .map_err(Error::io("cannot run", Path::new(path)))?;
        if !status.success() {
            println!("error: test failed: {path}: {status}");
            has_passed = false;
        }
    }
    Ok(match has_passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
