//! One server of each kind for all tests, and a fresh corner of it for each.
//!
//! The servers are those of the `FINAL_TEST_*` variables; without them, one set per test binary,
//! started when first asked for. Nothing in a corner is seen by another test, except on a RabbitMQ
//! of `FINAL_TEST_AMQP_URL` alone, see [`amqp_vhost`].

use std::path::PathBuf;

use sqlx::{Connection, Executor, MySqlConnection, PgConnection};
use tokio::sync::OnceCell;

use crate::{
    Error, Result, WorkDir, dirs,
    servers::{Management, MariaDb, Postgres, RabbitMq},
};

/// A unique name `prefix_…`, valid for services, topics, tables and databases.
pub fn unique(prefix: &str) -> String {
    format!(
        "{prefix}_{}",
        &uuid::Uuid::now_v7().simple().to_string()[8..24]
    )
}

/// The URL of a fresh PostgreSQL database.
///
/// It stays in the server; on a server of one's own they gather as `final_test_…`.
pub async fn pg_database() -> Result<String> {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    let server = match given("FINAL_TEST_POSTGRES_URL") {
        Some(url) => url,
        None => SERVER.get_or_try_init(Postgres::start).await?.url(),
    };
    let name = unique("final_test");
    let created = async {
        let mut connection = PgConnection::connect(&server).await?;
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0");
        connection.execute(sqlx::AssertSqlSafe(sql)).await?;
        connection.close().await
    };
    created
        .await
        .map_err(|cause| refused("PostgreSQL", "FINAL_TEST_POSTGRES_URL", &cause))?;
    Ok(with_path(&server, &name))
}

/// The URL of a fresh MariaDB database.
///
/// It stays in the server; on a server of one's own they gather as `final_test_…`.
pub async fn mysql_database() -> Result<String> {
    static SERVER: OnceCell<MariaDb> = OnceCell::const_new();
    let server = match given("FINAL_TEST_MYSQL_URL") {
        Some(url) => url,
        None => SERVER.get_or_try_init(MariaDb::start).await?.url(),
    };
    let name = unique("final_test");
    let created = async {
        let mut connection = MySqlConnection::connect(&server).await?;
        connection
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await?;
        connection.close().await
    };
    created
        .await
        .map_err(|cause| refused("MariaDB", "FINAL_TEST_MYSQL_URL", &cause))?;
    Ok(with_path(&server, &name))
}

/// A file for a fresh SQLite database.
pub fn sqlite_file() -> Result<SqliteFile> {
    let dir = WorkDir::new("sqlite")?;
    Ok(SqliteFile {
        path: dir.join("test.db"),
        dir,
    })
}

/// A fresh RabbitMQ virtual host.
///
/// Virtual hosts are made through the management API. Where `FINAL_TEST_AMQP_URL` is set and
/// `FINAL_TEST_RABBITMQ_API` is not, the one of the URL serves all tests: so tests take their
/// service and topic names from [`unique`], always.
pub async fn amqp_vhost() -> Result<Vhost> {
    static SERVER: OnceCell<RabbitMq> = OnceCell::const_new();
    let (server, api) = match (
        given("FINAL_TEST_AMQP_URL"),
        given("FINAL_TEST_RABBITMQ_API"),
    ) {
        (Some(url), None) => {
            return Ok(Vhost {
                name: path(&url).into(),
                url,
                api: None,
            });
        }
        (Some(url), Some(api)) => (url, Management::at(&api)?),
        (None, _) => {
            let server = SERVER.get_or_try_init(RabbitMq::start).await?;
            (server.url(), server.management())
        }
    };
    let name = unique("final_test");
    api.add_vhost(&name).await?;
    Ok(Vhost {
        url: with_path(&server, &name),
        name,
        api: Some(api),
    })
}

/// A SQLite database file that goes away with this value.
#[derive(Debug)]
pub struct SqliteFile {
    path: PathBuf,
    dir: WorkDir,
}

impl SqliteFile {
    /// For a pool: the file is made when first opened.
    pub fn url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.path.display())
    }

    /// The folder of the file, which has room for other files.
    pub fn dir(&self) -> &WorkDir {
        &self.dir
    }
}

/// A virtual host that goes away with this value, and its connections with it.
#[derive(Debug)]
pub struct Vhost {
    url: String,
    name: String,
    api: Option<Management>,
}

impl Vhost {
    /// Where clients connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name, for the management API.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The management API, or an error where there is none.
    pub fn api(&self) -> Result<&Management> {
        self.api.as_ref().ok_or_else(|| {
            Error::new(
                "this test needs RabbitMQ's management API, and none is known for the server of \
                 FINAL_TEST_AMQP_URL",
                "set FINAL_TEST_RABBITMQ_API=http://user:password@host:port, or unset both",
            )
        })
    }
}

impl Drop for Vhost {
    fn drop(&mut self) {
        if let Some(api) = self.api.as_ref().filter(|_| !dirs::keep()) {
            let _ = api.delete_vhost_blocking(&self.name);
        }
    }
}

fn given(variable: &str) -> Option<String> {
    std::env::var(variable)
        .ok()
        .filter(|value| !value.is_empty())
}

/// The URL with its last part replaced: a database's or a vhost's name.
fn with_path(url: &str, name: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, q)| (base, Some(q)));
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    let host = rest.split('/').next().unwrap_or(rest);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{scheme}://{host}/{name}{query}")
}

/// The last part of a URL, as RabbitMQ calls it.
fn path(url: &str) -> &str {
    let path = url
        .split_once("://")
        .and_then(|(_, rest)| rest.split_once('/'));
    match path.map_or("", |(_, path)| path.split('?').next().unwrap_or(path)) {
        "" | "%2f" | "%2F" => "/",
        name => name,
    }
}

fn refused(server: &str, variable: &str, cause: &sqlx::Error) -> Error {
    Error::new(
        format!("{server} made no fresh database: {cause}"),
        format!(
            "check that {variable}, if set, is a running server's and its user may create databases"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_in_a_url_changes() {
        assert_eq!(
            with_path("amqp://g:g@h:1/%2f?heartbeat=5", "v"),
            "amqp://g:g@h:1/v?heartbeat=5"
        );
        assert_eq!(with_path("postgres://p@h", "d"), "postgres://p@h/d");
    }

    #[test]
    fn the_default_vhost_is_named_slash() {
        assert_eq!(path("amqp://h:1/%2f?heartbeat=5"), "/");
        assert_eq!(path("amqp://h:1"), "/");
        assert_eq!(path("amqp://h:1/mine"), "mine");
    }

    #[test]
    fn two_unique_names_differ() {
        assert_ne!(unique("shop"), unique("shop"));
    }
}
