//! The slot: whether it is still the one that our position belongs to.
//!
//! Input: a session, a position. Output: where the stream begins, or the gap.
//!
//! ```text
//!   no position, no slot ── make it ──▶ its first point
//!   no position, a slot ─────────────▶ its confirmed point
//!   a position ── another server, database, slot, publication ──▶ gap
//!              ── beyond the end of the server's log ──▶ gap
//!              ── another history of the server that left ours before the position ──▶ gap
//!              ── no slot, a slot that lost its log, a slot that is confirmed beyond the position ──▶ gap
//!              ── else ──▶ the position
//! ```

use std::time::Duration;

use super::{
    catalog::{Catalog, lsn_number, lsn_text},
    fault,
    wire::{Session, SessionError},
};
use crate::{
    position::{Position, SourceIdentity, SourcePoint},
    source::{Gap, SourceError},
};

/// How long a new slot may wait for the transactions that are open when it is made.
const MAKING: Duration = Duration::from_secs(120);

/// Which stream a position belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The number that a cluster is given when it is made.
    pub(super) system: String,
    /// Which history of the cluster. A promotion begins a new one.
    pub(super) timeline: u32,
    pub(super) database: String,
    pub(super) slot: String,
    /// The number of the publication. One that is made again has another.
    pub(super) publication: u32,
}

impl Identity {
    pub(super) fn to_source(&self) -> SourceIdentity {
        let Self {
            system,
            timeline,
            database,
            slot,
            publication,
        } = self;
        SourceIdentity(
            format!("postgres:{system}:{timeline}:{database}:{slot}:{publication}").into(),
        )
    }

    /// Reads it back. A database may have a colon in its name, and no other part can.
    pub(super) fn parse(identity: &SourceIdentity) -> Option<Self> {
        let rest = identity.0.strip_prefix("postgres:")?;
        let (system, rest) = rest.split_once(':')?;
        let (timeline, rest) = rest.split_once(':')?;
        let (rest, publication) = rest.rsplit_once(':')?;
        let (database, slot) = rest.rsplit_once(':')?;
        Some(Self {
            system: system.to_owned(),
            timeline: timeline.parse().ok()?,
            database: database.to_owned(),
            slot: slot.to_owned(),
            publication: publication.parse().ok()?,
        })
    }
}

/// A slot as the server shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) plugin: Option<String>,
    pub(super) database: Option<String>,
    pub(super) confirmed: Option<u64>,
    pub(super) wal_status: Option<String>,
    pub(super) is_two_phase: bool,
    pub(super) is_temporary: bool,
    /// The process that reads it.
    pub(super) reader: Option<i32>,
}

/// Looks at the slot, over the session that will read it: another connection may end at another server.
pub(super) async fn look(session: &mut Session, name: &str) -> Result<Option<Slot>, SessionError> {
    let sql = format!(
        "SELECT plugin, database, confirmed_flush_lsn::text, wal_status, two_phase, temporary, active_pid \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = '{name}'"
    );
    let mut rows = session.ask(&sql).await?.into_iter();
    let Some(row) = rows.next() else {
        return Ok(None);
    };
    let mut row = row.into_iter();
    let mut text = || row.next().flatten();
    Ok(Some(Slot {
        plugin: text(),
        database: text(),
        confirmed: text().as_deref().and_then(lsn_number),
        wal_status: text(),
        is_two_phase: text().as_deref() == Some("t"),
        is_temporary: text().as_deref() == Some("t"),
        reader: text().and_then(|pid| pid.parse().ok()),
    }))
}

/// Asks which server and which history of it this is.
pub(super) async fn identify(session: &mut Session) -> Result<(String, u32), SessionError> {
    let rows = session.ask("IDENTIFY_SYSTEM").await?;
    let row = rows.into_iter().next().unwrap_or_default();
    let mut row = row.into_iter().flatten();
    match (row.next(), row.next().and_then(|it| it.parse().ok())) {
        (Some(system), Some(timeline)) => Ok((system, timeline)),
        _ => Err(SessionError::Protocol(
            "the server did not say who it is".to_owned(),
        )),
    }
}

/// Makes the slot and gives its first point. The server waits for the transactions that are open now.
pub(super) async fn make(
    session: &mut Session,
    name: &str,
    for_failover: bool,
) -> Result<u64, SourceError> {
    let options = if for_failover {
        "(SNAPSHOT 'nothing', FAILOVER)"
    } else {
        "(SNAPSHOT 'nothing')"
    };
    let sql = format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput {options}");
    let rows = session.ask_patiently(&sql, MAKING).await;
    let rows = rows.map_err(|error| match error {
        SessionError::Silent(limit) => SourceError::Away(
            format!(
                "the slot {name} could not be made within {limit:?}, because it waits for transactions that are open; \
                 find them with `SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL \
                 ORDER BY xact_start` and `SELECT * FROM pg_prepared_xacts`"
            )
            .into(),
        ),
        SessionError::Server(error) if for_failover && error.message.contains("failover") => {
            SourceError::Config(format!(
                "a slot for standbys needs PostgreSQL 17 or later; leave `failover` out ({error})"
            ))
        }
        other => fault::broken(other),
    })?;
    let point = rows.first().and_then(|row| row.get(1)?.as_deref());
    point.and_then(lsn_number).ok_or_else(|| {
        SourceError::Away(format!("the server did not say where the slot {name} begins").into())
    })
}

/// Where the stream begins by this position, or the gap.
pub(super) async fn resume(
    session: &mut Session,
    here: &Identity,
    slot: Option<&Slot>,
    from: &Position,
) -> Result<u64, SourceError> {
    let confirmed = slot.and_then(|slot| slot.confirmed);
    let gap = |why: String| {
        SourceError::Gap(Box::new(Gap {
            position: from.clone(),
            oldest: confirmed.map(SourcePoint::Lsn),
            why,
        }))
    };
    let &SourcePoint::Lsn(point) = &from.point else {
        return Err(SourceError::Config(format!(
            "the position {from} is not one of PostgreSQL; write `lsn:16/B374D848`"
        )));
    };
    // An operator's own point names no server.
    if !from.identity.0.is_empty() {
        let Some(there) = Identity::parse(&from.identity) else {
            return Err(gap(format!(
                "the position is of another kind of source, {}",
                from.identity.0
            )));
        };
        if let Some(why) = differs(&there, here) {
            return Err(gap(why));
        }
        if there.timeline != here.timeline {
            let left = left_at(session, there.timeline, here.timeline).await?;
            if left.is_none_or(|left| left < point) {
                return Err(gap(format!(
                    "the server has the history {} now, which left the history {} before our position{}; a standby \
                     was promoted that had not received all",
                    here.timeline,
                    there.timeline,
                    left.map(|left| format!(", at {}", lsn_text(left)))
                        .unwrap_or_default()
                )));
            }
        }
    }
    // The server would skip all up to there, and the slot would move there for good.
    let end = end_of_log(session).await?;
    if point > end {
        return Err(gap(format!(
            "the server's log ends at {}, before our position: the server was set back to an older state (a snapshot \
             was restored, or its log was reset), or the position is mistyped",
            lsn_text(end)
        )));
    }
    let Some(slot) = slot else {
        return Err(gap(format!("the slot {} is gone", here.slot)));
    };
    if slot.wal_status.as_deref() == Some("lost") {
        return Err(gap(format!(
            "the slot {} lost its part of the log, because it was further behind than `max_slot_wal_keep_size` \
             allows, or was invalidated",
            here.slot
        )));
    }
    if slot.confirmed.is_some_and(|confirmed| confirmed > point) {
        return Err(gap(format!(
            "the slot {} is confirmed beyond our position: it was made again, or another reader had it",
            here.slot
        )));
    }
    Ok(point)
}

/// The end of the server's log.
pub(super) async fn end_of_log(session: &mut Session) -> Result<u64, SourceError> {
    let rows = session
        .ask("SELECT pg_catalog.pg_current_wal_insert_lsn()::text")
        .await
        .map_err(fault::broken)?;
    let text = rows.first().and_then(|row| row.first()?.as_deref());
    text.and_then(lsn_number)
        .ok_or_else(|| SourceError::Away("the server did not say where its log ends".into()))
}

/// Whether the slot, which is ours now, is still not confirmed beyond the point where the stream began.
pub(super) async fn still(
    catalog: &Catalog,
    here: &Identity,
    point: u64,
    from: Option<&Position>,
) -> Result<(), SourceError> {
    let confirmed: Option<String> = sqlx::query_scalar(
        "SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
    )
    .bind(&here.slot)
    .fetch_optional(&catalog.0)
    .await
    .map_err(fault::catalog)?
    .flatten();
    let confirmed = confirmed
        .as_deref()
        .and_then(lsn_number)
        .unwrap_or_default();
    match from {
        Some(from) if confirmed > point => Err(SourceError::Gap(Box::new(Gap {
            position: from.clone(),
            oldest: Some(SourcePoint::Lsn(confirmed)),
            why: format!("another reader had the slot {}", here.slot),
        }))),
        _ => Ok(()),
    }
}

fn differs(there: &Identity, here: &Identity) -> Option<String> {
    let (what, was, is) = if there.system != here.system {
        (
            "server, by its system identifier",
            &there.system,
            &here.system,
        )
    } else if there.database != here.database {
        ("database", &there.database, &here.database)
    } else if there.slot != here.slot {
        ("slot", &there.slot, &here.slot)
    } else if there.publication != here.publication {
        return Some(
            "the publication was made again, and what was written while it was not there is not in the stream".to_owned(),
        );
    } else {
        return None;
    };
    Some(format!("this is another {what}: {was} before, {is} now"))
}

/// Where the server's history left an older one. None if it never had the older one.
async fn left_at(session: &mut Session, older: u32, now: u32) -> Result<Option<u64>, SourceError> {
    if older > now {
        return Ok(None);
    }
    let sql = format!("TIMELINE_HISTORY {now}");
    let rows = session.ask(&sql).await.map_err(fault::broken)?;
    let content = rows
        .into_iter()
        .next()
        .and_then(|row| row.into_iter().nth(1).flatten())
        .unwrap_or_default();
    Ok(parse_history(&content, older))
}

/// Reads a file of history: lines of a timeline and the point where it was left.
fn parse_history(content: &str, older: u32) -> Option<u64> {
    content.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let timeline: u32 = words.next()?.parse().ok()?;
        let left = lsn_number(words.next()?)?;
        (timeline == older).then_some(left)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            system: "7301".to_owned(),
            timeline: 1,
            database: "my:shop".to_owned(),
            slot: "final_shop".to_owned(),
            publication: 16_500,
        }
    }

    #[test]
    fn an_identity_is_read_back_as_it_was_written() {
        let text = identity().to_source();
        assert_eq!(&*text.0, "postgres:7301:1:my:shop:final_shop:16500");
        assert_eq!(Identity::parse(&text), Some(identity()));
        assert_eq!(
            Identity::parse(&SourceIdentity("mysql:1:2:3:4:5".into())),
            None
        );
    }

    #[test]
    fn a_history_tells_where_an_older_one_was_left() {
        let content = "1\t0/3000000\tno recovery target specified\n\n2\t1/A0\tbefore 2026\n";
        assert_eq!(parse_history(content, 1), Some(0x300_0000));
        assert_eq!(parse_history(content, 2), Some(0x1_0000_00a0));
        assert_eq!(parse_history(content, 3), None);
    }
}
