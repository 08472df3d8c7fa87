//! `cargo xtask matrix`: the tests on newer servers than those of this machine.
//!
//! Input: the names of sets of servers (`--set`), of suites (`--suite`), and a part of tests' names.
//! State: a Debian of its own for each set, in [`folder::HOME`], made once. Output: a table of what passed,
//! printed and, for whole suites, written into `docs/servers.md`.
//!
//! ```text
//! folder   makes the Debian of a set, with its servers        mirror    where its packages come from
//! suites   builds the test programs                           enter     runs a program in that Debian
//! inside   what runs there: the servers, then each program    report    the table
//! ```
//!
//! The test programs themselves run in that Debian, so the tests that start, kill and freeze servers find the
//! newer ones as well.

mod enter;
mod folder;
mod inside;
mod mirror;
mod report;
mod sets;
mod suites;

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use final_tests::{Error, Result};

use self::{
    folder::Folder,
    report::Report,
    sets::{SETS, ServerSet},
    suites::{SUITES, TestSuite},
};
use crate::{
    cargo::{cargo, each_line_of, exec, run as run_command, target},
    install,
    summary::Summary,
};

pub(crate) use inside::{COMMAND as INSIDE, run as inside};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request<'a> {
    sets: Vec<&'static ServerSet>,
    suites: Vec<&'static TestSuite>,
    filter: Option<&'a str>,
    is_rebuild: bool,
    /// The arguments of a chaos run in place of the suites.
    chaos: Option<&'a [&'a str]>,
}

/// Runs the suites, or a chaos run, on each set.
pub(crate) fn run(args: &[&str]) -> Result<ExitCode> {
    let request = Request::read(args)?;
    // Another `cargo xtask` may replace this file during the builds. Asked later, the system says "(deleted)".
    let ours = env::current_exe().map_err(Error::io("cannot find", Path::new("xtask")))?;
    let mut has_passed = true;
    for set in &request.sets {
        let folder = Folder::ready(set, request.is_rebuild)?;
        has_passed &= match request.chaos {
            Some(args) => chaos(&folder, args)?,
            None => tests(&folder, &request, &ours)?,
        };
    }
    Ok(match has_passed {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn tests(folder: &Folder, request: &Request<'_>, ours: &Path) -> Result<bool> {
    // One of the clients is in the repository's folder.
    install::clients();
    let programs = suites::build(&request.suites)?;
    let servers = folder.servers()?;
    let begin = Instant::now();
    let mut summary = Summary::default();
    let command = inside::command(folder.root(), ours, &programs, request.filter)?;
    each_line_of(command, |line| {
        summary.read(line);
        // If the output cannot be written, the tests go on all the same.
        let _ = writeln!(io::stdout(), "{line}");
    })?;
    let report = Report::new(&request.suites, summary.suites());
    println!(
        "\n{}: {servers}\n\n{report}\nin {:.1} min",
        folder.name(),
        begin.elapsed().as_secs_f64() / 60.0
    );
    if request.filter.is_none() && report.has_run() {
        report.write(folder.name(), &servers)?;
    }
    Ok(report.has_passed())
}

fn chaos(folder: &Folder, args: &[&str]) -> Result<bool> {
    let build = ["build", "--package", "final-tests", "--bins"];
    if exec(cargo(), &build, &[])? != ExitCode::SUCCESS {
        return Ok(false);
    }
    let mut command: Command = enter::command(folder.root(), &target().join("debug/chaos"))?;
    command.args(args);
    Ok(run_command(command)? == ExitCode::SUCCESS)
}

impl<'a> Request<'a> {
    fn read(args: &'a [&'a str]) -> Result<Self> {
        let mut request = Self {
            sets: Vec::new(),
            suites: Vec::new(),
            filter: None,
            is_rebuild: false,
            chaos: None,
        };
        let mut rest = args;
        while let [word, tail @ ..] = rest {
            rest = tail;
            match (*word, tail) {
                ("--set", [name, tail @ ..]) => {
                    request.sets.push(named(&SETS, name, |set| set.name)?);
                    rest = tail;
                }
                ("--suite", [name, tail @ ..]) => {
                    let suite = named(&SUITES, name, |suite| suite.name)?;
                    request.suites.push(suite);
                    rest = tail;
                }
                ("--rebuild", _) => request.is_rebuild = true,
                ("chaos", args) => {
                    request.chaos = Some(args);
                    rest = &[];
                }
                (filter, _) if !filter.starts_with('-') && request.filter.is_none() => {
                    request.filter = Some(filter);
                }
                (other, _) => {
                    return Err(Error::new(
                        format!("`cargo xtask matrix` does not know what to do with `{other}`"),
                        "see `cargo xtask help`",
                    ));
                }
            }
        }
        if request.sets.is_empty() {
            request.sets = SETS.iter().collect();
        }
        if request.suites.is_empty() {
            request.suites = SUITES.iter().collect();
        }
        Ok(request)
    }
}

fn named<T>(all: &'static [T], name: &str, of: fn(&T) -> &'static str) -> Result<&'static T> {
    all.iter().find(|it| of(it) == name).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(of).collect();
        Error::new(
            format!("there is no `{name}`"),
            format!("use one of: {}", names.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_runs_unless_a_part_is_named() {
        let all = Request::read(&[]).unwrap();
        assert_eq!(
            (all.sets.len(), all.suites.len()),
            (SETS.len(), SUITES.len())
        );

        let part = ["--set", "sid", "--suite", "bus", "quirks", "--rebuild"];
        let part = Request::read(&part).unwrap();
        assert_eq!(part.sets[0].name, "sid");
        assert_eq!(part.suites[0].name, "bus");
        assert_eq!((part.filter, part.is_rebuild), (Some("quirks"), true));
    }

    #[test]
    fn what_follows_chaos_is_for_the_chaos_run() {
        let args = ["--set", "trixie", "chaos", "--minutes", "10"];
        let request = Request::read(&args).unwrap();
        assert_eq!(request.chaos, Some(&["--minutes", "10"][..]));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_names() {
        let error = Request::read(&["--set", "buzz"]).unwrap_err().to_string();
        assert!(error.contains("trixie"), "{error}");
        assert!(Request::read(&["--sets"]).is_err());
        assert!(Request::read(&["--set"]).is_err());
    }
}
