//! A crate owns tables on three databases and uses only the public database floor, as change capture, the
//! gateway and the reconciler will.

use std::time::Duration;

use final_core::database::{
    DbResult, Driver, Leases, Tables, Templates, Value, after, columns, migrate, read,
};
use sqlx::Pool;
use uuid::Uuid;

columns! {
    /// How far a reader has come.
    #[derive(Clone, Debug, PartialEq)]
    struct Position {
        reader: String,
        at: i64,
        note: Option<String>,
    }
}

const LEASE: Duration = Duration::from_secs(60);

/// The tables of one crate.
struct Positions<DB: Driver> {
    pool: Pool<DB>,
    templates: Templates,
    leases: Leases,
}

impl<DB: Driver> Positions<DB> {
    async fn new(pool: Pool<DB>) -> DbResult<Self> {
        let server = DB::server(&mut *pool.acquire().await?).await?;
        let name = |table: &str| format!("{}{table}", server.schema);
        let names = [
            ("positions", name("positions")),
            ("leases", name("position_leases")),
        ];
        let templates = Templates::new(DB::DIALECT, names);
        let leases = Leases::new(&templates);
        Ok(Self {
            pool,
            templates,
            leases,
        })
    }

    async fn migrate(&self) -> DbResult<()> {
        let words = DB::DIALECT.words();
        let statements = [
            format!(
                "CREATE TABLE IF NOT EXISTS positions (reader {} NOT NULL PRIMARY KEY, at {} NOT NULL, note {}){}",
                words.name_type, words.int_type, words.text_type, words.table_options
            ),
            Leases::create::<DB>("position_leases"),
        ];
        let tables = Tables {
            name: "positions",
            version: 1,
            statements: &statements,
        };
        migrate(&self.pool, &tables).await
    }

    async fn add(&self, position: &Position) -> DbResult<u64> {
        let insert = "{insert} INTO {positions} (reader, at, note) VALUES (?, ?, ?) {nothing}";
        let values: [Value<'_>; 3] = [
            position.reader.as_str().into(),
            position.at.into(),
            position.note.as_deref().into(),
        ];
        let mut conn = self.pool.acquire().await?;
        DB::run_sql(&mut conn, &self.templates.sql(insert), &values).await
    }

    async fn page(&self, last: Option<&Position>, most: i64) -> DbResult<Vec<Position>> {
        let last = last.map(|last| [last.at.into(), last.reader.as_str().into()]);
        let (condition, mut values) =
            after(&["at", "reader"], last.as_ref().map(<[_; 2]>::as_slice));
        let page = format!(
            "SELECT note, reader, at FROM {{positions}} WHERE {condition} ORDER BY at, reader LIMIT ?"
        );
        values.push(most.into());
        let mut conn = self.pool.acquire().await?;
        read::<DB, _>(&mut conn, &self.templates.sql(&page), &values).await
    }

    async fn take(&self, owner: Uuid, length: Duration) -> DbResult<Option<i64>> {
        let mut conn = self.pool.acquire().await?;
        self.leases
            .take::<DB>(&mut conn, "capture", owner, length)
            .await
    }
}

/// A pool, and the file of a database that is one.
type On<DB> = (Pool<DB>, Option<final_tests::SqliteFile>);

async fn migrated<DB: Driver>(pool: Pool<DB>) -> Positions<DB> {
    let positions = Positions::new(pool).await.expect("a server");
    let twice = [positions.migrate(), positions.migrate()];
    for migrated in futures::future::join_all(twice).await {
        migrated.expect("migrated");
    }
    positions
}

async fn rows_are_read_page_by_page_in_the_order_of_their_key<DB: Driver>((pool, _file): On<DB>) {
    let positions = migrated(pool).await;
    let all: Vec<Position> = [("b", 1), ("a", 2), ("c", 2), ("d", 2), ("a'é", 3)]
        .map(|(reader, at)| Position {
            reader: reader.to_owned(),
            at,
            note: (at == 2).then(|| format!("note of {reader}")),
        })
        .into();
    for position in all.iter().rev() {
        assert_eq!(positions.add(position).await.expect("inserted"), 1);
        assert_eq!(positions.add(position).await.expect("there already"), 0);
    }

    let mut read: Vec<Position> = Vec::new();
    loop {
        let page = positions.page(read.last(), 2).await.expect("a page");
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, all);
}

async fn a_lease_has_one_owner_and_a_new_epoch_for_each<DB: Driver>((pool, _file): On<DB>) {
    let positions = migrated(pool).await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());

    let first = positions
        .take(one, LEASE)
        .await
        .expect("asked")
        .expect("free");
    assert_eq!(
        positions.take(one, LEASE).await.expect("asked"),
        Some(first),
        "renewed"
    );
    assert_eq!(
        positions.take(two, LEASE).await.expect("asked"),
        None,
        "it has an owner"
    );

    let mut conn = positions.pool.acquire().await.expect("a connection");
    let release = positions
        .leases
        .release::<DB>(&mut conn, "capture", one, first + 1);
    assert!(!release.await.expect("asked"), "of another epoch");
    let release = positions
        .leases
        .release::<DB>(&mut conn, "capture", one, first);
    assert!(release.await.expect("asked"));
    drop(conn);
    let second = positions.take(two, Duration::ZERO).await.expect("asked");
    assert_eq!(second, None, "it has run out at once");
    let third = positions
        .take(one, LEASE)
        .await
        .expect("asked")
        .expect("free");
    assert!(third > first + 1, "the epoch has counted up for each owner");
}

async fn a_column_that_is_missing_is_an_error_that_names_it<DB: Driver>((pool, _file): On<DB>) {
    let positions = migrated(pool).await;
    let row = "INSERT INTO {positions} (reader, at) VALUES ('a', 1)";
    let mut conn = positions.pool.acquire().await.expect("a connection");
    DB::run_sql(&mut conn, &positions.templates.sql(row), &[])
        .await
        .expect("a row");

    let misses = positions
        .templates
        .sql("SELECT reader, at FROM {positions}");
    let error = read::<DB, Position>(&mut conn, &misses, &[])
        .await
        .expect_err("no note");

    assert!(error.to_string().contains("note"), "{error}");
}

macro_rules! on {
    ($name:ident, $pool:expr) => {
        mod $name {
            #[tokio::test]
            async fn rows_are_read_page_by_page_in_the_order_of_their_key() {
                super::rows_are_read_page_by_page_in_the_order_of_their_key($pool).await;
            }

            #[tokio::test]
            async fn a_lease_has_one_owner_and_a_new_epoch_for_each() {
                super::a_lease_has_one_owner_and_a_new_epoch_for_each($pool).await;
            }

            #[tokio::test]
            async fn a_column_that_is_missing_is_an_error_that_names_it() {
                super::a_column_that_is_missing_is_an_error_that_names_it($pool).await;
            }
        }
    };
}

on!(postgres, {
    let url = final_tests::pg_database().await.expect("PostgreSQL");
    (sqlx::PgPool::connect(&url).await.expect("connected"), None)
});
on!(mariadb, {
    let url = final_tests::mysql_database().await.expect("MariaDB");
    (
        sqlx::MySqlPool::connect(&url).await.expect("connected"),
        None,
    )
});
on!(sqlite, {
    let file = final_tests::sqlite_file().expect("a file");
    let pool = sqlx::SqlitePool::connect(&file.url()).await;
    (pool.expect("opened"), Some(file))
});
