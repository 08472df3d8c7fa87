//! Opens the stream of a MariaDB.
//!
//! Input: where the server is, and a position. Output: a stream that has begun behind that position, or why there is
//! none: settings that would lose changes, or a gap.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use final_core::admin::doctor::{Finding, Level};
use futures::future::BoxFuture;
use mysql_async::{Conn, prelude::Queryable};

use super::{
    characters, check,
    connect::Server,
    dump::{Batch, Dump},
    ended::Ended,
    groups::Groups,
    newest::Newest,
    place::{Place, PositionBy},
    play::Player,
    raw::{Meaning, RawEvent},
    reader::BinlogReader,
    server::{self, Facts, Specials},
    tables,
};
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
    source::{Gap, OpenedSource, Source, SourceError},
    table::TableName,
};

/// MariaDB as a source of changes, by its binary log.
///
/// ```no_run
/// # fn example() -> Result<(), final_capture::source::SourceError> {
/// use final_capture::source::mysql::MySqlSource;
///
/// let source = MySqlSource::new("mysql://capture:secret@db:3306/?ssl-mode=verify_identity&ssl-ca=/etc/ca.pem")?;
/// # drop(source);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MySqlSource {
    url: Arc<str>,
    server: Server,
    options: Options,
}

// The URL may have a password.
impl std::fmt::Debug for MySqlSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MySqlSource")
            .field("server", &self.server)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    by: PositionBy,
    server_id: u32,
    most: usize,
    hold: usize,
    heartbeat: Duration,
    pass_statements: bool,
}

/// The largest event by default.
const MOST: usize = 64 << 20;
/// How many bytes of a transaction are held until its end is known.
const HOLD: usize = 4 << 20;
const HEARTBEAT: Duration = Duration::from_secs(10);

impl MySqlSource {
    /// The server of a URL: `mysql://user:password@host:port/`, with `ssl-mode` (`preferred` by default, or `disabled`,
    /// `required`, `verify_identity`), `ssl-ca`, `ssl-cert`, `ssl-key`, and `ssl-hostname` where the certificate has
    /// another name than the URL. `verify_ca` checks the name as well.
    ///
    /// # Errors
    ///
    /// [`SourceError::Config`] if the URL is not valid.
    pub fn new(url: &str) -> Result<Self, SourceError> {
        // Ids of servers that people give are small.
        let chance = RandomState::new().hash_one(url);
        let server_id = u32::try_from(chance >> 33).unwrap_or(0) | 1 << 31;
        Ok(Self {
            url: url.into(),
            server: Server::new(url, MOST)?,
            options: Options {
                by: PositionBy::default(),
                server_id,
                most: MOST,
                hold: HOLD,
                heartbeat: HEARTBEAT,
                pass_statements: false,
            },
        })
    }

    /// How positions are told. By GTID unless this says otherwise.
    #[must_use]
    pub fn position_by(mut self, by: PositionBy) -> Self {
        self.options.by = by;
        self
    }

    /// The id by which the server knows this reader. It must be none that another reader or replica has: the server ends
    /// the stream of the older one of two. One above two thousand million by chance unless this says otherwise.
    #[must_use]
    pub fn server_id(mut self, id: u32) -> Self {
        self.options.server_id = id;
        self
    }

    /// The largest event, in bytes. A larger one stops the capture. 64 MiB unless this says otherwise.
    ///
    /// # Errors
    ///
    /// [`SourceError::Config`] if the URL is not valid.
    pub fn max_event(mut self, bytes: usize) -> Result<Self, SourceError> {
        self.options.most = bytes.clamp(1 << 10, 1 << 30);
        self.server = Server::new(&self.url, self.options.most)?;
        Ok(self)
    }

    /// How many bytes of a transaction are held until its end is known. A larger one is read twice. 4 MiB unless this
    /// says otherwise.
    #[must_use]
    pub fn hold(mut self, bytes: usize) -> Self {
        self.options.hold = bytes;
        self
    }

    /// How often the server gives a sign of life while nothing happens. After three times that without a word the
    /// connection is given up. 10 s unless this says otherwise.
    #[must_use]
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.options.heartbeat = every.max(Duration::from_millis(100));
        self
    }

    /// Passes over changes that were written as statements and not as rows, instead of stopping. Such changes are lost:
    /// only for a source where they never concern the captured tables.
    #[must_use]
    pub fn pass_statements(mut self, pass: bool) -> Self {
        self.options.pass_statements = pass;
        self
    }

    async fn connect(&self) -> Result<Conn, SourceError> {
        self.server.connect().await.map_err(away)
    }
}

pub(super) fn away(error: mysql_async::Error) -> SourceError {
    SourceError::Away(Box::new(error))
}

impl Source for MySqlSource {
    fn check<'a>(
        &'a self,
        wanted: &'a Selection,
    ) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>> {
        Box::pin(async move {
            let mut conn = self.connect().await?;
            let facts = Facts::ask(&mut conn).await.map_err(away)?;
            let findings = check::findings(&mut conn, &facts, self.options.server_id, wanted).await;
            let _ = conn.disconnect().await;
            findings.map_err(away)
        })
    }

    fn open<'a>(
        &'a self,
        wanted: &'a Selection,
        from: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>> {
        Box::pin(self.opened(wanted, from))
    }

    fn place(&self) -> String {
        self.server.place()
    }
}

impl MySqlSource {
    async fn opened(
        &self,
        wanted: &Selection,
        from: Option<&Position>,
    ) -> Result<OpenedSource, SourceError> {
        let mut conn = self.connect().await?;
        let facts = Facts::ask(&mut conn).await.map_err(away)?;
        let mut refused = check::settings(&facts, self.options.server_id);
        refused.extend(check::rights(&mut conn).await.map_err(away)?);
        let left_out = tables::left_out(&mut conn, &facts.filter, wanted).await;
        refused.extend(left_out.map_err(away)?);
        refused.extend(tables::rules(&mut conn, wanted).await.map_err(away)?);
        if from.is_none() {
            refused.extend(check::prepared(&facts));
        }
        refused.retain(|finding| finding.level == Level::Error);
        if !refused.is_empty() {
            return Err(SourceError::Refused(refused));
        }
        let charsets = Arc::new(characters::charsets(&mut conn).await.map_err(away)?);
        let point = match from {
            Some(position) => position.point.clone(),
            None => match server::newest(&mut conn, self.options.by)
                .await
                .map_err(away)?
            {
                Some(point) => point,
                None => {
                    return Err(SourceError::Away(
                        "the source does not tell where its log is".into(),
                    ));
                }
            },
        };
        let _ = conn.disconnect().await;

        let identity = self.identity(&facts, from)?;
        let opener = Opener {
            server: self.server.clone(),
            options: self.options,
            identity: identity.clone(),
            files_of: facts.server_id,
        };
        let (dump, first, place) = opener.open(&point).await?;
        let options = self.options;
        let groups = Groups::new(
            place,
            Arc::clone(&charsets),
            options.hold,
            options.most,
            options.pass_statements,
        );
        let player = Player::new(wanted.clone(), charsets, options.most);
        Ok(OpenedSource {
            reader: Box::new(BinlogReader::new(opener, dump, first, groups, player)),
            identity,
            point,
        })
    }

    /// Which history the changes are of. With GTIDs it stays that of the first start, as a failover goes on in it. By
    /// file it is the server's, whose files nobody else has.
    fn identity(
        &self,
        facts: &Facts,
        from: Option<&Position>,
    ) -> Result<SourceIdentity, SourceError> {
        // A position that was given by hand may be of the other kind, and goes on as that.
        let is_file = match from.map(|from| &from.point) {
            Some(point) => matches!(point, SourcePoint::File { .. }),
            None => self.options.by == PositionBy::File,
        };
        let by = if is_file { "file" } else { "gtid" };
        let own = format!(
            "mariadb:{by}:{}:{}:{}",
            facts.server_id, facts.hostname, facts.port
        );
        let Some(from) = from.filter(|from| !from.identity.0.is_empty()) else {
            return Ok(SourceIdentity(own.into()));
        };
        let part = |text: &str, at: usize| text.split(':').nth(at).map(str::to_owned);
        if is_file && part(&from.identity.0, 2) != part(&own, 2) {
            return Err(SourceError::Gap(Box::new(Gap {
                position: from.clone(),
                oldest: None,
                why: format!(
                    "the position is of {}, and this is server id {}: another server has other files. Give the source \
                     `position_by = \"gtid\"` to go on after a failover",
                    from.identity.0, facts.server_id
                ),
            })));
        }
        Ok(from.identity.clone())
    }
}

/// A stream that has begun: its task, what came already, and where it began.
pub(super) type Opened = (Dump, Vec<Batch>, Place);

/// Opens streams.
#[derive(Clone, Debug)]
pub(super) struct Opener {
    server: Server,
    options: Options,
    pub(super) identity: SourceIdentity,
    /// The server whose files a position by file is of.
    files_of: u32,
}

impl Opener {
    /// Opens the stream behind a point, and waits until the server has found it.
    pub(super) async fn open(&self, point: &SourcePoint) -> Result<Opened, SourceError> {
        let position = || self.position(point);
        let mut conn = self.server.connect().await.map_err(away)?;
        let mut place = self.ask(&mut conn, point).await?;
        let (file, offset) = place.request();
        let silence = self.options.heartbeat * 3;
        let started = Dump::start(conn, self.options.server_id, &file, offset, silence).await;
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
