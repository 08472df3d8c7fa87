//! The same work without us: the digests asked for by hand, and all rows read and compared.

use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use sqlx::{AssertSqlSafe, MySqlPool, PgPool};

use super::tables::{Server, TABLE, Table};
use crate::Result;

/// Rows of a statement, as ours has them.
const CHUNK: u64 = 20_000;

/// A digest and a count for each range.
type Digests = Vec<(i64, String)>;

/// Both sides at the same time, each statement after statement on one connection. Where ranges end is known.
pub(super) async fn digests(source: &Table, target: &Table) -> Result<()> {
    let (source, target) = tokio::try_join!(side_digests(source), side_digests(target))?;
    match source == target {
        true => Ok(()),
        false => Err("the digests by hand are not equal".into()),
    }
}

async fn side_digests(table: &Table) -> Result<Digests> {
    match &table.place {
        Server::Postgres(place) => {
            let sql = format!(
                "SELECT count(*), md5(string_agg(r, '')) FROM (SELECT concat(id, ';', octet_length(customer), ':', customer, \
                 ';', total, ';', to_char(placed, 'YYYY-MM-DD HH24:MI:SS.US'), ';', \
                 coalesce(octet_length(note)::text || ':', '~'), note, ';') AS r \
                 FROM {TABLE} WHERE id > $1 AND id <= $2 ORDER BY id) s"
            );
            ranges(table.rows, async |from, to| {
                let query = sqlx::query_as(AssertSqlSafe(sql.clone()));
                Ok(query.bind(from).bind(to).fetch_one(&place.pool).await?)
            })
            .await
        }
        Server::MariaDb(place) => {
            let mut conn = place.pool.acquire().await?;
            sqlx::query("SET SESSION group_concat_max_len = 16777216")
                .execute(&mut *conn)
                .await?;
            let sql = format!(
                "SELECT COUNT(*), MD5(GROUP_CONCAT(CONCAT(id, ';', LENGTH(customer), ':', customer, ';', total, ';', placed, \
                 ';', IF(note IS NULL, '~', CONCAT(LENGTH(note), ':', note)), ';') ORDER BY id SEPARATOR '')) \
                 FROM {TABLE} WHERE id > ? AND id <= ?"
            );
            ranges(table.rows, async |from, to| {
                let query = sqlx::query_as(AssertSqlSafe(sql.clone()));
                Ok(query.bind(from).bind(to).fetch_one(&mut *conn).await?)
            })
            .await
        }
    }
}

async fn ranges(
    rows: u64,
    mut digest: impl AsyncFnMut(i64, i64) -> Result<(i64, String)>,
) -> Result<Digests> {
    let mut digests = Vec::new();
    let mut from = 0;
    while from < rows {
        let to = (from + CHUNK).min(rows);
        digests.push(digest(i64::try_from(from)?, i64::try_from(to)?).await?);
        from = to;
    }
    Ok(digests)
}

/// A row as it is read.
type Read = (i64, String, String, String, Option<String>);

/// Reads all rows of both sides in the order of the key, at the same time, and compares them.
pub(super) async fn all_rows(source: &Table, target: &Table) -> Result<()> {
    let mut pairs = all(source).zip(all(target));
    let mut count = 0;
    while let Some((source, target)) = pairs.next().await {
        if source? != target? {
            return Err("rows that are read are not equal".into());
        }
        count += 1;
    }
    match count == source.rows {
        true => Ok(()),
        false => Err(format!("{count} rows were read").into()),
    }
}

fn all(table: &Table) -> impl Stream<Item = Result<Read>> + '_ {
    let rows: BoxStream<'_, sqlx::Result<Read>> = match &table.place {
        Server::Postgres(place) => in_postgres(&place.pool),
        Server::MariaDb(place) => in_mariadb(&place.pool),
    };
    rows.map_err(Into::into)
}

fn in_postgres(pool: &PgPool) -> BoxStream<'_, sqlx::Result<Read>> {
    let placed = "to_char(placed, 'YYYY-MM-DD HH24:MI:SS.US')";
    let sql = format!("SELECT id, customer, total::text, {placed}, note FROM {TABLE} ORDER BY id");
    sqlx::query_as(AssertSqlSafe(sql)).fetch(pool)
}

fn in_mariadb(pool: &MySqlPool) -> BoxStream<'_, sqlx::Result<Read>> {
    let sql = format!(
        "SELECT id, customer, CAST(total AS CHAR), CAST(placed AS CHAR), note FROM {TABLE} ORDER BY id"
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch(pool)
}
