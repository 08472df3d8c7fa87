//! The reader: takes batches of the stream's task, and plays them.
//!
//! Input: a [`Dump`]. State: what was taken and not played yet, see [`Groups`] and [`Player`]. Output: a capture's
//! events. Nothing is lost when a call is dropped, because all that waits is kept here and not in the future.

use std::{collections::VecDeque, fmt};

use futures::future::BoxFuture;

use super::{
    dump::{Batch, Dump},
    groups::{Groups, Next, Piece},
    newest::Newest,
    opener::{Opened, Opener},
    play::Player,
    raw::{self, RawEvent},
    server::Specials,
};
use crate::{
    position::{Position, SourcePoint},
    source::{Event, Reader, SourceError, SourceLag},
    table::TableName,
};

/// How often each type of events was seen.
#[derive(Debug)]
struct Seen([u64; 256]);

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.iter().zip(0_u8..).filter(|(count, _)| **count > 0);
        for (at, (count, kind)) in seen.enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{}={count}", raw::name(kind))?;
        }
        Ok(())
    }
}

// Whoever looks for a cause wants to know what the stream was made of.
impl Drop for BinlogReader {
    fn drop(&mut self) {
        tracing::debug!(
            target: "final::capture",
            source = self.opener.place(),
            events = %self.seen,
            "the stream of the binary log has ended",
        );
    }
}

/// An open stream of a MariaDB.
pub(super) struct BinlogReader {
    opener: Opener,
    dump: Option<Dump>,
    reopening: Option<Doing<Opened>>,
    /// A question to the catalog, and the piece that waits for the answer.
    asking: Option<(Piece, TableName, Doing<Specials>)>,
    raw: VecDeque<RawEvent>,
    groups: Groups,
    player: Player,
    seen: Seen,
    newest: Newest,
}

/// Something that goes on where it was if a call is dropped.
type Doing<T> = BoxFuture<'static, Result<T, SourceError>>;

impl BinlogReader {
    pub(super) fn new(
        opener: Opener,
        dump: Dump,
        first: Vec<Batch>,
        groups: Groups,
        player: Player,
    ) -> Self {
        let newest = opener.watch();
        Self {
            opener,
            dump: Some(dump),
            reopening: None,
            asking: None,
            raw: first.into_iter().flat_map(Batch::take).collect(),
            groups,
            player,
            seen: Seen([0; 256]),
            newest,
        }
    }

    /// Plays what is there, up to about so many bytes. True if a caller has something to do.
    fn play(&mut self, events: &mut Vec<Event>, most: usize) -> Result<bool, SourceError> {
        if self.asking.is_some() {
            return Ok(false);
        }
        let before = events.len();
        let mut bytes = 0;
        loop {
            while let Some(piece) = self.groups.take() {
                if let Some(table) = self.player.asks(&piece) {
                    let (opener, name) = (self.opener.clone(), table.clone());
                    let answer = Box::pin(async move { opener.special(&name).await });
                    self.asking = Some((piece, table, answer));
                    return Ok(events.len() > before);
                }
                let played = self.player.play(piece, events);
                bytes += played.map_err(|cannot| self.cannot(cannot.0))?;
                if bytes >= most {
                    return Ok(true);
                }
            }
            let Some(event) = self.raw.pop_front() else {
                break;
            };
            if let Some(count) = self.seen.0.get_mut(usize::from(event.kind)) {
                *count += 1;
            }
            match self.groups.put(event) {
                Ok(Next::Read) => {}
                Ok(Next::Again(point)) => {
                    self.raw.clear();
                    self.dump = None;
                    let opener = self.opener.clone();
                    self.reopening = Some(Box::pin(async move { opener.open(&point).await }));
                    break;
                }
                Err(cannot) => return Err(self.cannot(cannot.0)),
            }
        }
        if let Some(point) = self.player.quiet() {
            events.push(Event::Quiet(point));
        }
        Ok(events.len() > before)
    }

    fn cannot(&self, what: String) -> SourceError {
        SourceError::Unreadable {
            after: self.groups.point(),
            what,
        }
    }

    async fn fill(&mut self) -> Result<(), SourceError> {
        if let Some((_, _, answer)) = &mut self.asking {
            let answer = answer.await;
            if let Some((piece, table, _)) = self.asking.take() {
                self.player.answered(&piece, table, answer?);
                self.groups.give_back(piece);
            }
            return Ok(());
        }
        if let Some(reopening) = &mut self.reopening {
            let opened = reopening.await;
            self.reopening = None;
            let (dump, first, place) = opened?;
            self.raw.extend(first.into_iter().flat_map(Batch::take));
            self.groups.reopened(place);
            self.player.reopened();
            self.dump = Some(dump);
        }
        let Some(dump) = &mut self.dump else {
            return Err(SourceError::Away("the stream has ended".into()));
        };
        match dump.next().await {
            Ok(batch) => self.raw.extend(batch.take()),
            Err(ended) => {
                self.dump = None;
                let position = Position {
                    identity: self.opener.identity.clone(),
                    point: self.groups.point(),
                    partial: None,
                };
                let opener = self.opener.clone();
                return Err(opener.error(ended, position).await);
            }
        }
        Ok(())
    }
}

impl Reader for BinlogReader {
    fn read<'a>(
        &'a mut self,
        events: &'a mut Vec<Event>,
        most: usize,
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            while !self.play(events, most)? {
                self.fill().await?;
            }
            Ok(())
        })
    }

    fn saved(&mut self, _point: &SourcePoint) {
        // The server keeps its files by their age, and not for a reader.
    }

    fn lag(&self) -> SourceLag {
        let (file, offset) = self.groups.in_file();
        SourceLag {
            retained_bytes: None,
            unread_bytes: self.newest.behind(file, offset),
        }
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(dump) = self.dump.take() {
                dump.close().await;
            }
        })
    }
}
