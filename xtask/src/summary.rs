//! Reads what `cargo test` prints, line by line, and keeps suite by suite how many tests passed and which failed.

use std::fmt;

/// What `cargo test` has printed so far.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    /// In the order of their runs. The last one runs now.
    suites: Vec<SuiteResult>,
    /// The names since the last heading `failures:`. Of two such lists the second has nothing but names.
    names: Vec<String>,
}

/// What has become of the tests of one suite.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SuiteResult {
    pub(crate) name: String,
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// The tests that failed.
    pub(crate) tests: Vec<String>,
    /// Its process ended before it could tell.
    pub(crate) is_cut_short: bool,
}

impl Summary {
    /// Reads the next line.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(name) = suite(line) {
            self.suites.push(SuiteResult {
                name,
                ..SuiteResult::default()
            });
        } else if line == "failures:" {
            self.names.clear();
        } else if let Some(name) = line.strip_prefix("    ") {
            self.names.push(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let names = std::mem::take(&mut self.names);
            let suite = self.current();
            suite.add(result);
            if result.starts_with("FAILED") {
                suite.tests = names;
            }
        } else if line.starts_with("error: test failed")
            || line.starts_with("error: doctest failed")
        {
            // Cargo prints this line for every failed suite, also for one whose process was killed.
            let suite = self.current();
            suite.is_cut_short = suite.tests.is_empty();
        }
    }

    /// Every suite that has run.
    pub(crate) fn suites(&self) -> &[SuiteResult] {
        &self.suites
    }

    fn current(&mut self) -> &mut SuiteResult {
        if self.suites.is_empty() {
            self.suites.push(SuiteResult::default());
        }
        let last = self.suites.len() - 1;
        &mut self.suites[last]
    }
}

/// The suite that a line of cargo's announces.
pub(crate) fn suite(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{library} (examples in its documentation)"));
    }
    let (source, program) = line.strip_prefix("Running ")?.rsplit_once(" (")?;
    let program = program.strip_suffix(')')?.rsplit('/').next()?;
    let (name, _hash) = program.rsplit_once('-')?;
    Some(format!("{name} ({source})"))
}

impl SuiteResult {
    pub(crate) fn has_failed(&self) -> bool {
        self.is_cut_short || !self.tests.is_empty()
    }

    /// Adds a result like `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out`.
    fn add(&mut self, result: &str) {
        let mut number = None::<u64>;
        for word in result.split_whitespace() {
            match (number, word) {
                (Some(number), "passed;") => self.passed += number,
                (Some(number), "failed;") => self.failed += number,
                (Some(number), "ignored;") => self.ignored += number,
                _ => {}
            }
            number = word.parse().ok();
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |of: fn(&SuiteResult) -> u64| self.suites.iter().map(of).sum::<u64>();
        write!(
            f,
            "{} tests passed, {} failed, {} ignored",
            sum(|suite| suite.passed),
            sum(|suite| suite.failed),
            sum(|suite| suite.ignored),
        )?;
        for suite in &self.suites {
            if !suite.has_failed() {
                continue;
            }
            write!(f, "\n{}", suite.name)?;
            for test in &suite.tests {
                write!(f, "\n    {test}")?;
            }
            if suite.is_cut_short {
                write!(f, "\n    its process ended before its tests did, see above")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Summary {
        let mut summary = Summary::default();
        lines.lines().for_each(|line| summary.read(line));
        summary
    }

    #[test]
    fn failed_tests_are_listed_by_suite() {
        let summary = read(
            "\
   Compiling final-core v0.1.0
     Running unittests src/lib.rs (target/debug/deps/final_core-0a1b2c)
running 2 tests
test backoff::tests::it_doubles ... ok
test relay::it_sends ... FAILED

failures:

---- relay::it_sends stdout ----
a text of the test's own
failures:
    which looks like a list

failures:
    relay::it_sends

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p final-core --lib`
     Running tests/bus/main.rs (/elsewhere/deps/bus-77)
test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s

   Doc-tests final_core
failures:
    final-core/src/lib.rs - Bus (line 3)

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out

error: doctest failed, to rerun pass `-p final-core --doc`",
        );

        assert_eq!(
            summary.to_string(),
            "\
6 tests passed, 2 failed, 2 ignored
final_core (unittests src/lib.rs)
    relay::it_sends
final_core (examples in its documentation)
    final-core/src/lib.rs - Bus (line 3)"
        );
    }

    #[test]
    fn a_suite_whose_process_is_killed_is_listed_without_names() {
        let summary = read(
            "\
     Running tests/faults/main.rs (target/debug/deps/faults-77)
test one::of_them ... ok
error: test failed, to rerun pass `-p final-tests --test faults`

Caused by:
  process didn't exit successfully: `target/debug/deps/faults-77` (signal: 9, SIGKILL: kill)",
        );

        assert_eq!(
            summary.to_string(),
            "\
0 tests passed, 0 failed, 0 ignored
faults (tests/faults/main.rs)
    its process ended before its tests did, see above"
        );
    }

    #[test]
    fn nothing_is_listed_where_nothing_has_failed() {
        let summary = read("test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured");
        assert_eq!(summary.to_string(), "7 tests passed, 0 failed, 0 ignored");
    }
}
