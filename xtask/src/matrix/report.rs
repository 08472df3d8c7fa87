//! The table of a run, and its place in `docs/servers.md`.
//!
//! Input: the suites that were asked for, and what became of their programs. Output: a row for each suite.
//! Between the two comments of a set the page is written by us: the rows of suites that did not run stay.

use std::{fmt, fs, process::Command};

use final_tests::{Error, Result};

use super::suites::TestSuite;
use crate::{cargo::root, summary::SuiteResult};

const PAGE: &str = "docs/servers.md";
const HEAD: &str = "| suite | passed | failed | failed tests | run on | commit |";
const RULE: &str = "| --- | --- | --- | --- | --- | --- |";

/// What became of the suites of a set.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    suite: &'static str,
    passed: u64,
    failed: Vec<String>,
    has_run: bool,
}

impl Report {
    /// Sums up the programs of each suite.
    pub(super) fn new(suites: &[&'static TestSuite], results: &[SuiteResult]) -> Self {
        let row = |suite: &&'static TestSuite| {
            let place = format!(" ({})", suite.name);
            let programs = || results.iter().filter(|it| it.name.ends_with(&place));
            Row {
                suite: suite.name,
                passed: programs().map(|program| program.passed).sum(),
                failed: programs().flat_map(failures).collect(),
                has_run: programs().next().is_some(),
            }
        };
        Self {
            rows: suites.iter().map(row).collect(),
        }
    }

    /// Whether every suite has run and nothing has failed.
    pub(super) fn has_passed(&self) -> bool {
        let passed = |row: &Row| row.has_run && row.passed > 0 && row.failed.is_empty();
        self.rows.iter().all(passed)
    }

    /// Whether every suite has run.
    pub(super) fn has_run(&self) -> bool {
        self.rows.iter().all(|row| row.has_run)
    }

    /// Writes the rows into the page.
    pub(super) fn write(&self, set: &str, servers: &str) -> Result<()> {
        let path = root().join(PAGE);
        let page = fs::read_to_string(&path).map_err(Error::io("cannot read", &path))?;
        let (date, commit) = (said("date", &["+%Y-%m-%d"]), commit());
        let rows = self.rows.iter().map(|row| row.markdown(&date, &commit));
        let page = with_rows(&page, set, servers, &rows.collect::<Vec<_>>()).ok_or_else(|| {
            Error::new(
                format!("{PAGE} has no place for `{set}`"),
                format!("put the lines `{}` and `{}` there", begin(set), end(set)),
            )
        })?;
        fs::write(&path, page).map_err(Error::io("cannot write", &path))
    }
}

/// The failed tests of a program. Suites of several programs name the program too.
fn failures(result: &SuiteResult) -> Vec<String> {
    let program = result.name.split(" (").next().unwrap_or_default();
    let mut tests = result.tests.clone();
    if result.is_cut_short {
        tests.push(format!("`{program}` ended before its tests did"));
    }
    tests
}

impl Row {
    fn markdown(&self, date: &str, commit: &str) -> String {
        let tests = match &*self.failed.join(", ") {
            "" => "–".to_owned(),
            tests => tests.to_owned(),
        };
        let Self { suite, passed, .. } = self;
        let failed = self.failed.len();
        format!("| {suite} | {passed} | {failed} | {tests} | {date} | {commit} |")
    }
}

/// The page with these rows in the place of a set, in the place of the rows of the same suites.
fn with_rows(page: &str, set: &str, servers: &str, rows: &[String]) -> Option<String> {
    let (before, rest) = page.split_once(&begin(set))?;
    let (old, after) = rest.split_once(&end(set))?;
    let suite = |row: &str| row.split('|').nth(1).unwrap_or_default().trim().to_owned();
    let is_new = |old: &str| rows.iter().any(|row| suite(row) == suite(old));
    let kept = old
        .lines()
        .filter(|line| line.starts_with("| ") && ![HEAD, RULE].contains(line) && !is_new(line))
        .map(String::from);
    let mut all: Vec<_> = kept.chain(rows.iter().cloned()).collect();
    all.sort_by_key(|row| super::SUITES.iter().position(|it| it.name == suite(row)));
    let table = [&[HEAD.to_owned(), RULE.to_owned()], &*all]
        .concat()
        .join("\n");
    let (begin, end) = (begin(set), end(set));
    Some(format!(
        "{before}{begin}\n{servers}.\n\n{table}\n{end}{after}"
    ))
}

fn begin(set: &str) -> String {
    format!("<!-- written by `cargo xtask matrix --set {set}` -->")
}

fn end(set: &str) -> String {
    format!("<!-- end of {set} -->")
}

/// The commit that was tested, with a `+` where files had changes since.
fn commit() -> String {
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let mark = if changed.is_empty() { "" } else { "+" };
    said("git", &["rev-parse", "--short", "HEAD"]) + mark
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            let Row {
                suite,
                passed,
                failed,
                ..
            } = row;
            if !row.has_run {
                writeln!(f, "{suite}: did not run, see above")?;
                continue;
            }
            writeln!(f, "{suite}: {passed} passed, {} failed", failed.len())?;
            for test in failed {
                writeln!(f, "    {test}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::suites::SUITES;
    use super::*;

    fn result(name: &str, passed: u64, tests: &[&str]) -> SuiteResult {
        SuiteResult {
            name: name.into(),
            passed,
            failed: tests.len() as u64,
            tests: tests.iter().map(|&it| it.to_owned()).collect(),
            ..SuiteResult::default()
        }
    }

    #[test]
    fn the_programs_of_a_suite_are_one_row() {
        let suites: Vec<_> = SUITES.iter().collect();
        let results = [
            result("final_core (core)", 3, &[]),
            result("start (amqp)", 2, &["it_starts"]),
            result("publish (amqp)", 4, &[]),
        ];
        let report = Report::new(&suites, &results);

        assert_eq!(report.rows[1].passed, 6);
        assert_eq!(report.rows[1].failed, ["it_starts"]);
        assert!(!report.has_run() && !report.has_passed());
        assert_eq!(
            report.rows[1].markdown("today", "abc"),
            "| amqp | 6 | 1 | it_starts | today | abc |"
        );
    }

    #[test]
    fn a_suite_whose_process_is_killed_has_failed() {
        let mut killed = result("bus (bus)", 0, &[]);
        killed.is_cut_short = true;
        let report = Report::new(&[&SUITES[2]], &[killed]);

        assert!(report.has_run() && !report.has_passed());
    }

    #[test]
    fn rows_of_suites_that_did_not_run_stay_on_the_page() {
        let page = format!(
            "before\n{}\nold.\n\n{HEAD}\n{RULE}\n| core | 1 | 0 | – | then | a |\n| bus | 2 | 0 | – | then | a |\n{}\nafter",
            begin("sid"),
            end("sid")
        );
        let row = "| core | 5 | 0 | – | now | b |".to_owned();

        let page = with_rows(&page, "sid", "New 1", &[row]).unwrap();

        assert_eq!(
            page,
            format!(
                "before\n{}\nNew 1.\n\n{HEAD}\n{RULE}\n| core | 5 | 0 | – | now | b |\n| bus | 2 | 0 | – | then | a |\n{}\nafter",
                begin("sid"),
                end("sid")
            )
        );
        assert_eq!(with_rows(&page, "trixie", "", &[]), None);
    }
}
