//! What the source says of itself.
//!
//! Input: a connection. Output: [`Facts`], which the checks judge; the oldest and the newest point that is there.

use std::collections::HashMap;

use mysql_async::{Conn, Error, Row, prelude::Queryable};

use super::{filter::Filter, place::PositionBy};
use crate::{position::SourcePoint, table::TableName};

/// What the source says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) server_id: u32,
    pub(super) hostname: String,
    pub(super) port: u16,
    pub(super) settings: HashMap<String, String>,
    /// Whether it copies another server. If the user may not ask for that, whether it looks like it.
    pub(super) is_replica: bool,
    /// Distributed transactions that are prepared and not finished.
    pub(super) prepared: u64,
    /// Which schemas it writes to its log.
    pub(super) filter: Filter,
}

/// The settings that matter. One that a server does not have is not there.
const SETTINGS: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'server_id', 'hostname', 'port', 'log_bin', \
     'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options', 'log_slave_updates', \
     'binlog_expire_logs_seconds', 'expire_logs_days', 'gtid_binlog_pos', 'gtid_slave_pos', 'lower_case_table_names', 'max_allowed_packet', 'gtid_strict_mode', 'encrypt_binlog', \
     'mysql56_temporal_format', 'binlog_transaction_compression')";

impl Facts {
    /// Asks for them.
    pub(super) async fn ask(conn: &mut Conn) -> Result<Self, Error> {
        let settings: Vec<(String, String)> = conn.query(SETTINGS).await?;
        let settings: HashMap<String, String> = settings
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .collect();
        let text = |name: &str| settings.get(name).cloned().unwrap_or_default();
        // Each needs a right that a capture does not need for anything else, so a refusal is an answer.
        let is_replica = match conn.query::<Row, _>("SHOW ALL SLAVES STATUS").await {
            Ok(copied) => !copied.is_empty(),
            Err(Error::Server(_)) => !text("gtid_slave_pos").is_empty() || is_copying(conn).await?,
            Err(error) => return Err(error),
        };
        let prepared = conn
            .query::<Row, _>("XA RECOVER")
            .await
            .map_or(0, |rows| rows.len());
        let filter = conn
            .query_first::<Row, _>("SHOW MASTER STATUS")
            .await
            .ok()
            .flatten()
            .map(|mut row| {
                let mut list = |at| row.take_opt::<String, _>(at).and_then(Result::ok);
                let (only, never) = (list(2), list(3));
                Filter::new(&only.unwrap_or_default(), &never.unwrap_or_default())
            });
        Ok(Self {
            version: text("version"),
            server_id: text("server_id").parse().unwrap_or_default(),
            hostname: text("hostname"),
            port: text("port").parse().unwrap_or_default(),
            settings,
            is_replica,
            prepared: u64::try_from(prepared).unwrap_or(u64::MAX),
            filter: filter.unwrap_or_default(),
        })
    }

    /// A setting's value, empty if the server has none of that name.
    pub(super) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).map_or("", String::as_str)
    }

    /// The largest statement that it takes, in bytes.
    pub(super) fn most_packet(&self) -> u64 {
        self.setting("max_allowed_packet")
            .parse()
            .unwrap_or(u64::MAX)
    }

    /// Whether it is MariaDB.
    pub(super) fn is_mariadb(&self) -> bool {
        self.version.contains("MariaDB")
    }
}

/// Whether a task copies another server now. No right is needed to ask.
async fn is_copying(conn: &mut Conn) -> Result<bool, Error> {
    let running: Option<(String, String)> = conn
        .query_first("SHOW GLOBAL STATUS LIKE 'Slaves_running'")
        .await?;
    Ok(running.is_some_and(|(_, count)| count != "0"))
}

/// The point of now: behind all that is committed.
pub(super) async fn newest(conn: &mut Conn, by: PositionBy) -> Result<Option<SourcePoint>, Error> {
    Ok(match by {
        PositionBy::Gtid => conn
            .query_first::<Option<String>, _>("SELECT @@GLOBAL.gtid_binlog_pos")
            .await?
            .flatten()
            .map(|gtids| SourcePoint::Gtid(gtids.into())),
        PositionBy::File => {
            let row: Option<Row> = conn.query_first("SHOW MASTER STATUS").await?;
            row.and_then(|mut row| {
                let file: String = row.take(0)?;
                Some(SourcePoint::File {
                    file: file.into(),
                    offset: row.take(1)?,
                })
            })
        }
    })
}

/// The oldest point that is still there, if the server tells.
pub(super) async fn oldest(conn: &mut Conn, by: PositionBy) -> Option<SourcePoint> {
    let files: Vec<Row> = conn.query("SHOW BINARY LOGS").await.ok()?;
    let file: String = files.into_iter().next()?.take(0)?;
    match by {
        PositionBy::File => Some(SourcePoint::File {
            file: file.into(),
            offset: super::place::FIRST,
        }),
        PositionBy::Gtid => conn
            .exec_first::<Option<String>, _, _>("SELECT BINLOG_GTID_POS(?, 4)", (file,))
            .await
            .ok()??
            .map(|gtids| SourcePoint::Gtid(gtids.into())),
    }
}

/// Columns whose values are stored as BINARY(16) or BINARY(4), and are told otherwise.
pub(super) type Specials = HashMap<String, Special>;

/// A type that the stream tells as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Uuid,
    Inet6,
    Inet4,
}

/// Those columns of a table, as the catalog has them now.
pub(super) async fn specials(conn: &mut Conn, table: &TableName) -> Result<Specials, Error> {
    let rows: Vec<(String, String)> = conn
        .exec(
            "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
             AND DATA_TYPE IN ('uuid', 'inet6', 'inet4')",
            (&*table.schema, &*table.table),
        )
        .await?;
    let special = |(name, kind): (String, String)| {
        let special = match kind.as_str() {
            "uuid" => Special::Uuid,
            "inet6" => Special::Inet6,
            _ => Special::Inet4,
        };
        (name, special)
    };
    Ok(rows.into_iter().map(special).collect())
}
