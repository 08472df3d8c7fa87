//! Where a capture stands in its source: the last finished transaction, and how many changes of the next one are done.
//!
//! So a transaction of any size is handed over in parts, and neither held in memory nor written in one transaction of
//! the target.
//!
//! | part | has |
//! | --- | --- |
//! | `store` | what a place for positions must do |
//! | `sql` | a table on one of three databases |
//! | `file` | a file of one process |
//! | `parked` | a message that the target has refused, as it is stored |

mod error;
mod file;
mod parked;
mod sql;
mod store;

use std::{fmt, str::FromStr, sync::Arc};

pub use self::{
    error::PositionError,
    file::FilePositions,
    parked::{ParkedChange, ParkedHead, ParkedMark},
    sql::{SqlPositions, known::KnownCapture},
    store::{PositionStore, Positions, Standing, TakenTerm, Term},
};
pub(crate) use self::{parked::PER_SAVE, sql::Saved};

/// A point in a source's stream, between two transactions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourcePoint {
    /// A place in PostgreSQL's write-ahead log. Text form: `lsn:16/B374D848`.
    Lsn(u64),
    /// MariaDB's global transaction ids, one for each domain, separated by commas. Text form: `gtid:0-1-345`.
    Gtid(Arc<str>),
    /// A place in a file of the binary log. Text form: `file:mysql-bin.000010:1234`.
    File {
        /// The file's name.
        file: Arc<str>,
        /// The byte in the file.
        offset: u64,
    },
}

/// Which server, and which history of it, a position belongs to. As text, such as `postgres:7301…:1:shop:final_shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceIdentity(pub Arc<str>);

/// Where a capture stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which source it belongs to.
    pub identity: SourceIdentity,
    /// All transactions up to here are done.
    pub point: SourcePoint,
    /// The transaction after the point, if part of it is done.
    pub partial: Option<Partial>,
}

/// A transaction that is done in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Its id, see [`Transaction::id`](crate::source::Transaction::id).
    pub transaction: Arc<str>,
    /// How many of its changes are done: those with a lower index.
    pub changes: u64,
}

impl fmt::Display for SourcePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(lsn) => write!(f, "lsn:{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
            Self::Gtid(gtid) => write!(f, "gtid:{gtid}"),
            Self::File { file, offset } => write!(f, "file:{file}:{offset}"),
        }
    }
}

/// A text that is no point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no position: write `lsn:16/B374D848`, `gtid:0-1-345` or `file:mysql-bin.000010:1234`"
)]
pub struct NoPoint(pub String);

impl FromStr for SourcePoint {
    type Err = NoPoint;

    fn from_str(text: &str) -> Result<Self, NoPoint> {
        let point = match text.split_once(':') {
            Some(("lsn", lsn)) => lsn.split_once('/').and_then(|(high, low)| {
                let part = |hex: &str| u32::from_str_radix(hex, 16).ok();
                Some(Self::Lsn(
                    u64::from(part(high)?) << 32 | u64::from(part(low)?),
                ))
            }),
            Some(("gtid", gtid)) => Some(Self::Gtid(gtid.into())),
            Some(("file", place)) => place.rsplit_once(':').and_then(|(file, offset)| {
                let offset = offset.parse().ok()?;
                Some(Self::File {
                    file: file.into(),
                    offset,
                })
            }),
            _ => None,
        };
        point.ok_or_else(|| NoPoint(text.to_owned()))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point)?;
        match &self.partial {
            Some(Partial {
                transaction,
                changes,
            }) => write!(f, " and {changes} changes of {transaction}"),
            None => Ok(()),
        }
    }
}
