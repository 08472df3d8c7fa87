//! Reads what `cargo test` prints, line by line, and keeps what failed: suite by suite, with the names.

use std::fmt;

/// What `cargo test` has printed so far.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// The suite that runs now.
    suite: String,
    /// The names since the last heading `failures:`. Of two such lists the second has nothing but names.
    names: Vec<String>,
    failed: Vec<Suite>,
    counts: Counts,
}

/// A suite with failed tests.
#[derive(Debug, PartialEq, Eq)]
struct Suite {
    name: String,
    /// Empty where the process of the suite ended before it could tell.
    tests: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Summary {
    /// Reads the next line.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(suite) = suite(line) {
            self.suite = suite;
        } else if line == "failures:" {
            self.names.clear();
        } else if let Some(name) = line.strip_prefix("    ") {
            self.names.push(name.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.counts.add(result);
            if result.starts_with("FAILED") {
                let tests = std::mem::take(&mut self.names);
                self.fail(tests);
            }
        } else if line.starts_with("error: test failed")
            || line.starts_with("error: doctest failed")
        {
            // Cargo prints this line for every failed suite, also for one whose process was killed.
            if self
                .failed
                .last()
                .is_none_or(|last| last.name != self.suite)
            {
                self.fail(Vec::new());
            }
        }
    }

    fn fail(&mut self, tests: Vec<String>) {
        let name = self.suite.clone();
        self.failed.push(Suite { name, tests });
    }
}

/// The suite that a line of cargo's announces.
pub(super) fn suite(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(library) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{library} (examples in its documentation)"));
    }
    let (source, program) = line.strip_prefix("Running ")?.rsplit_once(" (")?;
    let program = program.strip_suffix(')')?.rsplit('/').next()?;
    let (name, _hash) = program.rsplit_once('-')?;
    Some(format!("{name} ({source})"))
}

impl Counts {
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
        let Counts {
            passed,
            failed,
            ignored,
        } = self.counts;
        write!(
            f,
            "{passed} tests passed, {failed} failed, {ignored} ignored"
        )?;
        for Suite { name, tests } in &self.failed {
            write!(f, "\n{name}")?;
            for test in tests {
                write!(f, "\n    {test}")?;
            }
            if tests.is_empty() {
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
