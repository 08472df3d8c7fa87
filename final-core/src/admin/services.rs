//! The services of a database.
//!
//! Input: the versions that are written down, and the groups of the log. Output: a [`ServiceInfo`] for each service.

use std::fmt;

/// A service that has tables in the database, or reads its log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// Its name.
    pub name: String,
    /// The state of its outbox; `None` if it has none, because it only reads the log.
    pub outbox: Option<Schema>,
    /// Whether it is a group of the log.
    pub reads_log: bool,
    /// Whether it collects the dead letters of its broker in this database.
    pub collects_letters: bool,
}

/// How the version of a service's tables compares with the one that this release makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schema {
    /// They have this release's version.
    Current,
    /// An older release has made them. A start of this release, or `migrate`, brings them to its version.
    Older {
        /// The version that they have.
        found: i64,
        /// The version of this release.
        wanted: i64,
    },
    /// A newer release has made them. What this release knows of them stands there all the same.
    Newer {
        /// The version that they have.
        found: i64,
        /// The version of this release.
        known: i64,
    },
    /// A version is written down, and the table is not there.
    Missing,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Current => f.write_str("current"),
            Self::Older { found, wanted } => {
                write!(
                    f,
                    "version {found}, this release makes {wanted}: run `migrate`"
                )
            }
            Self::Newer { found, known } => {
                write!(
                    f,
                    "version {found} of a newer release, this one knows {known}"
                )
            }
            Self::Missing => f.write_str("its table is missing: run `migrate`"),
        }
    }
}
