//! promtool, Prometheus' own program that checks rules and the texts of metrics.
//!
//! Input: the arguments of one run, and a text for its standard input. Output: what it prints. It is looked for in PATH
//! and in `target/tools`, where `cargo xtask install` puts it.

use std::path::{Path, PathBuf};

use crate::{Error, Result, WorkDir, process::Launch};

/// Where `cargo xtask install` puts it.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools")
}

/// The program.
///
/// # Errors
///
/// Fails if it is not installed.
pub fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([folder()]);
    let found = folders.find_map(|folder| {
        let program = folder.join("promtool");
        program.is_file().then_some(program)
    });
    found.ok_or_else(|| {
        Error::new(
            "promtool is not installed",
            "`cargo xtask install` takes it out of Debian's package prometheus; or put it into PATH",
        )
    })
}

/// Runs it, and returns what it prints.
///
/// # Errors
///
/// Fails if it is not installed, or finds something wrong.
pub fn run(args: &[&str]) -> Result<String> {
    Launch::new(find()?).args(args).run()
}

/// Has it check a text as Prometheus scrapes it, and returns its remarks.
///
/// # Errors
///
/// Fails if it is not installed, or cannot read the text. Remarks about style are no error.
pub fn check_metrics(text: &str) -> Result<String> {
    let folder = WorkDir::new("promtool")?;
    let file = folder.write("metrics.txt", text)?;
    // It ends with 3 for remarks.
    let script = "\"$0\" check metrics <\"$1\" 2>&1 || test $? -eq 3";
    Launch::new("sh")
        .args(["-c", script])
        .arg(find()?)
        .arg(file)
        .run()
}
