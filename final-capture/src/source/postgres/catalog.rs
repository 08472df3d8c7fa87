//! Questions to the catalog, over an ordinary connection beside the stream.
//!
//! Input: an address. State: a small pool. Output: what the catalog says now, which may be newer than what the stream
//! is at.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use super::{address::Address, types::Described};

/// The catalog of a database.
#[derive(Clone, Debug)]
pub(super) struct Catalog(pub(super) PgPool);

/// What a look at slot and log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glance {
    /// How many bytes the slot keeps.
    pub(super) retained: Option<i64>,
    /// How many bytes lie between a point of ours and the end of the log.
    pub(super) unread: Option<i64>,
    /// `reserved`, `extended`, `unreserved` or `lost`. None if the slot is gone.
    pub(super) wal_status: Option<String>,
}

impl Catalog {
    /// Connects when it is first asked.
    pub(super) fn new(address: &Address) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(address.patience)
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(address.for_sqlx());
        Self(pool)
    }

    /// What a table's types and key are, where the stream does not say it all.
    pub(super) async fn describe(
        &self,
        table: Option<u32>,
        types: &[(u32, i32)],
    ) -> sqlx::Result<Described> {
        let mut described = Described::default();
        if !types.is_empty() {
            let (oids, modifiers): (Vec<i64>, Vec<i32>) = types
                .iter()
                .map(|&(oid, modifier)| (i64::from(oid), modifier))
                .unzip();
            let rows: Vec<(i64, i32, String, i64)> = sqlx::query_as(
                "WITH RECURSIVE below AS (
                     SELECT t.oid AS asked, t.oid, t.typtype, t.typbasetype
                     FROM pg_catalog.pg_type t WHERE t.oid = ANY ($1::bigint[]::oid[])
                     UNION ALL
                     SELECT b.asked, t.oid, t.typtype, t.typbasetype
                     FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd'
                 )
                 SELECT DISTINCT a.oid, a.modifier, pg_catalog.format_type(a.oid::oid, a.modifier), b.oid::bigint
                 FROM unnest($1, $2) AS a (oid, modifier)
                 JOIN below b ON b.asked = a.oid::oid AND b.typtype <> 'd'",
            )
            .bind(oids)
            .bind(modifiers)
            .fetch_all(&self.0)
            .await?;
            for (oid, modifier, name, below) in rows {
                let number = |it| u32::try_from(it).unwrap_or_default();
                described
                    .types
                    .insert((number(oid), modifier), (name, number(below)));
            }
        }
        if let Some(table) = table {
            described.primary_key = sqlx::query_scalar(
                "SELECT a.attname::text FROM pg_catalog.pg_index i
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
                 WHERE i.indrelid = $1::bigint::oid AND i.indisprimary",
            )
            .bind(i64::from(table))
            .fetch_all(&self.0)
            .await?;
        }
        Ok(described)
    }

    /// A connection beside the pool. A pool tries again where the server refuses because it is shut down, and the watch
    /// wants to hear of that.
    pub(super) async fn connect(&self) -> sqlx::Result<PgConnection> {
        PgConnection::connect_with(&self.0.connect_options()).await
    }
}

impl Glance {
    /// Looks at a slot.
    pub(super) async fn of(
        connection: &mut PgConnection,
        slot: &str,
        read: u64,
    ) -> sqlx::Result<Self> {
        let (retained, unread, wal_status) = sqlx::query_as(
            "SELECT (w.lsn - s.restart_lsn)::bigint, (w.lsn - $2::text::pg_lsn)::bigint, s.wal_status
             FROM pg_catalog.pg_current_wal_lsn() AS w (lsn)
             LEFT JOIN pg_catalog.pg_replication_slots s ON s.slot_name = $1",
        )
        .bind(slot)
        .bind(lsn_text(read))
        .fetch_one(connection)
        .await?;
        Ok(Self {
            retained,
            unread,
            wal_status,
        })
    }
}

/// Writes something into the log, so that there is something to read.
pub(super) async fn beat(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_catalog.pg_logical_emit_message(false, 'final_capture', '')")
        .execute(connection)
        .await?;
    Ok(())
}

/// `16/B374D848`.
pub(super) fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// The number of `16/B374D848`.
pub(super) fn lsn_number(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let part = |hex| u32::from_str_radix(hex, 16).ok();
    Some(u64::from(part(high)?) << 32 | u64::from(part(low)?))
}
