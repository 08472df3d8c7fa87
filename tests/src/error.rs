//! What went wrong, and what to do about it.

use std::{fmt, io, path::Path};

/// The harness' result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong and the next thing to try.
///
/// `Debug` prints the same text as `Display`, so that `unwrap()` in a test is readable.
pub struct Error {
    what: String,
    fix: String,
}

impl Error {
    /// Says what happened, and what to do about it.
    pub fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// For [`Result::map_err`]: makes an error of an I/O error.
    pub fn io(doing: impl fmt::Display, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("{doing} {}", path.display());
        move |cause| {
            Self::new(
                format!("{what}: {cause}"),
                "check that the folder exists, is writable and has room left",
            )
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  to fix it: {}", self.what, self.fix)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}
