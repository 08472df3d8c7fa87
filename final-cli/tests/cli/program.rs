//! The program as a process.

use std::{
    ffi::OsStr,
    process::{Output, Stdio},
};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

/// The program, with nothing of the caller's environment that it reads.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_final"));
    for name in [
        "DATABASE_URL",
        "FINAL_CONTEXT",
        "FINAL_CONTEXTS",
        "FINAL_LOG",
        "NO_COLOR",
    ] {
        command.env_remove(name);
    }
    command.env("USER", "ann").kill_on_drop(true);
    command
}

/// How it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Its output as lines of JSON.
    pub fn json(&self) -> Vec<Value> {
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).expect(line);
            assert_eq!(line["v"], 1, "{line}");
            line
        };
        self.out.lines().map(line).collect()
    }

    /// Asserts how it ended.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Runs it to its end, without a terminal and without input.
pub async fn run<A: AsRef<OsStr>>(command: &mut Command, args: impl IntoIterator<Item = A>) -> Ran {
    run_with_input(command, args, "").await
}

/// The same with this input.
pub async fn run_with_input<A: AsRef<OsStr>>(
    command: &mut Command,
    args: impl IntoIterator<Item = A>,
    input: &str,
) -> Ran {
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    // A program that does not read its input closes it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.expect("it ends").into()
}
