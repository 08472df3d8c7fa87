//! What does not move and why, in words.
//!
//! Input: the parts of an overview. Output: [`NotMoving`]s, the most important first.

use std::{fmt, time::Duration};

use uuid::Uuid;

use super::{Count, LetterSource, Overview, RecordOwner, Schema, overview::Firsts};

/// Something that does not move, and why. Its `Display` says it in one or two sentences.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotMoving {
    /// The tables are older than this release, or missing.
    Schema(super::Schema),
    /// Records that no process will ever send as they are.
    #[non_exhaustive]
    Failed {
        /// How many.
        count: Count,
        /// The error of the first.
        error: String,
    },
    /// A topic to which nothing can be sent.
    #[non_exhaustive]
    Parked {
        /// The topic.
        topic: String,
        /// How many records wait.
        count: Count,
        /// How long the oldest has been due.
        oldest: Duration,
        /// The last answer of the broker, if one is written down.
        reason: Option<String>,
    },
    /// Records are due, and no process has them.
    #[non_exhaustive]
    Due {
        /// How many are pending.
        count: Count,
        /// How long the oldest has been due.
        oldest: Duration,
        /// The last answer of the broker to the oldest, if one is written down.
        error: Option<String>,
    },
    /// A process is gone that had leased records.
    #[non_exhaustive]
    OwnerGone {
        /// The owner of the leases.
        owner: Uuid,
        /// How many records it left.
        records: Count,
    },
    /// Lanes of the group belong to no live member, so their messages wait.
    #[non_exhaustive]
    LanesWithoutMember {
        /// How many lanes.
        lanes: u32,
        /// Of how many.
        of: u32,
        /// How many messages wait.
        waiting: Count,
    },
    /// Messages are held, and what comes after them waits.
    #[non_exhaustive]
    Held {
        /// How many.
        count: Count,
        /// How long the first of them in the log has been held.
        age: Duration,
        /// Its topic.
        topic: String,
        /// Its key, if it has one.
        key: Option<String>,
        /// Why its handler failed last.
        reason: String,
        /// Whether it is tried again by itself.
        retries: bool,
    },
    /// Messages of the log have waited for long.
    #[non_exhaustive]
    Lag {
        /// How many wait.
        waiting: Count,
        /// How old the oldest unsettled one is.
        oldest: Duration,
    },
    /// Messages that no handler could handle.
    #[non_exhaustive]
    DeadLetters {
        /// Where they are.
        source: LetterSource,
        /// How many.
        count: Count,
        /// How long the oldest has been dead.
        oldest: Option<Duration>,
    },
}

/// What waits for no longer than this moves.
const PATIENCE: Duration = Duration::from_secs(60);

impl NotMoving {
    /// What does not move, the most important first.
    pub(super) fn all(overview: &Overview, firsts: &Firsts) -> Vec<Self> {
        let mut all = Vec::new();
        if let Some(outbox) = &overview.outbox {
            if matches!(outbox.schema, Schema::Older { .. } | Schema::Missing) {
                all.push(Self::Schema(outbox.schema));
            }
            if let Some(oldest) = firsts.oldest.filter(|oldest| *oldest >= PATIENCE)
                && !outbox.pending.is_zero()
                && outbox.in_hand.is_zero()
            {
                all.push(Self::Due {
                    count: outbox.pending,
                    oldest,
                    error: firsts.due.clone(),
                });
            }
            let parked = outbox.parked.iter().cloned();
            all.extend(parked.map(|parked| Self::Parked {
                topic: parked.topic,
                count: parked.count,
                oldest: parked.oldest,
                reason: parked.reason,
            }));
            if !outbox.failed.is_zero() {
                all.push(Self::Failed {
                    count: outbox.failed,
                    error: match &firsts.failed {
                        Some(error) => error.clone(),
                        None => "no reason is written down".to_owned(),
                    },
                });
            }
            let gone = |owner: &&RecordOwner| owner.left.is_none();
            all.extend(
                outbox
                    .owners
                    .iter()
                    .filter(gone)
                    .map(|gone| Self::OwnerGone {
                        owner: gone.owner,
                        records: gone.records,
                    }),
            );
        }
        if let Some(group) = &overview.group {
            let stand_still = group.lanes_without_member > 0 && !group.waiting.is_zero();
            if stand_still {
                all.push(Self::LanesWithoutMember {
                    lanes: group.lanes_without_member,
                    of: group.lanes,
                    waiting: group.waiting,
                });
            }
            if let Some(first) = overview.held.first() {
                all.push(Self::Held {
                    count: group.held,
                    age: first.age,
                    topic: first.topic.clone(),
                    key: first.key.clone(),
                    reason: first.reason.clone(),
                    retries: first.retry_in.is_some(),
                });
            } else if !stand_still
                && let Some(oldest) = group.oldest.filter(|oldest| *oldest >= PATIENCE)
            {
                all.push(Self::Lag {
                    waiting: group.waiting,
                    oldest,
                });
            }
        }
        all.extend(overview.dead.iter().map(|dead| Self::DeadLetters {
            source: dead.source,
            count: dead.count,
            oldest: dead.oldest,
        }));
        all
    }
}

impl fmt::Display for NotMoving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schema(schema) => write!(f, "The outbox cannot be trusted to work: {schema}."),
            Self::Due {
                count,
                oldest,
                error,
            } => {
                write!(
                    f,
                    "{count} pending, the oldest due for {}, and no process has them: the service does not run, or \
                     its broker is away.",
                    Spoken(*oldest)
                )?;
                match error {
                    Some(error) => write!(f, " The last answer to the first of them: {error}."),
                    None => Ok(()),
                }
            }
            Self::Parked {
                topic,
                count,
                oldest,
                reason,
            } => {
                write!(
                    f,
                    "{count} of topic {topic:?} cannot be sent, the oldest due for {}",
                    Spoken(*oldest)
                )?;
                match reason {
                    Some(reason) => write!(f, ": {reason}."),
                    None => f.write_str(". No answer of the broker is written down."),
                }
            }
            Self::Failed { count, error } => write!(
                f,
                "{count} failed and will never be sent as they are; the first because: {error}. Retry or discard \
                 them."
            ),
            Self::OwnerGone { owner, records } => write!(
                f,
                "Process {owner} is gone, or stands still, and left {records} unfinished. Another process takes \
                 them over."
            ),
            Self::LanesWithoutMember { lanes, of, waiting } => write!(
                f,
                "{lanes} of {of} lanes belong to no running process, and {waiting} messages of the log wait. Start \
                 the service, or forget its group if it does not come back."
            ),
            Self::Held {
                count,
                age,
                topic,
                key,
                reason,
                retries,
            } => {
                write!(
                    f,
                    "{count} messages are held, and what comes after them waits. The first, of topic {topic:?}"
                )?;
                if let Some(key) = key {
                    write!(f, " and key {key:?}")?;
                }
                write!(f, ", for {}: {reason}. ", Spoken(*age))?;
                f.write_str(match retries {
                    true => "It is tried again by itself; mend its cause, or skip it.",
                    false => {
                        "It is not tried again by itself; mend its cause and retry it, or skip it."
                    }
                })
            }
            Self::Lag { waiting, oldest } => write!(
                f,
                "{waiting} messages of the log wait, and the oldest unsettled one is {} old: the handlers are slow, \
                 or one of them does not end.",
                Spoken(*oldest)
            ),
            Self::DeadLetters {
                source,
                count,
                oldest,
            } => {
                write!(f, "{count} dead letters ({source})")?;
                if let Some(oldest) = oldest {
                    write!(f, ", the oldest for {}", Spoken(*oldest))?;
                }
                f.write_str(". Replay them once their cause is mended, or discard them.")
            }
        }
    }
}

/// A length of time as a person says it: its two largest units.
pub(super) struct Spoken(pub(super) Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
            (0, 0, 0) if seconds == 0 => write!(f, "{} ms", self.0.as_millis()),
            (0, 0, 0) => write!(f, "{seconds} s"),
            (0, 0, minutes) => write!(f, "{minutes} min {} s", seconds % 60),
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min"),
            (days, hours, _) => write!(f, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_said_by_its_two_largest_units() {
        let spoken = |seconds| Spoken(Duration::from_secs(seconds)).to_string();

        assert_eq!(Spoken(Duration::from_millis(7)).to_string(), "7 ms");
        assert_eq!(spoken(59), "59 s");
        assert_eq!(spoken(61), "1 min 1 s");
        assert_eq!(spoken(7_320), "2 h 2 min");
        assert_eq!(spoken(3 * 86_400 + 7_200), "3 d 2 h");
    }
}
