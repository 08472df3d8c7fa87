//! Running other programs in the root of the repository.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use final_tests::{Error, Result};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where builds go.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The cargo that runs us.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs a program and returns how it ended.
pub(crate) fn exec(
    program: impl AsRef<OsStr>,
    args: &[&str],
    env: &[(&str, String)],
) -> Result<ExitCode> {
    let mut command = Command::new(program);
    command
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)));
    run(command)
}

/// Takes away what `cargo run` has told us about our own package. Build scripts of other packages run
/// anew when it changes, so `cargo test` after `cargo xtask test` would build half of them again.
pub(crate) fn forget_package(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        let is_ours = |prefix: &&str| name.to_string_lossy().starts_with(*prefix);
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(is_ours) {
            command.env_remove(&name);
        }
    }
    command
}

/// The same, with the program's output on stderr, so that stdout stays clean.
pub(crate) fn exec_aside(program: &str, args: &[&str]) -> Result<ExitCode> {
    let mut command = Command::new(program);
    command.args(args).stdout(io::stderr());
    run(command)
}

/// Runs cargo and gives each line that it or its children print, in the order of printing. Whether it
/// ended well.
pub(crate) fn each_line(
    args: &[&str],
    env: &[(&str, String)],
    each: impl FnMut(&str),
) -> Result<bool> {
    let mut command = Command::new(cargo());
    command
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)));
    each_line_of(command, each)
}

/// The same for any command.
pub(crate) fn each_line_of(mut command: Command, mut each: impl FnMut(&str)) -> Result<bool> {
    let shown = shown(&command);
    let failed = |cause: io::Error| {
        Error::new(
            format!("cannot run `{shown}`: {cause}"),
            "check that the program is installed and executable",
        )
    };
    eprintln!("+ {shown}");
    // One pipe for both: cargo names a suite on stderr, and the suite names its tests on stdout.
    let (output, input) = io::pipe().map_err(failed)?;
    forget_package(&mut command)
        .current_dir(root())
        .stderr(input.try_clone().map_err(failed)?)
        .stdout(input);
    let mut child = command.spawn().map_err(failed)?;
    // It holds our ends of the pipe, which would never end for us.
    drop(command);
    for line in BufReader::new(output).split(b'\n') {
        each(&String::from_utf8_lossy(&line.map_err(failed)?));
    }
    Ok(child.wait().map_err(failed)?.success())
}

/// Runs a command in the root of the repository and returns how it ended.
pub(crate) fn run(mut command: Command) -> Result<ExitCode> {
    let shown = shown(&command);
    eprintln!("+ {shown}");
    forget_package(&mut command);
    let status = command.current_dir(root()).status().map_err(|cause| {
        Error::new(
            format!("cannot run `{shown}`: {cause}"),
            "check that the program is installed and executable",
        )
    })?;
    // A program that was killed by a signal has no code, and has failed.
    Ok(ExitCode::from(
        status
            .code()
            .map_or(1, |code| u8::try_from(code).unwrap_or(1)),
    ))
}

/// A script among the arguments is shown as `…`.
fn shown(command: &Command) -> String {
    let args = command.get_args().map(OsStr::to_string_lossy);
    let args: Vec<_> = args
        .map(|arg| {
            if arg.contains('\n') {
                "…".into()
            } else {
                arg
            }
        })
        .collect();
    let program = Path::new(command.get_program()).display();
    format!("{program} {}", args.join(" "))
}
