//! An event as the server sent it, and what its type means to a capture.
//!
//! Input: the header and body of an event. Output: its [`Meaning`]. Only types that are listed here with their reason
//! are passed over; one that is not known stops the capture.

/// An event as the server sent it, without its checksum.
#[derive(Debug, Clone, Default)]
pub(super) struct RawEvent {
    /// Its type.
    pub(super) kind: u8,
    /// The flags of its header.
    pub(super) flags: u16,
    /// The server that wrote it first.
    pub(super) server: u32,
    /// Seconds since 1970.
    pub(super) at: u32,
    /// How many bytes it takes in its file.
    pub(super) size: u32,
    /// Where the next one begins in its file, without the bits beyond 4 GiB. 0 if it is in no file.
    pub(super) end: u32,
    /// What is behind the header.
    pub(super) body: Box<[u8]>,
}

/// The flag of an event that is in no file.
const ARTIFICIAL: u16 = 0x20;
/// The flag of an event that a reader who does not know its type may pass over.
const IGNORABLE: u16 = 0x80;

impl RawEvent {
    /// Whether it is in a file.
    pub(super) fn is_in_file(&self) -> bool {
        self.flags & ARTIFICIAL == 0 && self.end != 0
    }

    /// What it means to a capture.
    pub(super) fn meaning(&self) -> Meaning {
        match self.kind {
            2 => Meaning::Statement { compressed: false },
            165 => Meaning::Statement { compressed: true },
            4 => Meaning::Rotate,
            15 => Meaning::Format,
            16 => Meaning::Commit,
            19 => Meaning::Table,
            38 => Meaning::Prepared,
            162 => Meaning::Gtid,
            23..=25 | 30..=32 | 166..=171 => Meaning::Rows,
            kind => match NOTHING.iter().find(|(known, _, _)| *known == kind) {
                Some(_) => Meaning::Nothing,
                None => match STOPS.iter().find(|(known, _, _)| *known == kind) {
                    Some((_, _, why)) => Meaning::Stop(why),
                    None if self.flags & IGNORABLE != 0 => Meaning::Nothing,
                    None => Meaning::Unknown,
                },
            },
        }
    }
}

/// A type's name.
pub(super) fn name(kind: u8) -> &'static str {
    [NAMED, NOTHING, STOPS]
        .into_iter()
        .flatten()
        .find(|(known, _, _)| *known == kind)
        .map_or("unknown", |(_, name, _)| name)
}

/// What an event's type means to a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A transaction begins.
    Gtid,
    /// A statement, which may end a transaction.
    Statement { compressed: bool },
    /// A transaction has ended.
    Commit,
    /// A distributed transaction was prepared.
    Prepared,
    /// The columns of the rows that follow.
    Table,
    /// Rows.
    Rows,
    /// Another file begins.
    Rotate,
    /// The head of a file.
    Format,
    /// No change is in it.
    Nothing,
    /// A change is in it that cannot be read as rows, for that reason.
    Stop(&'static str),
    /// It is not known.
    Unknown,
}

/// A type's number, its name, and a reason.
type Known = (u8, &'static str, &'static str);

/// Events that carry no change, each with the reason.
pub(super) const NOTHING: &[Known] = &[
    (3, "stop", "the server ends"),
    (
        5,
        "intvar",
        "a number for the statement behind it, which is looked at itself",
    ),
    (
        13,
        "rand",
        "a seed for the statement behind it, which is looked at itself",
    ),
    (
        14,
        "user_var",
        "a variable for the statement behind it, which is looked at itself",
    ),
    (27, "heartbeat", "there is nothing new"),
    (41, "heartbeat_v2", "there is nothing new"),
    (
        28,
        "ignorable",
        "the server says that it may be passed over",
    ),
    (
        29,
        "rows_query",
        "the text of the statement whose rows follow",
    ),
    (
        160,
        "annotate_rows",
        "the text of the statement whose rows follow",
    ),
    (161, "binlog_checkpoint", "which files recovery needs"),
    (163, "gtid_list", "the transactions of earlier files"),
    (
        164,
        "start_encryption",
        "how the file is stored; the server sends it in clear",
    ),
];

/// Events with changes that are no rows, each with the cause and the cure.
pub(super) const STOPS: &[Known] = &[
    (
        26,
        "incident",
        "the server lost changes of its own. Compare the source with its copies, then begin behind it",
    ),
    (9, "append_block", STATEMENT_FORMAT),
    (11, "delete_file", STATEMENT_FORMAT),
    (17, "begin_load_query", STATEMENT_FORMAT),
    (18, "execute_load_query", STATEMENT_FORMAT),
    (33, "mysql_gtid", MYSQL),
    (34, "anonymous_gtid", MYSQL),
    (35, "previous_gtids", MYSQL),
    (36, "transaction_context", MYSQL),
    (37, "view_change", MYSQL),
    (39, "partial_update_rows", MYSQL),
    (40, "transaction_payload", MYSQL),
    (42, "gtid_tagged", MYSQL),
];

/// Why a change in statement format stops the capture.
pub(super) const STATEMENT_FORMAT: &str = "a change was written as a statement and not as rows. Run `SET GLOBAL binlog_format = \
     'ROW'` at the source, look for sessions that set it otherwise, and bring the captured tables up to date by hand";

const MYSQL: &str = "it is of a MySQL server, and only MariaDB is read so far";

const NAMED: &[Known] = &[
    (2, "query", ""),
    (4, "rotate", ""),
    (15, "format_description", ""),
    (16, "xid", ""),
    (19, "table_map", ""),
    (23, "write_rows_v1", ""),
    (24, "update_rows_v1", ""),
    (25, "delete_rows_v1", ""),
    (30, "write_rows", ""),
    (31, "update_rows", ""),
    (32, "delete_rows", ""),
    (38, "xa_prepare", ""),
    (162, "gtid", ""),
    (165, "query_compressed", ""),
    (166, "write_rows_compressed_v1", ""),
    (167, "update_rows_compressed_v1", ""),
    (168, "delete_rows_compressed_v1", ""),
    (169, "write_rows_compressed", ""),
    (170, "update_rows_compressed", ""),
    (171, "delete_rows_compressed", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_with_a_reason_are_passed_over_and_unknown_ones_only_by_the_servers_flag() {
        let meaning = |kind, flags| {
            RawEvent {
                kind,
                flags,
                ..RawEvent::default()
            }
            .meaning()
        };
        assert!(
            NOTHING
                .iter()
                .chain(STOPS)
                .all(|(_, _, why)| !why.is_empty())
        );
        for (kind, _, _) in NOTHING {
            assert_eq!(meaning(*kind, 0), Meaning::Nothing);
        }
        assert_eq!(meaning(172, 0), Meaning::Unknown);
        assert_eq!(meaning(250, 0), Meaning::Unknown);
        assert_eq!(meaning(250, IGNORABLE), Meaning::Nothing);
        assert!(matches!(meaning(26, IGNORABLE), Meaning::Stop(_)));
        for kind in 166..=171 {
            assert_eq!(meaning(kind, 0), Meaning::Rows, "compressed rows are read");
        }
    }
}
