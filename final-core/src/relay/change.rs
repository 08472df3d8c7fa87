//! A change of many records. The table may refuse one of them: by a trigger, a constraint, a charset or a
//! size.

use std::time::Duration;

use uuid::Uuid;

use super::Relay;
use crate::outbox::{PutBack, Table};
use crate::{
    OutboxDatabase,
    database::{DbResult, limits::plain_text, refused::refuses_values},
};

/// How long a record waits that the table does not let go where it belongs.
pub(super) const LATER: Duration = Duration::from_secs(60);

/// How long an error's text may be, if the table does not take it as it is.
const PLAIN: [usize; 3] = [200, 16, 0];

/// What is done to records.
pub(super) enum Change {
    /// The broker holds them.
    Ack {
        keep: bool,
    },
    /// Their time to live is over.
    Expire,
    Park(String),
    Fail(String),
    PutBack(PutBack),
    Release,
}

/// What is still to be changed, and what was refused.
pub(super) struct Changing {
    parts: Vec<Vec<Uuid>>,
    /// How many there were.
    all: usize,
    /// Those records that are refused alone, and why.
    pub(super) refused: Vec<(Uuid, sqlx::Error)>,
}

impl Change {
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Ack { .. } => "acking records",
            Self::Expire => "removing expired records",
            Self::Park(_) => "parking records",
            Self::Fail(_) => "marking records as failed",
            Self::PutBack(_) => "putting records back",
            Self::Release => "releasing records",
        }
    }

    /// Whether the records are gone afterwards, or acked: a record that stays would be sent again.
    fn is_removal(&self) -> bool {
        matches!(self, Self::Ack { .. } | Self::Expire)
    }

    /// The same with an error's text in ASCII: the table's charset may not have its characters, or its column
    /// no room.
    fn in_plain_words(&self, most: usize) -> Option<Self> {
        match self {
            Self::Park(error) => Some(Self::Park(plain_text(error, most))),
            Self::Fail(error) => Some(Self::Fail(plain_text(error, most))),
            Self::PutBack(how) => Some(Self::PutBack(PutBack {
                error: plain_text(&how.error, most),
                ..how.clone()
            })),
            Self::Ack { .. } | Self::Expire | Self::Release => None,
        }
    }

    async fn apply<DB: OutboxDatabase>(
        &self,
        table: &Table<'_, DB>,
        ids: &[Uuid],
    ) -> DbResult<u64> {
        match self {
            Self::Ack { keep } => table.ack(ids, *keep).await,
            Self::Expire => table.ack(ids, false).await,
            Self::Park(error) => table.park(ids, error).await,
            Self::Fail(error) => table.fail(ids, error).await,
            Self::PutBack(how) => table.put_back(ids, how).await,
            Self::Release => table.release(ids, Duration::ZERO).await,
        }
    }
}

/// Why records are in the table though a statement has removed them without an error. `None` if they are not
/// there, or not ours.
async fn kept<DB: OutboxDatabase>(
    table: &Table<'_, DB>,
    ids: &[Uuid],
) -> DbResult<Option<sqlx::Error>> {
    match table.renew(ids).await {
        Ok(0) => Ok(None),
        Ok(_) => {
            let text = "the table kept a record and gave no error; a trigger or a rule of the table \
                        passes it over";
            Ok(Some(sqlx::Error::Configuration(text.into())))
        }
        Err(error) if refuses_values(&error) => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

impl Changing {
    pub(super) fn new(ids: Vec<Uuid>) -> Self {
        Self {
            all: ids.len(),
            parts: vec![ids],
            refused: Vec::new(),
        }
    }

    /// Changes all of them at once; where that is refused, halves of them; one that is refused alone, with a
    /// text that is taken. After any other error it can be called again, and goes on with the rest.
    pub(super) async fn run<DB: OutboxDatabase>(
        &mut self,
        relay: &Relay<DB>,
        change: &Change,
    ) -> DbResult<()> {
        let table = relay.store.table()?;
        while let Some(part) = self.parts.last() {
            relay.counters.statements.add(1);
            let mut done = change.apply(&table, part).await;
            // Mostly the text is at fault, which they share, or one record. Not each half tries each text.
            if part.len() == 1 || part.len() == self.all {
                for plain in PLAIN.iter().filter_map(|most| change.in_plain_words(*most)) {
                    if !matches!(&done, Err(error) if refuses_values(error)) {
                        break;
                    }
                    relay.counters.statements.add(1);
                    done = plain.apply(&table, part).await;
                }
            }
            let refusal = match done {
                Err(error) if !refuses_values(&error) => return Err(error),
                Err(error) => Some(error),
                Ok(done) if change.is_removal() && done < part.len() as u64 => {
                    relay.counters.statements.add(1);
                    kept(&table, part).await?
                }
                Ok(_) => None,
            };
            self.split(refusal);
        }
        Ok(())
    }

    /// Goes on to the next part, or to the halves of this one if it was refused.
    fn split(&mut self, refusal: Option<sqlx::Error>) {
        let (Some(mut part), Some(error)) = (self.parts.pop(), refusal) else {
            return;
        };
        if let [id] = part[..] {
            self.refused.push((id, error));
        } else {
            let half = part.split_off(part.len() / 2);
            self.parts.extend([half, part]);
        }
    }
}

impl<DB: OutboxDatabase> Relay<DB> {
    /// Changes claimed records that are not in flight. Those that are refused are due again later. How many
    /// were not.
    pub(super) async fn change(&self, ids: &[Uuid], change: &Change) -> DbResult<usize> {
        let mut changing = Changing::new(ids.to_vec());
        changing.run(self, change).await?;
        for (id, error) in &changing.refused {
            self.refused(change, *id, error);
            // What cannot even be made due later is claimed again when its lease is over.
            match self.release_later(*id).await {
                Err(error) if refuses_values(&error) => {}
                released => {
                    released?;
                }
            }
        }
        Ok(ids.len() - changing.refused.len())
    }

    pub(super) async fn release_later(&self, id: Uuid) -> DbResult<u64> {
        self.store.table()?.release(&[id], LATER).await
    }

    pub(super) fn refused(&self, change: &Change, id: Uuid, error: &sqlx::Error) {
        let doing = change.doing();
        tracing::error!(
            service = self.service.as_str(), doing, %id, %error,
            "the outbox does not take a change of this record, and is asked again later; look at the \
             triggers and constraints of the table"
        );
    }
}
