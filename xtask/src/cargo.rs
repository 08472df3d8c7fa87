//! Running other programs in the root of the repository.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
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

fn run(mut command: Command) -> Result<ExitCode> {
    let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let shown = format!(
        "{} {}",
        Path::new(command.get_program()).display(),
        args.join(" ")
    );
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
