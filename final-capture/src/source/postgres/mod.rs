//! PostgreSQL as a source: a logical replication slot, read by the output plugin `pgoutput`.
//!
//! Input: a URL, and the names of slot and publication. State: the slot at the server. Output: events.
//!
//! ```text
//!   wire (socket, TLS, login) ─▶ pgoutput (messages) ─▶ assembler (events) ─▶ stream (task) ─▶ reader
//!   catalog (sqlx) ─▶ check, tables, publication, slot: before the stream; watch: beside it
//! ```
//!
//! The server keeps its log until the slot is confirmed. Only what [`Reader::saved`] tells is confirmed, so the
//! confirmed point is never beyond the stored position. A slot that is confirmed further than that was made again, or
//! read by another: a gap.

mod address;
mod assembler;
mod catalog;
mod check;
mod evict;
mod fault;
#[cfg(any(test, feature = "__fuzzing"))]
pub(crate) mod fuzzing;
mod pgoutput;
mod publication;
mod reader;
mod slot;
mod stream;
mod tables;
mod types;
mod values;
mod watch;
mod wire;

use std::{fmt, sync::Arc, time::Duration};

use final_core::admin::doctor::{Finding, Level};
use futures::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch as latest},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{
    address::Address,
    assembler::Assembler,
    catalog::{Catalog, lsn_text},
    publication::Publication,
    reader::{Lag, PgReader},
    slot::Identity,
    stream::{Clock, Seen, Stream},
    watch::Watch,
    wire::Session,
};
use super::{OpenedSource, Reader, Source, SourceError};
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    select::Selection,
};

/// A PostgreSQL database as a source, release 15 or later.
///
/// The role needs the right to replicate. It makes slot and publication itself if it may create in the database and owns
/// the tables; else the check prints the statements for who may.
///
/// ```
/// use final_capture::source::postgres::PgSource;
///
/// let source = PgSource::new("postgres://capture:secret@db.example/shop?sslmode=verify-full")?
///     .slot("final_shop")?
///     .publication("final_shop")?;
/// # Ok::<(), final_capture::source::SourceError>(())
/// ```
#[derive(Clone)]
pub struct PgSource {
    address: Address,
    slot: String,
    publication: Publication,
    for_failover: bool,
    most_message: usize,
    silence: Duration,
    look_each: Duration,
}

impl PgSource {
    /// A source at a URL as libpq takes it: `postgres://user:password@host:5432/database`, with `sslmode`,
    /// `sslrootcert`, `sslcert`, `sslkey`, `connect_timeout` and `application_name` as parameters. Without a password in
    /// it, `PGPASSWORD` counts.
    ///
    /// Slot and publication are named `final_capture`.
    ///
    /// # Errors
    ///
    /// [`SourceError::Config`] if the URL is wrong.
    pub fn new(url: &str) -> Result<Self, SourceError> {
        Ok(Self {
            address: Address::parse(url)?,
            slot: "final_capture".to_owned(),
            publication: Publication {
                name: "final_capture".to_owned(),
                slot: "final_capture".to_owned(),
            },
            for_failover: false,
            most_message: 128 << 20,
            silence: Duration::from_secs(30),
            look_each: Duration::from_secs(5),
        })
    }

    /// The name of the slot. Each capture of a server needs one of its own.
    ///
    /// # Errors
    ///
    /// [`SourceError::Config`] if no slot can have that name: it has up to 63 lower-case letters, digits and `_`.
    pub fn slot(mut self, name: &str) -> Result<Self, SourceError> {
        self.slot = named("slot", name)?;
        self.publication.slot.clone_from(&self.slot);
        Ok(self)
    }

    /// The name of the publication. Each capture of a database needs one of its own, unless an operator made it.
    ///
    /// # Errors
    ///
    /// [`SourceError::Config`] if the name is not up to 63 lower-case letters, digits and `_`.
    pub fn publication(mut self, name: &str) -> Result<Self, SourceError> {
        self.publication.name = named("publication", name)?;
        Ok(self)
    }

    /// Makes the slot so that standbys get a copy of it, from PostgreSQL 17 on. After a promotion the capture goes on
    /// there. Without it, a promotion is a gap.
    #[must_use]
    pub fn failover(mut self, is_wanted: bool) -> Self {
        self.for_failover = is_wanted;
        self
    }

    /// The most bytes that one change may have. A larger one stops the capture. 128 MiB by default; the memory is taken
    /// only when such a change comes.
    #[must_use]
    pub fn most_message(mut self, bytes: usize) -> Self {
        self.most_message = bytes;
        self
    }

    /// How long the server may be silent before the connection counts as broken. It is asked for a sign of life each
    /// second. 30 seconds by default.
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = limit;
        self
    }

    /// How often the server is asked how far the slot is behind, and at each sixth time for new tables that are wanted.
    /// 5 seconds by default.
    #[must_use]
    pub fn look_each(mut self, pause: Duration) -> Self {
        self.look_each = pause.max(Duration::from_millis(10));
        self
    }

    async fn open_stream(
        &self,
        selection: &Selection,
        from: Option<&Position>,
    ) -> Result<OpenedSource, SourceError> {
        let catalog = Catalog::new(&self.address);
        let seen = check::look(&catalog, selection, &self.publication, &self.slot);
        let seen = self.in_time(seen).await?;
        if seen.is_standby {
            // It may be about to be promoted.
            return Err(SourceError::Away(
                "the server is a standby; the capture waits until it is promoted, or point it at the primary".into(),
            ));
        }
        refuse(seen.findings, from)?;
        let wanted = tables::wanted(&seen.tables, selection);
        let mut lost = None;
        let is_changed = self
            .publication
            .ensure(&catalog, seen.publication.as_ref(), &wanted, &mut lost)
            .await?;
        // A first start has nothing to lose.
        if let (Some(lost), Some(_)) = (lost, from) {
            return Err(lost);
        }
        let state = self.in_time(self.publication.look(&catalog)).await?;
        let publication = state.map(|state| state.oid).unwrap_or_default();

        let mut session = Session::open(&self.address, self.most_message)
            .await
            .map_err(fault::broken)?;
        let (system, timeline) = slot::identify(&mut session).await.map_err(fault::broken)?;
        let here = Identity {
            system,
            timeline,
            database: self.address.database.clone(),
            slot: self.slot.clone(),
            publication,
        };
        let there = slot::look(&mut session, &self.slot)
            .await
            .map_err(fault::broken)?;
        let point = match (from, &there) {
            (Some(from), there) => slot::resume(&mut session, &here, there.as_ref(), from).await?,
            (None, None) => slot::make(&mut session, &self.slot, self.for_failover).await?,
            (None, Some(there)) => {
                let Some(confirmed) = there.confirmed else {
                    return Err(SourceError::Busy(format!(
                        "the slot {} is being made, and waits for transactions that are open",
                        self.slot
                    )));
                };
                // What was committed before the tables were published cannot be decoded with them.
                match is_changed {
                    true => slot::end_of_log(&mut session).await?.max(confirmed),
                    false => confirmed,
                }
            }
        };
        if let Some(reader) = there.and_then(|it| it.reader) {
            evict::frozen(&catalog, &self.slot, reader).await?;
        }
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names '{}')",
            self.slot,
            lsn_text(point),
            self.publication.name
        );
        let (socket, frames) = session.start(&command).await.map_err(fault::broken)?;
        // Nobody else can move the slot from here on. Before, another reader could have.
        slot::still(&catalog, &here, point, from).await?;
        Ok(self.run(catalog, selection, &here, point, socket, frames))
    }

    /// Waits for the catalog, and not for ever.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, SourceError> {
        let limit = self.address.patience;
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(fault::catalog),
            Err(_) => Err(SourceError::Away(
                format!("the catalog was silent for {limit:?}").into(),
            )),
        }
    }

    fn run(
        &self,
        catalog: Catalog,
        selection: &Selection,
        here: &Identity,
        point: u64,
        socket: wire::Socket,
        frames: wire::Frames,
    ) -> OpenedSource {
        let (out, batches) = mpsc::unbounded_channel();
        let (saved, saves) = latest::channel(point);
        let stop = CancellationToken::new();
        // The watch can end the stream, and the reader can end both.
        let leave = stop.child_token();
        let seen = Arc::new(Seen::default());
        seen.received
            .fetch_max(point, std::sync::atomic::Ordering::Relaxed);
        let lag = Arc::new(Lag::default());
        let watch = Watch {
            catalog: catalog.clone(),
            slot: self.slot.clone(),
            publication: self.publication.clone(),
            wanted: selection.clone(),
            seen: Arc::clone(&seen),
            lag: Arc::clone(&lag),
            each: self.look_each,
            leave: leave.clone(),
            out: out.clone(),
        };
        let stream = Stream {
            socket,
            frames,
            assembler: Assembler::new(selection.clone(), point),
            catalog,
            saved: saves,
            seen,
            out,
            room: stream::room(),
            stop: leave.clone(),
            silence: self.silence,
            clock: Clock::new(point),
        };
        let reading = async move {
            stream.run().await;
            // The watch has nothing to watch then.
            leave.cancel();
        };
        OpenedSource {
            reader: Box::new(PgReader {
                batches,
                saved,
                lag,
                stop,
                tasks: vec![tokio::spawn(reading), tokio::spawn(watch.run())],
            }) as Box<dyn Reader>,
            identity: here.to_source(),
            point: SourcePoint::Lsn(point),
        }
    }
}

/// Ends the start if something would lose changes. Says the rest in the log.
fn refuse(findings: Vec<Finding>, from: Option<&Position>) -> Result<(), SourceError> {
    let (errors, rest): (Vec<_>, Vec<_>) = findings
        .into_iter()
        // With a position, a lost slot is a gap, which is told with the position.
        .filter(|finding| from.is_none() || finding.name != "source_slot_lost")
        .partition(|finding| finding.level == Level::Error);
    if !errors.is_empty() {
        return Err(SourceError::Refused(errors));
    }
    for finding in rest.iter().filter(|it| it.level == Level::Warning) {
        tracing::warn!(target: "final::capture", %finding, "the source is not as it should be");
    }
    Ok(())
}

fn named(what: &str, name: &str) -> Result<String, SourceError> {
    let is_fine = !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_');
    if is_fine {
        return Ok(name.to_owned());
    }
    Err(SourceError::Config(format!(
        "the name of the {what} is `{name}`; write 1 to 63 lower-case letters, digits and `_`"
    )))
}

impl Source for PgSource {
    fn check<'a>(
        &'a self,
        wanted: &'a Selection,
    ) -> BoxFuture<'a, Result<Vec<Finding>, SourceError>> {
        Box::pin(async move {
            let catalog = Catalog::new(&self.address);
            let seen = check::look(&catalog, wanted, &self.publication, &self.slot);
            let findings = self.in_time(seen).await.map(|seen| seen.findings);
            let _ = timeout(self.address.patience, catalog.0.close()).await;
            findings
        })
    }

    fn open<'a>(
        &'a self,
        wanted: &'a Selection,
        from: Option<&'a Position>,
    ) -> BoxFuture<'a, Result<OpenedSource, SourceError>> {
        Box::pin(self.open_stream(wanted, from))
    }

    fn shared(&self, ours: &SourceIdentity, theirs: &SourceIdentity) -> Option<String> {
        let (ours, theirs) = (Identity::parse(ours)?, Identity::parse(theirs)?);
        let is_same = ours.system == theirs.system && ours.slot == theirs.slot;
        is_same.then(|| format!("the slot {}", ours.slot))
    }

    fn place(&self) -> String {
        format!("{} (slot {})", self.address, self.slot)
    }
}

impl fmt::Debug for PgSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgSource")
            .field("address", &self.address)
            .field("slot", &self.slot)
            .field("publication", &self.publication.name)
            .finish_non_exhaustive()
    }
}
