//! What a worker has done, one line each.
//!
//! The worker writes each line with one `write` before it goes on, so a kill loses at most the line that was
//! about to be written. The machine itself is never switched off.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The bus has started.
    Started,
    /// The worker was told to hold, and all of its open sales have ended.
    Held,
    /// The caller was told that the sale is committed.
    Committed { sale: i64, messages: u8, at: u64 },
    /// The caller was told that the sale is rolled back.
    RolledBack { sale: i64 },
    /// The caller was told that the outcome of the COMMIT is unknown.
    Unknown { sale: i64 },
    /// The caller went away before it was told.
    Dropped { sale: i64 },
    /// A handler has done its work.
    Handled(Handled),
}

/// A handler run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handled {
    pub(crate) sale: i64,
    pub(crate) index: u8,
    /// The message's id.
    pub(crate) id: String,
    /// Whether it ran before the message was due.
    pub(crate) early: bool,
    pub(crate) at: u64,
}

/// Writes entries to the end of a file.
#[derive(Debug)]
pub(crate) struct Journal(File);

impl Journal {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(file))
    }

    pub(crate) fn write(&self, entry: &Entry) -> io::Result<()> {
        (&self.0).write_all(format!("{entry}\n").as_bytes())
    }
}

/// Reads a journal while it grows.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    read: u64,
}

impl Reader {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: 0 }
    }

    /// The whole lines since the last read. A file that does not exist yet has none.
    pub(crate) fn more(&mut self) -> io::Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        text[..whole].lines().map(str::parse).collect()
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Started => write!(f, "started"),
            Self::Held => write!(f, "held"),
            Self::Committed { sale, messages, at } => write!(f, "committed {sale} {messages} {at}"),
            Self::RolledBack { sale } => write!(f, "rolled-back {sale}"),
            Self::Unknown { sale } => write!(f, "unknown {sale}"),
            Self::Dropped { sale } => write!(f, "dropped {sale}"),
            Self::Handled(Handled {
                sale,
                index,
                id,
                early,
                at,
            }) => {
                write!(f, "handled {sale} {index} {id} {early} {at}")
            }
        }
    }
}

impl FromStr for Entry {
    type Err = io::Error;

    fn from_str(line: &str) -> io::Result<Self> {
        let words: Vec<_> = line.split(' ').collect();
        let entry = || {
            Some(match *words.as_slice() {
                ["started"] => Self::Started,
                ["held"] => Self::Held,
                ["committed", sale, messages, at] => Self::Committed {
                    sale: sale.parse().ok()?,
                    messages: messages.parse().ok()?,
                    at: at.parse().ok()?,
                },
                ["rolled-back", sale] => Self::RolledBack {
                    sale: sale.parse().ok()?,
                },
                ["unknown", sale] => Self::Unknown {
                    sale: sale.parse().ok()?,
                },
                ["dropped", sale] => Self::Dropped {
                    sale: sale.parse().ok()?,
                },
                ["handled", sale, index, id, early, at] => Self::Handled(Handled {
                    sale: sale.parse().ok()?,
                    index: index.parse().ok()?,
                    id: id.into(),
                    early: early.parse().ok()?,
                    at: at.parse().ok()?,
                }),
                _ => return None,
            })
        };
        entry().ok_or_else(|| io::Error::other(format!("no journal entry: {line:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WorkDir;

    #[test]
    fn what_was_written_is_read_once_and_half_a_line_not_yet() {
        let dir = WorkDir::new("journal").unwrap();
        let path = dir.join("journal");
        let mut reader = Reader::new(path.clone());
        assert_eq!(reader.more().unwrap(), []);
        let handled = Handled {
            sale: -3,
            index: 2,
            id: "a-b".into(),
            early: false,
            at: 77,
        };
        let entries = [
            Entry::Started,
            Entry::Held,
            Entry::Committed {
                sale: 1,
                messages: 5,
                at: 9,
            },
            Entry::RolledBack { sale: 2 },
            Entry::Unknown { sale: 3 },
            Entry::Dropped { sale: 4 },
            Entry::Handled(handled),
        ];
        let journal = Journal::create(&path).unwrap();
        for entry in &entries {
            journal.write(entry).unwrap();
        }
        (&journal.0).write_all(b"rolled-ba").unwrap();
        assert_eq!(reader.more().unwrap(), entries);
        assert_eq!(reader.more().unwrap(), []);
        (&journal.0).write_all(b"ck 8\n").unwrap();
        assert_eq!(reader.more().unwrap(), [Entry::RolledBack { sale: 8 }]);
    }
}
