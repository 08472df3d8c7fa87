//! Decodes the messages of the output plugin `pgoutput`, version 1.
//!
//! Input: the bytes of one message. State: none. Output: a [`Message`] that borrows from the bytes. Rows stay as they
//! are until [`Tuple::cells`] is asked, because only the assembler knows whether the table is wanted.

mod bytes;
#[cfg(test)]
mod tests;

pub(super) use self::bytes::Malformed;
use self::bytes::Rest;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message<'a> {
    Begin {
        /// Where the commit is in the log.
        commit: u64,
        /// Microseconds since 2000.
        at: i64,
        xid: u32,
    },
    Commit {
        /// Where the commit is in the log.
        commit: u64,
        /// Where the next record begins.
        end: u64,
    },
    /// The transaction came from another server.
    Origin,
    Relation(Relation<'a>),
    Type(NamedType<'a>),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<Old<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Old<'a>,
    },
    Truncate {
        relations: Relations<'a>,
    },
    /// What `pg_logical_emit_message` wrote.
    Emitted,
}

/// A table, before its first row and whenever it has changed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Relation<'a> {
    pub(super) oid: u32,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
    /// REPLICA IDENTITY FULL: each old row comes whole, and each column is marked as part of the key.
    pub(super) is_full: bool,
    pub(super) columns: Vec<RelationColumn<'a>>,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RelationColumn<'a> {
    pub(super) is_key: bool,
    pub(super) name: &'a str,
    pub(super) kind: u32,
    pub(super) modifier: i32,
}

/// A type that is not built in, before the table that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NamedType<'a> {
    pub(super) oid: u32,
    pub(super) schema: &'a str,
    pub(super) name: &'a str,
}

/// A row before its change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Old<'a> {
    /// Only the columns of the key are there. The others come as NULL, and are not.
    pub(super) is_key_only: bool,
    pub(super) row: Tuple<'a>,
}

/// The tables of a TRUNCATE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Relations<'a>(&'a [u8]);

impl Relations<'_> {
    /// Their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0
            .as_chunks()
            .0
            .iter()
            .map(|&it| u32::from_be_bytes(it))
    }
}

/// A row, checked and not yet read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// A large value that the change has not touched.
    Unchanged,
    /// The value as text.
    Text(&'a [u8]),
}

impl<'a> Message<'a> {
    /// Decodes a message.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = Rest(bytes);
        let message = match rest.u8()? {
            b'B' => Self::Begin {
                commit: rest.u64()?,
                at: rest.i64()?,
                xid: rest.u32()?,
            },
            b'C' => {
                let flags = rest.u8()?;
                if flags != 0 {
                    return Err(Malformed(format!("a commit has the unknown flags {flags}")));
                }
                let (commit, end, _at) = (rest.u64()?, rest.u64()?, rest.i64()?);
                Self::Commit { commit, end }
            }
            b'O' => {
                let (_commit, _name) = (rest.u64()?, rest.text()?);
                Self::Origin
            }
            b'R' => Self::Relation(relation(&mut rest)?),
            b'Y' => Self::Type(NamedType {
                oid: rest.u32()?,
                schema: rest.text()?,
                name: rest.text()?,
            }),
            b'I' => {
                let relation = rest.u32()?;
                expect(&mut rest, b'N')?;
                let new = tuple(&mut rest)?;
                Self::Insert { relation, new }
            }
            b'U' => {
                let relation = rest.u32()?;
                let mut kind = rest.u8()?;
                let mut old = None;
                if kind != b'N' {
                    old = Some(self::old(&mut rest, kind)?);
                    kind = rest.u8()?;
                }
                if kind != b'N' {
                    return Err(part(kind));
                }
                let new = tuple(&mut rest)?;
                Self::Update { relation, old, new }
            }
            b'D' => {
                let relation = rest.u32()?;
                let kind = rest.u8()?;
                let old = self::old(&mut rest, kind)?;
                Self::Delete { relation, old }
            }
            b'T' => {
                let count = rest.u32()? as usize;
                // CASCADE and RESTART IDENTITY say nothing about rows.
                let _options = rest.u8()?;
                let bytes = rest.bytes(count.saturating_mul(4))?;
                Self::Truncate {
                    relations: Relations(bytes),
                }
            }
            b'M' => {
                let (_flags, _at, _prefix) = (rest.u8()?, rest.u64()?, rest.text()?);
                let length = rest.u32()? as usize;
                rest.bytes(length)?;
                Self::Emitted
            }
            other => {
                return Err(Malformed(format!(
                    "a message is of the unknown kind `{}`; the server is newer than this release, or it was asked for \
                     another version of the protocol",
                    other.escape_ascii()
                )));
            }
        };
        rest.end()?;
        Ok(message)
    }
}

fn relation<'a>(rest: &mut Rest<'a>) -> Result<Relation<'a>, Malformed> {
    let (oid, schema, name) = (rest.u32()?, rest.text()?, rest.text()?);
    let is_full = rest.u8()? == b'f';
    let count = rest.u16()?;
    let mut columns = Vec::with_capacity(usize::from(count).min(1600));
    for _ in 0..count {
        columns.push(RelationColumn {
            is_key: rest.u8()? & 1 == 1,
            name: rest.text()?,
            kind: rest.u32()?,
            modifier: rest.i32()?,
        });
    }
    Ok(Relation {
        oid,
        // The plugin leaves the name of the system's own schema out.
        schema: if schema.is_empty() {
            "pg_catalog"
        } else {
            schema
        },
        name,
        is_full,
        columns,
    })
}

fn old<'a>(rest: &mut Rest<'a>, kind: u8) -> Result<Old<'a>, Malformed> {
    let is_key_only = match kind {
        b'K' => true,
        b'O' => false,
        other => return Err(part(other)),
    };
    let row = tuple(rest)?;
    Ok(Old { is_key_only, row })
}

fn expect(rest: &mut Rest<'_>, kind: u8) -> Result<(), Malformed> {
    match rest.u8()? {
        it if it == kind => Ok(()),
        other => Err(part(other)),
    }
}

fn part(kind: u8) -> Malformed {
    Malformed(format!(
        "a row is of the unknown kind `{}`",
        kind.escape_ascii()
    ))
}

/// Checks a row to its end, so that reading it later cannot fail.
fn tuple<'a>(rest: &mut Rest<'a>) -> Result<Tuple<'a>, Malformed> {
    let count = rest.u16()?;
    let bytes = rest.0;
    for _ in 0..count {
        match rest.u8()? {
            b'n' | b'u' => {}
            b't' => {
                let length = rest.u32()? as usize;
                rest.bytes(length)?;
            }
            other => {
                return Err(Malformed(format!(
                    "a value is of the unknown kind `{}`",
                    other.escape_ascii()
                )));
            }
        }
    }
    let used = bytes.len() - rest.0.len();
    let bytes = bytes.get(..used).unwrap_or_default();
    Ok(Tuple { count, bytes })
}

impl<'a> Tuple<'a> {
    /// How many values it has.
    pub(super) fn len(&self) -> usize {
        self.count.into()
    }

    /// Its values.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell<'a>> + use<'a> {
        let mut rest = Rest(self.bytes);
        std::iter::from_fn(move || {
            Some(match rest.u8().ok()? {
                b't' => {
                    let length = rest.u32().ok()? as usize;
                    Cell::Text(rest.bytes(length).ok()?)
                }
                b'u' => Cell::Unchanged,
                _ => Cell::Null,
            })
        })
    }
}
