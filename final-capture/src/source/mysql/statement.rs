//! What a statement in the binary log means to a capture.
//!
//! Input: the body of a query event. Output: a [`Statement`]. No SQL is parsed beyond the first words, because all
//! that matters is the end of transactions, savepoints, TRUNCATE, and whether a statement may change rows. One that
//! is not on the list of those that do not is a change.

use std::sync::Arc;

use super::{
    charset::{Charset, Charsets},
    inflate,
    wire::{CannotRead, Wire},
    words::{Word, Words},
};
use crate::table::TableName;

/// What a statement means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    Commit,
    Rollback,
    Savepoint(String),
    RollbackTo(String),
    Truncate(TableName),
    /// A DELETE without a condition. Older servers write it alone for a MEMORY table that has lost its rows; newer ones write a
    /// TRUNCATE.
    Emptied(TableName),
    /// A distributed transaction is finished.
    XaFinish,
    /// It may change rows, and its rows are not in the log. With its first keyword.
    Change(&'static str),
    /// It changes no rows, or those of DDL that are not told.
    Other,
}

/// Keywords of statements that change no row, or whose rows are in the log beside them.
const HARMLESS: &[&str] = &[
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "CHANGE",
    "CHECK",
    "DROP",
    "FLUSH",
    "GRANT",
    "INSTALL",
    "OPTIMIZE",
    "PURGE",
    "RELEASE",
    "RENAME",
    "REPAIR",
    "REVOKE",
    "SET",
    "START",
    "UNINSTALL",
];

/// Keywords of statements that change rows. Nothing else of a statement is ever told: what stands behind them, or in
/// their place, may be a secret.
const CHANGES: &[&str] = &[
    "CALL", "CREATE", "DELETE", "DO", "EXECUTE", "INSERT", "LOAD", "REPLACE", "SELECT", "UPDATE",
    "VALUES", "WITH",
];

/// The body of a query event.
pub(super) struct Query<'a> {
    schema: &'a [u8],
    text: std::borrow::Cow<'a, [u8]>,
    charset: Option<u16>,
}

impl<'a> Query<'a> {
    pub(super) fn new(body: &'a [u8], compressed: bool, most: usize) -> Result<Self, CannotRead> {
        let mut wire = Wire(body);
        wire.take(8)?;
        let schema = usize::from(wire.u8()?);
        wire.take(2)?;
        let status = usize::try_from(wire.low_first(2)?).unwrap_or(usize::MAX);
        let status = wire.take(status)?;
        let schema = wire.take(schema)?;
        wire.u8()?;
        let text = if compressed {
            inflate::event(wire.0, most)?.into()
        } else {
            wire.0.into()
        };
        Ok(Self {
            schema,
            text,
            charset: charset(status),
        })
    }

    /// What it means.
    pub(super) fn statement(&self, charsets: &Charsets) -> Result<Statement, CannotRead> {
        // The usual ones first: a transaction of each size ends with one.
        match &*self.text {
            b"COMMIT" => return Ok(Statement::Commit),
            b"ROLLBACK" => return Ok(Statement::Rollback),
            _ => {}
        }
        let text: Arc<str> = match (std::str::from_utf8(&self.text), self.charset) {
            (Ok(text), _) => text.into(),
            // A text with a blob in it is in no character set. Its keywords are, in each that a client may have.
            (Err(_), Some(collation)) => match charsets.of(collation) {
                Charset::Unknown(name) => return self.of_unknown_charset(&name),
                charset => charset.text(&self.text)?.0,
            },
            (Err(_), None) => String::from_utf8_lossy(&self.text).into(),
        };
        self.meaning(Words::new(&text))
    }

    /// The meaning of a text in a character set that cannot be read. Its first word can be: only comments stand before it, and
    /// no character of such a set contains a byte that ends a comment.
    fn of_unknown_charset(&self, name: &str) -> Result<Statement, CannotRead> {
        let text = String::from_utf8_lossy(&self.text);
        let keyword = match Words::new(&text).next() {
            Some(Word::Plain(first)) => first.to_ascii_uppercase(),
            _ => String::new(),
        };
        // These are told by more than the first word.
        let needs_more = ["CREATE", "SET", "ROLLBACK", "SAVEPOINT", "TRUNCATE"];
        if needs_more.contains(&keyword.as_str()) {
            return Err(CannotRead(format!(
                "a statement {keyword} is of a client whose character set is {name}, which cannot be read. Give the capture the \
                 position behind the statement, and let that client use utf8mb4"
            )));
        }
        Ok(match keyword.as_str() {
            harmless if HARMLESS.contains(&harmless) || harmless == "XA" => Statement::Other,
            _ => Statement::Change(told(&keyword)),
        })
    }

    fn meaning(&self, mut words: Words<'_>) -> Result<Statement, CannotRead> {
        let whole = words.clone();
        let Some(Word::Plain(first)) = words.next() else {
            return Ok(Statement::Change(told("")));
        };
        let keyword = first.to_ascii_uppercase();
        Ok(match keyword.as_str() {
            "COMMIT" => Statement::Commit,
            "ROLLBACK" => match words.next() {
                Some(word) if word.is("TO") => {
                    let name = words.by_ref().find(|word| !word.is("SAVEPOINT"));
                    Statement::RollbackTo(named(name)?)
                }
                _ => Statement::Rollback,
            },
            "SAVEPOINT" => Statement::Savepoint(named(words.next())?),
            "TRUNCATE" => Statement::Truncate(self.table(words)?),
            "XA" => match words.next() {
                Some(word) if word.is("COMMIT") || word.is("ROLLBACK") => Statement::XaFinish,
                _ => Statement::Other,
            },
            "SET" => {
                let mut after = words.clone();
                if after.next().is_some_and(|word| word.is("STATEMENT")) {
                    // SET STATEMENT name = value FOR statement
                    after.by_ref().find(|word| word.is("FOR"));
                    return self.meaning(after);
                }
                Statement::Other
            }
            "CREATE" => {
                if fills(words) && creates_table(&whole) {
                    Statement::Change(told(&keyword))
                } else {
                    Statement::Other
                }
            }
            "DELETE" => match self.emptied(&whole) {
                Some(table) => Statement::Emptied(table),
                None => Statement::Change(told(&keyword)),
            },
            harmless if HARMLESS.contains(&harmless) => Statement::Other,
            _ => Statement::Change(told(&keyword)),
        })
    }

    /// The table of ``DELETE FROM `schema`.`table` ``, which a server writes when a MEMORY table has lost its rows.
    fn emptied(&self, whole: &Words<'_>) -> Option<TableName> {
        let mut words = whole.clone().skip(1);
        words.next().filter(|word| word.is("FROM"))?;
        match (words.next()?, words.next()?, words.next()?, words.next()) {
            (Word::Quoted(schema), Word::Sign('.'), Word::Quoted(table), None) => Some(TableName {
                schema: schema.into(),
                table: table.into(),
            }),
            _ => None,
        }
    }

    /// The table of a TRUNCATE.
    fn table(&self, words: Words<'_>) -> Result<TableName, CannotRead> {
        let cannot = || CannotRead::new("a TRUNCATE is not understood");
        let name = |word: Option<Word<'_>>| match word {
            Some(Word::Plain(name)) => Ok(Arc::from(name)),
            Some(Word::Quoted(name) | Word::Doubled(name)) => Ok(Arc::from(name)),
            _ => Err(cannot()),
        };
        let mut words = words.peekable();
        // A table may be called `table`, but then its name is quoted.
        words.next_if(|word| word.is("TABLE"));
        let first = name(words.next())?;
        if words.next_if_eq(&Word::Sign('.')).is_some() {
            return Ok(TableName {
                schema: first,
                table: name(words.next())?,
            });
        }
        let schema = std::str::from_utf8(self.schema).map_err(|_| cannot())?;
        Ok(TableName {
            schema: schema.into(),
            table: first,
        })
    }
}

/// Whether a CREATE has rows. VALUES LESS THAN and VALUES IN are the bounds of a partition.
fn fills(words: Words<'_>) -> bool {
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let is_bound = |next: &Word<'_>| next.is("LESS") || next.is("IN");
        if word.is("SELECT") || word.is("VALUES") && !words.peek().is_some_and(is_bound) {
            return true;
        }
    }
    false
}

/// Whether a CREATE makes a table that stays.
fn creates_table(words: &Words<'_>) -> bool {
    let mut words = words.clone().skip(1);
    loop {
        match words.next() {
            Some(word) if word.is("TABLE") => return true,
            Some(word) if word.is("OR") || word.is("REPLACE") => {}
            _ => return false,
        }
    }
}

fn named(word: Option<Word<'_>>) -> Result<String, CannotRead> {
    match word {
        Some(Word::Plain(name)) => Ok(name.to_owned()),
        Some(Word::Quoted(name) | Word::Doubled(name)) => Ok(name),
        _ => Err(CannotRead::new("a savepoint has no name")),
    }
}

/// A keyword, for a message.
fn told(keyword: &str) -> &'static str {
    let known = CHANGES.iter().find(|known| **known == keyword);
    known.copied().unwrap_or("a statement")
}

/// The client's character set, from the variables before the text. They come in the order of this list.
fn charset(status: &[u8]) -> Option<u16> {
    let mut wire = Wire(status);
    loop {
        let bytes = match wire.u8().ok()? {
            0 | 3 => 4,
            1 => 8,
            6 => usize::from(wire.u8().ok()?),
            4 => return u16::try_from(wire.low_first(2).ok()?).ok(),
            _ => return None,
        };
        wire.take(bytes).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(schema: &str, status: &[u8], text: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.push(u8::try_from(schema.len()).unwrap());
        body.extend([0, 0]);
        body.extend(u16::try_from(status.len()).unwrap().to_le_bytes());
        body.extend(status);
        body.extend(schema.as_bytes());
        body.push(0);
        body.extend(text);
        body
    }

    fn meaning(text: &str) -> Statement {
        let body = body("shop", &[], text.as_bytes());
        let query = Query::new(&body, false, 1000).unwrap();
        query.statement(&Charsets::default()).unwrap()
    }

    fn table(schema: &str, table: &str) -> Statement {
        Statement::Truncate(TableName {
            schema: schema.into(),
            table: table.into(),
        })
    }

    #[test]
    fn a_truncate_names_its_table_in_each_way_to_write_it() {
        for text in [
            "truncate t",
            "TRUNCATE TABLE t",
            "/* a */ truncate table `t` wait 5",
            "truncate shop.t",
            "truncate `shop` . `t` nowait",
            "/*!40000 TRUNCATE TABLE t*/",
            "set statement max_statement_time=1, lock_wait_timeout=2 for truncate t",
        ] {
            assert_eq!(meaning(text), table("shop", "t"), "{text}");
        }
        assert_eq!(meaning("truncate other.t"), table("other", "t"));
        assert!(matches!(
            meaning("DELETE FROM `shop`.`t`"),
            Statement::Emptied(table) if table.to_string() == "shop.t"
        ));
        let body = body("shop", &[], b"truncate 'x'");
        let query = Query::new(&body, false, 1000).unwrap();
        assert!(query.statement(&Charsets::default()).is_err());
    }

    #[test]
    fn of_a_text_that_cannot_be_read_the_first_word_decides() {
        let charsets = Charsets::new([(12, "ujis".to_owned())], &[].into(), &[].into());
        let meaning = |text: &[u8]| {
            let body = body("shop", &[4, 12, 0, 12, 0, 12, 0], text);
            let query = Query::new(&body, false, 1000).unwrap();
            query.statement(&charsets)
        };
        assert_eq!(
            meaning(b"/* \xa4\xa2 */ ALTER TABLE t COMMENT '\xa4\xa2'"),
            Ok(Statement::Other)
        );
        assert_eq!(
            meaning(b"INSERT INTO t VALUES ('\xa4\xa2')"),
            Ok(Statement::Change("INSERT"))
        );
        for text in [
            &b"TRUNCATE `\xa4\xa2`"[..],
            b"CREATE TABLE t COMMENT '\xa4\xa2'",
        ] {
            let CannotRead(why) = meaning(text).unwrap_err();
            assert!(why.contains("character set is ujis"), "{why}");
        }
    }

    #[test]
    fn a_statement_that_may_change_rows_is_never_passed_over() {
        for text in [
            "insert into t values (1)",
            "UPDATE t SET a = 1",
            "delete from t where a = 1",
            "delete from `shop`.`t` where a = 1",
            "replace into t values (1)",
            "with a as (select 1) delete from t",
            "select f()",
            "call p()",
            "load data infile 'x' into table t",
            "create table t2 as select * from t",
            "create or replace table t2 (a int) select 1 a",
            "create table t2 (a int) values (1), (2)",
            "create table t2 (a int) partition by list (a) (partition p values in (1)) values (1)",
            "create table t2 partition by range (a) (partition p values less than (9)) as select 1 a",
            "set statement max_statement_time=1 for insert into t values (1)",
            "(select f())",
            "",
            "whatever comes later",
        ] {
            assert!(matches!(meaning(text), Statement::Change(_)), "{text}");
        }
    }

    #[test]
    fn of_a_statement_that_changes_rows_only_its_keyword_is_told() {
        for (text, told) in [
            ("insert s3cret", "INSERT"),
            ("% insert s3cret", "a statement"),
            ("`s3cret` a", "a statement"),
            ("s3cret", "a statement"),
        ] {
            assert_eq!(meaning(text), Statement::Change(told), "{text}");
        }
    }

    #[test]
    fn ddl_and_the_ends_of_transactions_are_known() {
        for text in [
            "create table t (a int)",
            "CREATE TABLE t (a INT) PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (9), PARTITION q VALUES LESS \
             THAN MAXVALUE)",
            "create or replace table t (a int) partition by list (a) (partition p values in (1, 2))",
            "create table t (a int) /*!50100 partition by range (a) (partition p values /* a */ less than (9)) */",
            "create table t (a int) partition by range columns (a) subpartition by hash (a) (partition p values less \
             than (9) engine = InnoDB, partition q values less than (maxvalue))",
            "create temporary table t as select 1",
            "create view v as select 1",
            "create definer=`root`@`%` procedure p() insert into t values (1)",
            "alter table t add b int",
            "DROP TABLE `t` /* generated by server */",
            "grant select on x.* to y",
            "set password for x = 'y'",
            "XA END X'7831',X'',1",
        ] {
            assert_eq!(meaning(text), Statement::Other, "{text}");
        }
        assert_eq!(meaning("COMMIT"), Statement::Commit);
        assert_eq!(meaning("ROLLBACK"), Statement::Rollback);
        assert_eq!(
            meaning("rollback to savepoint s"),
            Statement::RollbackTo("s".into())
        );
        assert_eq!(
            meaning("ROLLBACK TO `s 1`"),
            Statement::RollbackTo("s 1".into())
        );
        assert_eq!(
            meaning("SAVEPOINT `s 1`"),
            Statement::Savepoint("s 1".into())
        );
        assert_eq!(meaning("XA COMMIT X'7831',X'',1"), Statement::XaFinish);
    }

    #[test]
    fn the_text_is_read_in_the_character_set_of_its_client() {
        let mut latin1: Vec<char> = (0..=255).map(char::from).collect();
        latin1.truncate(256);
        let charsets = Charsets::new(
            [(8, "latin1".to_owned())],
            &[("latin1".to_owned(), latin1.into())].into(),
            &[].into(),
        );
        let mut status = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 3];
        status.extend(b"std");
        status.extend([3, 0, 0, 0, 0, 4, 8, 0, 8, 0, 8, 0]);
        let body = body("shop", &status, b"truncate gr\xf6\xdfe");
        let query = Query::new(&body, false, 1000).unwrap();
        assert_eq!(query.statement(&charsets).unwrap(), table("shop", "größe"));
    }
}
