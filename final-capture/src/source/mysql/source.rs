//! Opens the stream of a MariaDB.
//!
//! Input: where the server is, and a position. Output: a stream that has begun behind that position, or why there is
//! none: settings that would lose changes, or a gap.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use final_core::admin::doctor::{Finding, Level};
use futures::future::BoxFuture;
use mysql_async::Conn;

use super::{
    characters, check,
    connect::Server,
    groups::{GroupRules, Groups},
    opener::{Opener, Options, away},
    patience::Patience,
    place::PositionBy,
    play::Player,
    reader::BinlogReader,
    server::{self, Facts},
    tables,
};
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
    source::{Gap, OpenedSource, Source, SourceError},
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
    /// Whether the log has what is not as it should be. A stream is opened again after each outage.
    is_told: Arc<AtomicBool>,
    patience: Patience,
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
            is_told: Arc::default(),
            patience: Patience::default(),
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
    ///
    /// An event that has arrived only in part does not count. So the limit is doubled each time, up to 64 times as long, until
    /// a transaction has come.
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
        let (refused, mut rest): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .partition(|finding| finding.level == Level::Error);
        if !refused.is_empty() {
            return Err(SourceError::Refused(refused));
        }
        if !self.is_told.swap(true, Ordering::Relaxed) {
            rest.extend(tables::findings(&mut conn, wanted).await.map_err(away)?);
            for finding in rest.iter().filter(|it| it.level < Level::Note) {
                tracing::warn!(target: "final::capture", %finding, "the source is not as it should be");
            }
        }
        let charsets = characters::charsets(&mut conn, facts.most_packet()).await;
        let charsets = Arc::new(charsets.map_err(away)?);
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
            patience: self.patience.clone(),
        };
        let (dump, first, place) = opener.open(&point).await?;
        let options = self.options;
        let rules = GroupRules {
            hold: options.hold,
            most: options.most,
            pass_statements: options.pass_statements,
            lower_names: facts.setting("lower_case_table_names") == "1",
        };
        let groups = Groups::new(place, Arc::clone(&charsets), rules);
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
