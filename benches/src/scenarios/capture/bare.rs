//! The same stream without us: the client library alone, and the database's own tool.
//!
//! The bare loop asks the client library for one row after the other. `pgwire-replication` gives the bytes of each, and
//! decodes no value. An event of MariaDB has hundreds of rows, so `mysql_async` has to decode them to give each. The
//! database's tool writes to `/dev/null`.

use std::{
    hint::black_box,
    process::Stdio,
    str::FromStr,
    time::{Duration, Instant},
};

use futures::StreamExt;
use mysql_async::{BinlogStreamRequest, binlog::events::EventData, prelude::Queryable};
use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};
use sqlx::postgres::PgConnectOptions;

use super::source::{CaptureSource, PUBLICATION};
use crate::Result;

/// The slot of the sides that are not ours.
const SLOT: &str = "bare";

/// A point of the stream after which everything is to be read.
#[derive(Debug)]
pub(super) enum Mark {
    Postgres,
    MariaDb { file: String, offset: u64 },
}

/// Marks the point of now. On PostgreSQL it makes a slot.
pub(super) async fn mark(source: &CaptureSource) -> Result<Mark> {
    match source {
        CaptureSource::Postgres(_) => {
            let sql = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
            source.run(&sql).await?;
            Ok(Mark::Postgres)
        }
        CaptureSource::MariaDb(_) => {
            let (file, offset) = end_of_binlog(source).await?;
            Ok(Mark::MariaDb { file, offset })
        }
    }
}

pub(super) async fn unmark(source: &CaptureSource) -> Result<()> {
    match source {
        CaptureSource::Postgres(_) => source.forget(SLOT).await,
        CaptureSource::MariaDb(_) => Ok(()),
    }
}

async fn end_of_binlog(source: &CaptureSource) -> Result<(String, u64)> {
    let mut conn = mysql_async::Conn::from_url(source.url()).await?;
    let row: Option<mysql_async::Row> = conn.query_first("SHOW MASTER STATUS").await?;
    let row = row.ok_or("the server has no binary log")?;
    let file = row.get("File").ok_or("no file of the binary log")?;
    let offset = row.get("Position").ok_or("no place in the binary log")?;
    conn.disconnect().await?;
    Ok((file, offset))
}

/// The bare loop over so many rows.
pub(super) async fn read(source: &CaptureSource, mark: &Mark, rows: u64) -> Result<Duration> {
    match mark {
        Mark::Postgres => read_postgres(source, rows).await,
        Mark::MariaDb { file, offset } => read_mariadb(source, rows, file, *offset).await,
    }
}

async fn read_postgres(source: &CaptureSource, rows: u64) -> Result<Duration> {
    let start = Instant::now();
    let to = PgConnectOptions::from_str(&source.url())?;
    let config = ReplicationConfig::new(
        to.get_host(),
        to.get_username(),
        "",
        to.get_database().unwrap_or("postgres"),
        SLOT,
        PUBLICATION,
    )
    .with_port(to.get_port());
    let mut client = ReplicationClient::connect(config).await?;
    let (mut count, mut bytes) = (0, 0);
    while count < rows {
        match client.recv().await? {
            Some(ReplicationEvent::XLogData { data, .. }) => {
                if let Some(b'I' | b'U' | b'D') = data.first() {
                    count += 1;
                    bytes += data.len();
                }
            }
            Some(_) => {}
            None => return Err("the stream has ended".into()),
        }
    }
    let took = start.elapsed();
    client.shutdown().await?;
    match bytes {
        0 => Err("the bare loop has seen no rows".into()),
        _ => Ok(took),
    }
}

async fn read_mariadb(
    source: &CaptureSource,
    rows: u64,
    file: &str,
    offset: u64,
) -> Result<Duration> {
    let (last, end) = end_of_binlog(source).await?;
    let start = Instant::now();
    let conn = mysql_async::Conn::from_url(source.url()).await?;
    let request = BinlogStreamRequest::new(900)
        .with_filename(file.as_bytes())
        .with_pos(offset);
    let mut stream = conn.get_binlog_stream(request).await?;
    let (mut count, mut current) = (0, file.to_owned());
    loop {
        let event = stream.next().await.ok_or("the stream has ended")??;
        let header = event.header();
        // ROTATE_EVENT: the place in the file, then the name of the file.
        if header.event_type_raw() == 4 {
            let name = event.data().get(8..).unwrap_or_default();
            current = String::from_utf8_lossy(name)
                .trim_end_matches('\0')
                .to_owned();
        }
        if let Some(EventData::RowsEvent(event)) = event.read_data()? {
            let table = stream.get_tme(event.table_id());
            for row in event.rows(table.ok_or("rows of an unknown table")?) {
                black_box(row?);
                count += 1;
            }
        }
        if current.starts_with(&last) && u64::from(header.log_pos()) >= end {
            break;
        }
    }
    let took = start.elapsed();
    stream.close().await?;
    match count == rows {
        true => Ok(took),
        false => Err(format!("the bare loop has seen {count} rows of {rows}").into()),
    }
}

/// What the database's own tool is called.
pub(super) fn tool_name(source: &CaptureSource) -> &'static str {
    match source {
        CaptureSource::Postgres(_) => "pg_recvlogical",
        CaptureSource::MariaDb(_) => "mariadb-binlog -v",
    }
}

/// The database's own tool over the same stretch: `pg_recvlogical` writes pgoutput's bytes as they are, and
/// `mariadb-binlog` decodes rows into text, as it does for people.
pub(super) async fn by_tool(source: &CaptureSource, mark: &Mark) -> Result<Duration> {
    let words = match mark {
        Mark::Postgres => {
            let end = end_of_wal(source).await?;
            let options = [
                "proto_version=1".into(),
                format!("publication_names={PUBLICATION}"),
            ];
            let mut words = vec!["pg_recvlogical".to_owned()];
            words.extend([
                "--dbname".into(),
                source.url(),
                "--slot".into(),
                SLOT.into(),
            ]);
            words.extend([
                "--start".into(),
                "--no-loop".into(),
                "--file=/dev/null".into(),
            ]);
            words.push(format!("--endpos={end}"));
            words.extend(options.into_iter().flat_map(|it| ["--option".into(), it]));
            words
        }
        Mark::MariaDb { file, offset } => {
            let port = port(&source.url())?;
            let mut words = vec!["mariadb-binlog".to_owned(), "--no-defaults".into()];
            words.extend([
                "--read-from-remote-server".into(),
                "--host=127.0.0.1".into(),
            ]);
            words.extend(["--user=root".into(), format!("--port={port}")]);
            words.extend(["--verbose".into(), "--base64-output=decode-rows".into()]);
            words.extend(["--to-last-log".into(), format!("--start-position={offset}")]);
            words.extend(["--result-file=/dev/null".into(), file.clone()]);
            words
        }
    };
    let start = Instant::now();
    let done = tokio::task::spawn_blocking(move || {
        let (program, words) = words.split_first().ok_or("no program")?;
        let output = std::process::Command::new(program)
            .args(words)
            .stdin(Stdio::null())
            .output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(crate::BoxError::from(
                String::from_utf8_lossy(&output.stderr).into_owned(),
            )),
        }
    });
    done.await??;
    Ok(start.elapsed())
}

async fn end_of_wal(source: &CaptureSource) -> Result<String> {
    use sqlx::Connection as _;
    let mut conn = sqlx::PgConnection::connect(&source.url()).await?;
    let sql = "SELECT pg_current_wal_flush_lsn()::text";
    Ok(sqlx::query_scalar(sql).fetch_one(&mut conn).await?)
}

fn port(url: &str) -> Result<u16> {
    let rest = url.rsplit_once(':').ok_or("no port")?.1;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}
