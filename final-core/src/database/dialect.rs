//! The three dialects of SQL, and the words that they say differently.
//!
//! Input: a dialect. Output: its [`Words`]: its clock, locks and types; how it quotes a name; how it writes the
//! placeholder of a value.

/// The SQL that a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
    /// SQLite.
    Sqlite,
}

/// What a dialect calls the things that statements need.
#[derive(Debug)]
pub struct Words {
    /// The running clock, in microseconds since 1970, as a whole number of 64 bits. It runs on within a
    /// transaction.
    pub now: &'static str,
    /// The type that a whole number of 64 bits is cast to.
    pub int: &'static str,
    /// The function of a text and a part that gives a number above 0 if the text has the part, as it is written. LIKE
    /// takes `a` for `A` on SQLite.
    pub position: &'static str,
    /// Behind a SELECT: lets others read the rows and not change them, until the transaction ends.
    pub share: &'static str,
    /// Behind a SELECT: locks the rows until the transaction ends.
    pub lock: &'static str,
    /// Behind a SELECT: locks the rows, and passes over those that are locked.
    pub skip_locked: &'static str,
    /// Before an INSERT that copies rows of any size: the server ends it before it is given up here. MySQL has no word
    /// for that, and PostgreSQL a setting of the transaction.
    pub limited: &'static str,
    /// Before `INTO`: begins an INSERT that leaves a row alone that is there already, together with
    /// [`nothing`](Self::nothing).
    pub insert: &'static str,
    /// Behind such an INSERT.
    pub nothing: &'static str,
    /// The type of a text that can be part of a key: a name, a topic.
    pub name_type: &'static str,
    /// The type of a text.
    pub text_type: &'static str,
    /// The type of bytes.
    pub bytes_type: &'static str,
    /// The type of an id.
    pub id_type: &'static str,
    /// The type of a whole number of 64 bits.
    pub int_type: &'static str,
    /// Whether the server takes no writes, as a boolean: it is a standby, or was made read-only, as the old server of
    /// a switch-over is.
    pub read_only: &'static str,
    /// Behind the columns of a table.
    pub table_options: &'static str,
}

impl Dialect {
    /// Its words.
    #[must_use]
    pub fn words(self) -> &'static Words {
        match self {
            Self::Postgres => &POSTGRES,
            Self::MySql => &MYSQL,
            Self::Sqlite => &SQLITE,
        }
    }

    /// A name in quotes; quotes within it are doubled. MySQL reads backticks as quotes in every `sql_mode`.
    #[must_use]
    pub fn quoted(self, name: &str) -> String {
        match self {
            Self::MySql => format!("`{}`", name.replace('`', "``")),
            Self::Postgres | Self::Sqlite => format!("\"{}\"", name.replace('"', "\"\"")),
        }
    }

    /// How the placeholder of the parameter with this number is written; the first is 1.
    pub(crate) fn placeholder(self, number: usize) -> String {
        match self {
            Self::Postgres => format!("${number}"),
            Self::MySql => "?".to_owned(),
            Self::Sqlite => format!("?{number}"),
        }
    }
}

const POSTGRES: Words = Words {
    now: "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    int: "bigint",
    position: "strpos",
    share: "FOR SHARE",
    lock: "FOR UPDATE",
    skip_locked: "FOR UPDATE SKIP LOCKED",
    limited: "",
    insert: "INSERT",
    nothing: "ON CONFLICT DO NOTHING",
    name_type: "text",
    text_type: "text",
    bytes_type: "bytea",
    id_type: "uuid",
    int_type: "bigint",
    // Our sessions say READ WRITE, so what the server's configuration says is what the setting would be reset to. It
    // is asked of no session whose role or database always reads only: that is no switch-over.
    read_only: "(pg_is_in_recovery() OR current_setting('final.reads_only', true) = 'off' \
        AND set_config('default_transaction_read_only', NULL, true) = 'on')",
    table_options: "",
};

const MYSQL: Words = Words {
    now: "TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00.000000', UTC_TIMESTAMP(6))",
    int: "SIGNED",
    position: "INSTR",
    share: "LOCK IN SHARE MODE",
    lock: "FOR UPDATE",
    skip_locked: "FOR UPDATE SKIP LOCKED",
    limited: "/*M!100101 SET STATEMENT max_statement_time = 12 FOR */",
    insert: "INSERT IGNORE",
    nothing: "",
    name_type: "VARCHAR(255)",
    text_type: "MEDIUMTEXT",
    bytes_type: "LONGBLOB",
    id_type: "BINARY(16)",
    int_type: "BIGINT",
    // As texts: from MariaDB 12 on there are more values than two.
    read_only: "(CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF') OR @@global.innodb_read_only <> 0)",
    table_options: " ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
};

/// One writer at a time, so nothing needs a lock.
const SQLITE: Words = Words {
    now: "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    int: "INTEGER",
    position: "instr",
    share: "",
    lock: "",
    skip_locked: "",
    limited: "",
    insert: "INSERT",
    nothing: "ON CONFLICT DO NOTHING",
    name_type: "TEXT",
    text_type: "TEXT",
    bytes_type: "BLOB",
    id_type: "BLOB",
    int_type: "INTEGER",
    read_only: "0",
    table_options: "",
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a server reads it: two quotes within are one, and a single one would be the end.
        #[test]
        fn a_quoted_name_ends_where_it_should(name in r#"[a-z;'"` \\é-]{0,20}"#) {
            for (dialect, quote) in [(Dialect::Postgres, "\""), (Dialect::MySql, "`"), (Dialect::Sqlite, "\"")] {
                let quoted = dialect.quoted(&name);
                let inside = quoted.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
                let doubled = quote.repeat(2);
                let parts: Vec<&str> = inside.expect("quotes around it").split(&doubled).collect();

                prop_assert!(parts.iter().all(|part| !part.contains(quote)), "{}", quoted);
                prop_assert_eq!(parts.join(quote), &*name);
            }
        }
    }
}
