//! The suites whose outcome depends on the servers, and their programs.
//!
//! Input: suites. Output: the test programs that cargo builds of them.

use std::path::{Path, PathBuf};

use final_tests::{Error, Result};

use crate::cargo::{each_line, root};

/// A part of the tests that has a row in the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestSuite {
    pub(super) name: &'static str,
    package: &'static str,
    /// Where its package is.
    folder: &'static str,
    /// Which programs of the package.
    programs: &'static [&'static str],
}

pub(super) const SUITES: [TestSuite; 5] = [
    TestSuite {
        name: "core",
        package: "final-core",
        folder: "final-core",
        programs: &["--lib"],
    },
    TestSuite {
        name: "amqp",
        package: "final-amqp",
        folder: "final-amqp",
        programs: &["--lib", "--tests"],
    },
    TestSuite {
        name: "bus",
        package: "final-tests",
        folder: "tests",
        programs: &["--test", "bus"],
    },
    TestSuite {
        name: "capture",
        package: "final-capture",
        folder: "final-capture",
        programs: &["--lib", "--test", "capture"],
    },
    TestSuite {
        name: "faults",
        package: "final-tests",
        folder: "tests",
        programs: &["--test", "faults"],
    },
];

/// A test program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestProgram {
    pub(super) suite: &'static str,
    pub(super) path: PathBuf,
    /// Where cargo would run it.
    pub(super) folder: PathBuf,
}

/// Builds the programs of the suites.
pub(super) fn build(suites: &[&'static TestSuite]) -> Result<Vec<TestProgram>> {
    let mut programs = Vec::new();
    for suite in suites {
        let test = ["test", "--all-features", "--no-run", "-p", suite.package];
        let args = [&test[..], suite.programs].concat();
        let before = programs.len();
        let is_built = each_line(&args, &[], |line| {
            eprintln!("{line}");
            programs.extend(executable(line).map(|path| TestProgram {
                suite: suite.name,
                path: root().join(path),
                folder: root().join(suite.folder),
            }));
        })?;
        if !is_built || programs.len() == before {
            return Err(Error::new(
                format!("the tests of `{}` were not built, see above", suite.name),
                format!("run `cargo {}`", args.join(" ")),
            ));
        }
    }
    Ok(programs)
}

/// The program that a line of cargo's announces.
fn executable(line: &str) -> Option<&Path> {
    let (_, path) = line.trim().strip_prefix("Executable ")?.rsplit_once(" (")?;
    path.strip_suffix(')').map(Path::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_those_that_cargo_names() {
        let line = "  Executable tests/bus/main.rs (target/debug/deps/bus-0a1b)";
        assert_eq!(
            executable(line),
            Some(Path::new("target/debug/deps/bus-0a1b"))
        );
        assert_eq!(executable("   Compiling bus v0.1.0 (/executable)"), None);
    }
}
