//! Opens the stream of a MariaDB behind a point, for the source and again for its reader.
//!
//! Input: the server, a point. Output: a stream that the server has begun, or an error with what is still there.

use std::{sync::Arc, time::Duration};

use mysql_async::{Conn, prelude::Queryable};

use super::{
    connect::Server,
    dump::{Batch, Dump},
    ended::Ended,
    newest::Newest,
    patience::Patience,
    place::{Place, PositionBy},
    raw::{Meaning, RawEvent},
    server::{self, Specials},
};
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    source::{Gap, SourceError},
    table::TableName,
};

/// How a stream is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) by: PositionBy,
    pub(super) server_id: u32,
    pub(super) most: usize,
    pub(super) hold: usize,
    pub(super) heartbeat: Duration,
    pub(super) pass_statements: bool,
}

/// The server does not answer as it should. What it says of the login is the same at the next try.
pub(super) fn away(error: mysql_async::Error) -> SourceError {
    match &error {
        mysql_async::Error::Server(server) if LOGIN.contains(&server.code) => {
            SourceError::Config(format!(
                "the server refused the login: {} (error {}); mend the user or the password of the source. `SELECT user, host \
                 FROM mysql.user` shows which user a host gets: one with a nearer host counts before `'%'`",
                server.message, server.code
            ))
        }
        _ => SourceError::Away(Box::new(error)),
    }
}

/// Refused logins: a wrong password, no right to the database, no such database, no password, an account that is locked, a
/// password that has expired.
const LOGIN: [u16; 6] = [1045, 1044, 1049, 1698, 4151, 1862];

/// A stream that has begun: its task, what came already, and where it began.
pub(super) type Opened = (Dump, Vec<Batch>, Place);

/// Opens streams.
#[derive(Clone, Debug)]
pub(super) struct Opener {
    pub(super) server: Server,
    pub(super) options: Options,
    pub(super) identity: SourceIdentity,
    /// The server whose files a position by file is of.
    pub(super) files_of: u32,
    pub(super) patience: Patience,
}

impl Opener {
    /// Opens the stream behind a point, and waits until the server has found it.
    pub(super) async fn open(&self, point: &SourcePoint) -> Result<Opened, SourceError> {
        let position = || self.position(point);
        let mut conn = self.server.connect().await.map_err(away)?;
        let mut place = self.ask(&mut conn, point).await?;
        let (file, offset) = place.request();
        let Options {
            server_id,
            heartbeat,
            ..
        } = self.options;
        let silence = (heartbeat, self.patience.clone());
        let started = Dump::start(conn, server_id, &file, offset, silence).await;
        let mut dump = match started {
            Ok(dump) => dump,
            Err(ended) => return Err(self.error(ended, position()).await),
        };
        let mut first = Vec::new();
        loop {
            match dump.next().await {
                Ok(batch) => {
                    // The file is announced before its head. It is of interest before the first event is read.
                    let is_head = |event: &&RawEvent| event.meaning() == Meaning::Format;
                    let found = batch.events.iter().any(|event| is_head(&event));
                    let before = batch.events.iter().take_while(|event| !is_head(event));
                    for event in before.filter(|event| event.meaning() == Meaning::Rotate) {
                        // What is wrong with it is told where it is read.
                        let _ = place.pass(event);
                    }
                    first.push(batch);
                    if found {
                        return Ok((dump, first, place));
                    }
                }
                Err(ended) => return Err(self.error(ended, position()).await),
            }
        }
    }

    /// The server without its password, for logs.
    pub(super) fn place(&self) -> String {
        self.server.place()
    }

    /// The columns of a table whose type the stream does not tell.
    pub(super) async fn special(&self, table: &TableName) -> Result<Specials, SourceError> {
        let mut conn = self.server.connect().await.map_err(away)?;
        let specials = server::specials(&mut conn, table).await.map_err(away);
        let _ = conn.disconnect().await;
        specials
    }

    /// Looks how long the server's files are, again and again.
    pub(super) fn watch(&self) -> Newest {
        Newest::watch(self.server.clone(), self.options.heartbeat)
    }

    /// Tells the server what we can read, and where we are.
    async fn ask(&self, conn: &mut Conn, point: &SourcePoint) -> Result<Place, SourceError> {
        let nanos = self.options.heartbeat.as_nanos();
        // Capability 4 is a replica that knows GTIDs: the server then hides nothing from us.
        let mut set =
            format!("SET @master_heartbeat_period = {nanos}, @mariadb_slave_capability = 4");
        let place = match point {
            SourcePoint::Gtid(gtids) => {
                let gtids = gtids
                    .parse()
                    .map_err(|why| SourceError::Config(format!("the position {point}: {why}")))?;
                let place = Place::after_gtids(gtids);
                let SourcePoint::Gtid(gtids) = place.point() else {
                    return Err(SourceError::Config(format!(
                        "the position {point} is not valid"
                    )));
                };
                let known: Option<String> = conn
                    .query_first("SELECT @@GLOBAL.gtid_binlog_state")
                    .await
                    .map_err(away)?;
                if let Some(domain) = place.gtids().unknown_domain(&known.unwrap_or_default()) {
                    let why = format!(
                        "the source has no transaction of GTID domain {domain}, so it has none of those that we have. If \
                         the domain was removed on purpose, remove it from the position"
                    );
                    return Err(self.gap(why, self.position(point)).await);
                }
                set.push_str(&format!(
                    ", @slave_connect_state = '{gtids}', @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0"
                ));
                place
            }
            SourcePoint::File { file, offset } => {
                let id: Option<u32> = conn.query_first("SELECT @@server_id").await.map_err(away)?;
                if id != Some(self.files_of) {
                    return Err(SourceError::Away(
                        "another server answers in its place".into(),
                    ));
                }
                if u32::try_from(*offset).is_err() {
                    return Err(SourceError::Config(format!(
                        "the position {point} is beyond 4 GiB, where no reader can begin. Use `position_by = \"gtid\"`"
                    )));
                }
                Place::in_file(Arc::clone(file), *offset)
            }
            SourcePoint::Lsn(_) => {
                return Err(SourceError::Config(format!(
                    "the position {point} is one of PostgreSQL"
                )));
            }
        };
        conn.query_drop(set).await.map_err(away)?;
        // A taker that is slow for a while is not thrown out.
        conn.query_drop("SET SESSION net_write_timeout = 600")
            .await
            .map_err(away)?;
        Ok(place)
    }

    /// The error for an end, with what is still there if it is a gap.
    pub(super) async fn error(&self, ended: Ended, position: Position) -> SourceError {
        match ended {
            Ended::Away(error) => SourceError::Away(error),
            Ended::Busy(what) => SourceError::Busy(what),
            Ended::Unreadable(what) => SourceError::Unreadable {
                after: position.point,
                what,
            },
            Ended::Gone(why) => self.gap(why, position).await,
        }
    }

    fn position(&self, point: &SourcePoint) -> Position {
        Position {
            identity: self.identity.clone(),
            point: point.clone(),
            partial: None,
        }
    }

    async fn gap(&self, why: String, position: Position) -> SourceError {
        let by = match position.point {
            SourcePoint::Gtid(_) => PositionBy::Gtid,
            _ => PositionBy::File,
        };
        let oldest = match self.server.connect().await {
            Ok(mut conn) => {
                let oldest = server::oldest(&mut conn, by).await;
                let _ = conn.disconnect().await;
                oldest
            }
            Err(_) => None,
        };
        SourceError::Gap(Box::new(Gap {
            position,
            oldest,
            why,
        }))
    }
}
