//! Processes whose wall clock is wrong.

use std::path::PathBuf;

use super::Launch;
use crate::{Error, Result};

/// The Debian package that brings the library.
pub(crate) const PACKAGE: &str = "libfaketime";

/// The environment of a process whose wall clock is wrong by so many seconds. Its monotonic clock stays right, as on a
/// machine whose clock was never set.
pub fn clock_offset(seconds: i32) -> Result<[(&'static str, String); 3]> {
    let library = library().ok_or_else(|| {
        Error::new(
            "libfaketime is not installed",
            format!("as root: `cargo xtask install`, or apt-get install {PACKAGE}"),
        )
    })?;
    Ok([
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME", format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

impl Launch {
    /// Moves the wall clock of the process by so many seconds, see [`clock_offset`].
    pub fn clock_offset(self, seconds: i32) -> Result<Self> {
        let environment = clock_offset(seconds)?;
        Ok(environment
            .into_iter()
            .fold(self, |launch, (name, value)| launch.env(name, value)))
    }
}

/// The library, in the form for programs with threads.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}
