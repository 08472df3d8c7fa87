//! The configuration of a capture.
//!
//! Input: a TOML file. Output: a [`Capture`] that is not started. A key that is not known is an error that names its
//! line.

use std::{path::PathBuf, time::Duration};

use final_amqp::Amqp;
use final_capture::{
    Capture,
    format::{Format, Order, topic_template},
    position::{Positions, SourcePoint},
    select::{ColumnRules, HashKey, Selection},
    source::{
        Source,
        mysql::{MySqlSource, PositionBy},
        postgres::PgSource,
    },
    target::{OnPoison, Target},
};
use final_core::{BoxError, OutboxDatabase, SqlBroker};
use serde::Deserialize;

use crate::{
    config::{BrokerAddress, ByteSize, DatabaseAddress, Period, Secret},
    databases::{by_scheme, pool},
    service::ServiceOptions,
};

/// Connections of the pool that is named; the capture opens a few of its own besides.
const CONNECTIONS: u32 = 4;

/// The shortest lease that a reader can renew in time.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);

/// A smaller limit refuses what a server says at a login, or each message.
const SMALLEST: u64 = 1024;

/// How large a message of a whole transaction may become, if the file does not say.
const TRANSACTION: usize = 1024 * 1024;

/// What the file of a capture says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaptureConfig {
    /// The name of this capture: all processes that share it have the same one.
    pub(super) name: String,
    pub(super) source: SourceConfig,
    pub(super) select: SelectConfig,
    #[serde(default)]
    pub(super) message: MessageConfig,
    pub(super) target: TargetConfig,
    #[serde(default)]
    pub(super) position: PositionConfig,
    #[serde(default)]
    pub(super) poison: PoisonConfig,
    /// How long a reader that is gone keeps the capture from the others.
    #[serde(default)]
    pub(super) lease: Option<Period>,
    #[serde(default)]
    pub(super) service: ServiceOptions,
}

/// Where changes come from: one of the two databases.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SourceConfig {
    pub(super) postgres: Option<DatabaseAddress>,
    pub(super) mysql: Option<DatabaseAddress>,
    /// PostgreSQL: the names of the slot and the publication.
    pub(super) slot: Option<String>,
    pub(super) publication: Option<String>,
    /// PostgreSQL 17: whether standbys get a copy of the slot.
    pub(super) failover: Option<bool>,
    /// PostgreSQL: the most bytes that one change may have.
    pub(super) most_message: Option<ByteSize>,
    /// MariaDB: the number of this reader among the replicas.
    pub(super) server_id: Option<u32>,
    /// MariaDB: `gtid` or `file`.
    pub(super) position_by: Option<PositionWord>,
    /// MariaDB: the largest event.
    pub(super) max_event: Option<ByteSize>,
    /// MariaDB: whether changes in statement format are passed over, and so lost.
    pub(super) pass_statements: Option<bool>,
    /// Where a capture begins that has no position yet.
    pub(super) from: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PositionWord {
    Gtid,
    File,
}

/// What is captured.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectConfig {
    pub(super) tables: Vec<String>,
    /// The secret of hashed columns.
    #[serde(default)]
    pub(super) hash_key: Option<Secret>,
    #[serde(default)]
    pub(super) columns: Vec<ColumnsConfig>,
}

/// Rules for the columns and rows of some tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnsConfig {
    pub(super) tables: String,
    #[serde(default)]
    pub(super) drop: Vec<String>,
    #[serde(default)]
    pub(super) mask: Vec<String>,
    #[serde(default)]
    pub(super) hash: Vec<String>,
    #[serde(default)]
    pub(super) filter: Option<String>,
}

/// How messages are written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MessageConfig {
    pub(super) order: OrderWord,
    pub(super) transaction_bytes: Option<ByteSize>,
    pub(super) transaction_topic: Option<String>,
    pub(super) format: FormatWord,
    /// dbsync's JSON: TEXT columns as text.
    pub(super) readable: bool,
    pub(super) topic: Option<String>,
    pub(super) big_integers_as_text: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OrderWord {
    #[default]
    Row,
    Table,
    Transaction,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FormatWord {
    #[default]
    Json,
    Dbsync,
}

/// Where messages go: one of the two.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TargetConfig {
    pub(super) log: Option<DatabaseAddress>,
    pub(super) rabbitmq: Option<BrokerAddress>,
    pub(super) max_message: Option<ByteSize>,
}

/// Where the position is kept: one of the two, or the log's database.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PositionConfig {
    pub(super) database: Option<DatabaseAddress>,
    pub(super) file: Option<PathBuf>,
}

/// What is done with messages that the target refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PoisonConfig {
    pub(super) on_poison: PoisonWord,
    pub(super) most_parked: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PoisonWord {
    #[default]
    Park,
    Stop,
}

impl CaptureConfig {
    /// The capture that the file describes. Nothing is connected yet. `from` counts before the file's.
    pub(super) fn capture(&self, from: Option<SourcePoint>) -> Result<Capture, BoxError> {
        self.check()?;
        let mut capture = Capture::new(&self.name, self.source()?, self.selection()?)
            .to(self.target()?)
            .order(self.message.order())
            .format(self.message.format())
            .on_poison(match self.poison.on_poison {
                PoisonWord::Park => OnPoison::Park,
                PoisonWord::Stop => OnPoison::Stop,
            });
        let MessageConfig {
            topic,
            transaction_topic,
            big_integers_as_text,
            ..
        } = &self.message;
        let topic = topic.as_deref().map(topic_template).transpose()?;
        capture = capture.map_messages(|mut options| {
            if let Some(topic) = topic {
                options.topic = topic;
            }
            if let Some(topic) = transaction_topic {
                options.transaction_topic = topic.as_str().into();
            }
            options.big_integers_as_text = *big_integers_as_text;
            options
        });
        let ours = self.source.from.as_deref().map(str::parse).transpose()?;
        if let Some(point) = from.or(ours) {
            capture = capture.begin_at(point);
        }
        if let Some(most) = self.poison.most_parked {
            capture = capture.most_parked(most);
        }
        if let Some(size) = self.target.max_message {
            capture = capture.max_message_bytes(usize::try_from(size.0).unwrap_or(usize::MAX));
        }
        if let Some(lease) = self.lease {
            capture = capture.lease(lease.0);
        }
        Ok(capture)
    }

    /// Values that no capture can work with.
    fn check(&self) -> Result<(), BoxError> {
        if self.lease.is_some_and(|lease| lease.0 < SHORTEST_LEASE) {
            return Err("`lease` is too short; write 1 s or more".into());
        }
        let sizes = [
            ("source.most_message", self.source.most_message),
            ("source.max_event", self.source.max_event),
            ("target.max_message", self.target.max_message),
        ];
        for (key, size) in sizes {
            if size.is_some_and(|size| size.0 < SMALLEST) {
                return Err(format!("`{key}` is too small; write 1 KiB or more").into());
            }
        }
        Ok(())
    }

    fn source(&self) -> Result<Box<dyn Source>, BoxError> {
        let SourceConfig {
            postgres,
            mysql,
            slot,
            publication,
            failover,
            most_message,
            server_id,
            position_by,
            max_event,
            pass_statements,
            from: _,
        } = &self.source;
        match (postgres, mysql) {
            (Some(address), None) => {
                if server_id.is_some()
                    || position_by.is_some()
                    || max_event.is_some()
                    || pass_statements.is_some()
                {
                    return Err(
                        "`source.server_id`, `source.position_by`, `source.max_event` and `source.pass_statements` are \
                         for `source.mysql`"
                            .into(),
                    );
                }
                let mut source = PgSource::new(address.expose())?;
                if let Some(slot) = slot {
                    source = source.slot(slot)?;
                }
                if let Some(publication) = publication {
                    source = source.publication(publication)?;
                }
                if let Some(size) = most_message {
                    source = source.most_message(usize::try_from(size.0).unwrap_or(usize::MAX));
                }
                Ok(Box::new(source.failover(failover.unwrap_or(false))))
            }
            (None, Some(address)) => {
                if slot.is_some()
                    || publication.is_some()
                    || failover.is_some()
                    || most_message.is_some()
                {
                    return Err(
                        "`source.slot`, `source.publication`, `source.failover` and `source.most_message` are for \
                         `source.postgres`"
                            .into(),
                    );
                }
                Ok(Box::new(self.source.mariadb(address)?))
            }
            _ => Err("`source` needs one of `postgres` and `mysql`".into()),
        }
    }

    fn selection(&self) -> Result<Selection, BoxError> {
        let SelectConfig {
            tables,
            hash_key,
            columns,
        } = &self.select;
        let mut selection = Selection::tables(tables.iter().cloned());
        for rule in columns {
            let mut rules = ColumnRules::new();
            for column in &rule.drop {
                rules = rules.drop(column.as_str());
            }
            for column in &rule.mask {
                rules = rules.mask(column.as_str());
            }
            for column in &rule.hash {
                rules = rules.hash(column.as_str());
            }
            if let Some(filter) = &rule.filter {
                rules = rules.filter(filter.as_str());
            }
            selection = selection.columns(rule.tables.as_str(), rules);
        }
        if let Some(key) = hash_key {
            selection = selection.hash_key(HashKey::new(key.expose())?);
        }
        selection.check()?;
        Ok(selection)
    }

    /// The database of the positions and of what is parked.
    pub(super) fn positions_at(&self) -> Result<&DatabaseAddress, BoxError> {
        let PositionConfig { database, file } = &self.position;
        match (database, file, &self.target.log) {
            (Some(database), None, _) => Ok(database),
            (None, None, Some(log)) => Ok(log),
            (_, Some(file), _) => Err(format!(
                "the position is in the file {}, and not in a database; the capture's own `/readyz` and metrics tell how it is",
                file.display()
            )
            .into()),
            (None, None, None) => {
                Err("it names no database of the position; write `position.database`".into())
            }
        }
    }

    fn target(&self) -> Result<Target, BoxError> {
        let TargetConfig { log, rabbitmq, .. } = &self.target;
        let PositionConfig { database, file } = &self.position;
        let positions = match (database, file) {
            (Some(database), None) => Some(by_scheme!(database, positions())?),
            (None, Some(file)) => Some(Positions::file(file)),
            (None, None) => None,
            (Some(_), Some(_)) => {
                return Err("`position` needs one of `database` and `file`".into());
            }
        };
        match (log, rabbitmq) {
            (Some(log), None) => by_scheme!(log, log_target(positions)),
            (None, Some(address)) => {
                let positions = positions.ok_or(
                    "a capture over RabbitMQ needs `position.database` or `position.file`",
                )?;
                Ok(Target::broker(Amqp::new(address.expose())?, positions))
            }
            _ => Err("`target` needs one of `log` and `rabbitmq`".into()),
        }
    }
}

impl SourceConfig {
    fn mariadb(&self, address: &DatabaseAddress) -> Result<MySqlSource, BoxError> {
        let mut source = MySqlSource::new(address.expose())?;
        if let Some(id) = self.server_id {
            source = source.server_id(id);
        }
        source = match self.position_by {
            Some(PositionWord::Gtid) => source.position_by(PositionBy::Gtid),
            Some(PositionWord::File) => source.position_by(PositionBy::File),
            None => source,
        };
        if let Some(size) = self.max_event {
            source = source.max_event(usize::try_from(size.0).unwrap_or(usize::MAX))?;
        }
        Ok(source.pass_statements(self.pass_statements.unwrap_or(false)))
    }
}

impl MessageConfig {
    fn order(&self) -> Order {
        let bytes = self.transaction_bytes.map(|size| usize::try_from(size.0));
        match self.order {
            OrderWord::Row => Order::Row,
            OrderWord::Table => Order::Table,
            OrderWord::Transaction => Order::Transaction {
                most_bytes: bytes.and_then(Result::ok).unwrap_or(TRANSACTION),
            },
        }
    }

    fn format(&self) -> Format {
        match self.format {
            FormatWord::Json => Format::Json,
            FormatWord::Dbsync => Format::Dbsync {
                readable: self.readable,
            },
        }
    }
}

fn positions<DB: OutboxDatabase>(address: &DatabaseAddress) -> Result<Positions, BoxError> {
    Ok(Positions::database(pool::<DB>(address, CONNECTIONS)?))
}

fn log_target<DB: OutboxDatabase>(
    address: &DatabaseAddress,
    positions: Option<Positions>,
) -> Result<Target, BoxError> {
    let pool = pool::<DB>(address, CONNECTIONS)?;
    let log = SqlBroker::new(pool.clone());
    Ok(match positions {
        None => Target::log(pool, log),
        Some(positions) => Target::log_apart(log, positions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const WHOLE: &str = "\
name = 'shop'
lease = '10s'
[source]
mysql = { url = 'mysql://capture@db:3306/', password = { text = 'p' } }
server_id = 4711
position_by = 'file'
from = 'file:mysql-bin.000010:1234'
[select]
tables = ['shop.*', '!shop.tmp_*']
hash_key = { text = 'sixteen bytes or more' }
[[select.columns]]
tables = 'shop.users'
drop = ['password_hash']
mask = ['email']
hash = ['phone']
filter = \"status = 'paid'\"
[message]
order = 'table'
format = 'dbsync'
readable = true
topic = 'shop{table}'
big_integers_as_text = true
[target]
rabbitmq = { url = 'amqp://capture@mq', password = { text = 'p' } }
max_message = '1 MiB'
[position]
file = '/var/lib/final/shop.position'
[poison]
on_poison = 'stop'
most_parked = 7
[service]
listen = '127.0.0.1:9090'
";

    fn read(text: &str) -> Result<CaptureConfig, String> {
        let read = config::parse::<CaptureConfig>("capture.toml", text);
        read.map(|read| read.config)
            .map_err(|error| error.to_string())
    }

    fn capture(text: &str) -> Result<Capture, String> {
        let capture = read(text)?.capture(None);
        capture.map_err(|error| crate::causes::chain(&*error))
    }

    #[tokio::test]
    async fn a_file_names_every_part_of_a_capture() {
        let capture = capture(WHOLE).unwrap();
        let text = format!("{capture:?}");
        assert!(text.contains("shop") && text.contains("broker"), "{text}");
        assert!(!text.contains("'p'"), "{text}");
    }

    #[tokio::test]
    async fn a_log_has_the_position_in_its_own_database() {
        let text = "name = 'shop'\n[source]\npostgres = 'postgres://capture@db/shop'\n[select]\ntables = ['public.*']\n\
            [target]\nlog = 'sqlite:bus.db'\n";
        let debug = format!("{:?}", capture(text).unwrap());
        assert!(debug.contains("exactly once"), "{debug}");
        let apart = format!("{text}[position]\nfile = 'p'\n");
        let debug = format!("{:?}", capture(&apart).unwrap());
        assert!(debug.contains("at least once"), "{debug}");
    }

    #[tokio::test]
    async fn a_source_has_its_limit_for_one_change_from_the_file() {
        let text = "name = 'shop'\n[source]\npostgres = 'postgres://capture@db/shop'\nmost_message = '256 MiB'\n\
            [select]\ntables = ['public.*']\n[target]\nlog = 'sqlite:bus.db'\n";
        let config = read(text).unwrap();
        assert_eq!(config.source.most_message.map(|it| it.0), Some(256 << 20));
        let debug = format!("{:?}", capture(text).unwrap());
        assert!(debug.contains("shop"), "{debug}");
        let error = capture(&WHOLE.replacen("server_id = 4711", "most_message = '7 MiB'", 1))
            .map(drop)
            .unwrap_err();
        assert!(error.contains("are for `source.postgres`"), "{error}");
    }

    #[tokio::test]
    async fn a_mariadb_has_its_limit_and_what_it_passes_over_from_the_file() {
        let more = "server_id = 4711\nmax_event = '256 MiB'\npass_statements = true";
        let source = |text: &str| {
            let source = read(text).unwrap().source;
            let source = source.mariadb(source.mysql.as_ref().unwrap());
            format!("{:?}", source.unwrap())
        };
        let debug = source(&WHOLE.replacen("server_id = 4711", more, 1));
        assert!(debug.contains("most: 268435456"), "{debug}");
        assert!(debug.contains("pass_statements: true"), "{debug}");
        let debug = source(WHOLE);
        assert!(debug.contains("pass_statements: false"), "{debug}");
        for key in ["max_event = '7 MiB'", "pass_statements = true"] {
            let text = format!(
                "name = 'shop'\n[source]\npostgres = 'postgres://capture@db/shop'\n{key}\n[select]\n\
                 tables = ['public.*']\n[target]\nlog = 'sqlite:bus.db'\n"
            );
            let error = capture(&text).map(drop).unwrap_err();
            assert!(error.contains("for `source.mysql`"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let cases = [
            (
                "[target]\n",
                "[target]\nlog = 'sqlite:a.db'\n",
                "one of `log` and `rabbitmq`",
            ),
            (
                "server_id = 4711\n",
                "slot = 'a'\n",
                "are for `source.postgres`",
            ),
            (
                "mysql = {",
                "postgres = 'postgres://capture@db/a'\nmysql = {",
                "one of `postgres` and `mysql`",
            ),
            (
                "file = '/var/lib/final/shop.position'\n",
                "",
                "position.file",
            ),
            (
                "from = 'file:mysql-bin.000010:1234'",
                "from = 'mysql-bin.000010'",
                "is no position",
            ),
            ("topic = 'shop{table}'", "topic = 'shop{tabel}'", "tabel"),
            (
                "topic = 'shop{table}'",
                "topic = 'shop.*.{table}'",
                "wildcards",
            ),
            ("lease = '10s'", "lease = '0s'", "`lease` is too short"),
            (
                "max_message = '1 MiB'",
                "max_message = 0",
                "`target.max_message`",
            ),
            ("server_id = 4711", "max_event = 7", "`source.max_event`"),
            ("max_message =", "max_mesage =", "capture.toml:25:1"),
            (
                "hash_key = { text = 'sixteen bytes or more' }\n",
                "",
                "hash",
            ),
        ];
        for (from, to, said) in cases {
            let text = WHOLE.replacen(from, to, 1);
            assert_ne!(text, WHOLE, "{from}");
            let error = capture(&text).map(drop).unwrap_err();
            assert!(error.contains(said), "{from}: {error}");
        }
    }
}
