//! Processes whose wall clock is wrong.

use std::path::PathBuf;

use super::Launch;
use crate::{Error, Result};

/// The Debian package that brings the library.
pub(crate) const PACKAGE: &str = "libfaketime";

impl Launch {
    /// Moves the wall clock of the process by so many seconds. Its monotonic clock stays right, as on a
    /// machine whose clock was never set.
    pub fn clock_offset(self, seconds: i32) -> Result<Self> {
        let library = library().ok_or_else(|| {
            Error::new(
                "libfaketime is not installed",
                format!("as root: `cargo xtask install`, or apt-get install {PACKAGE}"),
            )
        })?;
        Ok(self
            .env("LD_PRELOAD", library)
            .env("FAKETIME", format!("{seconds:+}s"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
    }
}

/// The library, in the form for programs with threads.
pub(crate) fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
}
