//! Changes of many records at once. The table may refuse some of them.
//!
//! Input: the keys of records, and one [`RecordChange`] for all of them. State: the parts that are still to be
//! changed. Output: the keys that the table refuses, each with its error. A table refuses a record by a
//! trigger, a constraint, a charset or a size, and must not hold up the other records with it. A trigger can
//! also keep a record in silence; a removal therefore looks whether the record is gone.
//!
//! ```text
//!   all ─ done
//!    └─ refused ─▶ all, with a plain error text ─ done
//!                     └─ refused ─▶ each half by itself ─▶ … ─▶ one record ─ refused ─▶ with a plain text
//!                                                                                      └─ refused: told
//! ```

use std::time::Duration;

use super::Relay;
use crate::outbox::{PutBack, RecordId, Table};
use crate::{
    OutboxDatabase,
    database::{DbResult, limits::plain_text, refused::refuses_values},
};

/// How long a record is released for after the table has refused its change.
pub(super) const LATER: Duration = Duration::from_secs(60);

/// The lengths to which an error's text is cut, one after the other, if the table refuses it as it is.
const PLAIN: [usize; 3] = [200, 16, 0];

/// What is done to records.
pub(super) enum RecordChange {
    /// The broker holds them: deleted, or marked as acked if they are to be kept.
    Ack { keep: bool },
    /// Their time to live is over: deleted.
    Expire,
    /// Nothing can be sent to their topic now. With the reason.
    Park(String),
    /// They can never be sent as they are. With the reason.
    Fail(String),
    /// They are due again later.
    PutBack(PutBack),
    /// They are due again at once.
    Release,
}

/// A change under way: what is still to be changed, and what was refused.
pub(super) struct Changing {
    /// Each part is changed by one statement, the last one first.
    parts: Vec<Vec<RecordId>>,
    /// How many records there were at the beginning.
    all: usize,
    /// The records that are refused even alone, and why.
    pub(super) refused: Vec<(RecordId, sqlx::Error)>,
}

impl RecordChange {
    /// What to call the change in logs.
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

    /// Whether the records are gone afterwards, or acked. A record that stays would be sent again.
    fn is_removal(&self) -> bool {
        matches!(self, Self::Ack { .. } | Self::Expire)
    }

    /// The same change with its error text in ASCII and no longer than `most`. The table's charset may lack
    /// the characters of the text, or its column may be too short. `None` if the change has no text.
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
        ids: &[RecordId],
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

/// Why records are still in the table after a statement removed them without an error. `None` if they are not
/// there, or belong to another process.
async fn kept<DB: OutboxDatabase>(
    table: &Table<'_, DB>,
    ids: &[RecordId],
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
    /// A change of all these records, not begun.
    pub(super) fn new(ids: Vec<RecordId>) -> Self {
        Self {
            all: ids.len(),
            parts: vec![ids],
            refused: Vec::new(),
        }
    }

    /// Changes all records that the table does not refuse.
    ///
    /// After any other error it can be called again, and goes on with the parts that are left.
    pub(super) async fn run<DB: OutboxDatabase>(
        &mut self,
        relay: &Relay<DB>,
        change: &RecordChange,
    ) -> DbResult<()> {
        let table = relay.outbox.table()?;
        while let Some(part) = self.parts.last() {
            relay.counters.statements.add(1);
            let mut done = change.apply(&table, part).await;
            // Mostly the text that all share is at fault, or one record. So only the whole and the single
            // record try shorter texts, and not every half.
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
    /// Changes claimed records that are not in flight. Returns how many were changed; refused ones are
    /// released for a while.
    pub(super) async fn change(&self, ids: &[RecordId], change: &RecordChange) -> DbResult<usize> {
        let mut changing = Changing::new(ids.to_vec());
        changing.run(self, change).await?;
        for (id, error) in &changing.refused {
            self.refused(change, *id, error);
            // A record that cannot even be released is claimed again when its lease is over.
            match self.release_later(*id).await {
                Err(error) if refuses_values(&error) => {}
                released => {
                    released?;
                }
            }
        }
        Ok(ids.len() - changing.refused.len())
    }

    /// Releases a record whose change was refused. It is due again after [`LATER`].
    pub(super) async fn release_later(&self, id: RecordId) -> DbResult<u64> {
        self.outbox.table()?.release(&[id], LATER).await
    }

    /// Logs that the table refuses the change of a record.
    pub(super) fn refused(&self, change: &RecordChange, id: RecordId, error: &sqlx::Error) {
        let doing = change.doing();
        tracing::error!(
            target: "final::relay",
            service = self.service.as_str(), doing, %id, %error,
            "the outbox refuses to change a record, and is asked again later; look at the triggers and \
             constraints of the table"
        );
    }
}
