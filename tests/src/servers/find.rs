//! Where the servers' programs are on this machine.

use std::path::{Path, PathBuf};

use crate::{Error, Result, process::clock};

/// A server that is not installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// What it is called.
    pub server: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// The server that speaks MySQL's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MySqlProgram {
    MariaDb(PathBuf),
    MySql(PathBuf),
}

/// A program of a server, the package it comes in, and where that puts it.
struct Program {
    missing: Missing,
    name: &'static str,
    folders: fn() -> Vec<PathBuf>,
}

const POSTGRES: Program = Program {
    missing: Missing {
        server: "PostgreSQL",
        package: "postgresql",
    },
    name: "postgres",
    folders: postgres_folders,
};
const MARIADB: Program = Program {
    missing: Missing {
        server: "MariaDB",
        package: "mariadb-server",
    },
    name: "mariadbd",
    folders: path_and_sbin,
};
const MYSQL: Program = Program {
    missing: MARIADB.missing,
    name: "mysqld",
    folders: path_and_sbin,
};
const RABBITMQ: Program = Program {
    missing: Missing {
        server: "RabbitMQ",
        package: "rabbitmq-server",
    },
    name: "rabbitmq-server",
    // Not the program in PATH, which changes the user and reads /etc.
    folders: || vec!["/usr/lib/rabbitmq/bin".into()],
};

/// This library is no server, but the tests need it as well.
const CLOCK: Missing = Missing {
    server: "libfaketime",
    package: clock::PACKAGE,
};

/// The servers that are not installed, and the library that sets clocks wrong.
pub fn missing() -> Vec<Missing> {
    let no_mysql = (mysql().is_err()).then_some(MARIADB.missing);
    [POSTGRES, RABBITMQ]
        .into_iter()
        .filter(|program| program.folder().is_err())
        .map(|program| program.missing)
        .chain(no_mysql)
        .chain(clock::library().is_none().then_some(CLOCK))
        .collect()
}

/// The folder with `postgres` and `initdb`.
pub(super) fn postgres() -> Result<PathBuf> {
    POSTGRES.folder()
}

/// `mariadbd`, or MySQL's `mysqld` where there is no MariaDB: their packages exclude each other.
pub(super) fn mysql() -> Result<MySqlProgram> {
    let mariadb = MARIADB.program().map(MySqlProgram::MariaDb);
    mariadb.or_else(|none| MYSQL.program().map(MySqlProgram::MySql).map_err(|_| none))
}

/// The folder with `rabbitmq-server` and `rabbitmqctl`.
pub(super) fn rabbitmq() -> Result<PathBuf> {
    RABBITMQ.folder()
}

/// The user that runs a server. Servers refuse to run as root; other users stay as they are.
pub(super) fn user(name: &'static str) -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some(name)
}

impl Program {
    fn program(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join(self.name))
    }

    fn folder(&self) -> Result<PathBuf> {
        let found = (self.folders)()
            .into_iter()
            .find(|folder| folder.join(self.name).is_file());
        found.ok_or_else(|| {
            let Missing { server, package } = self.missing;
            Error::new(
                format!(
                    "{server} is not installed: no `{}` on this machine",
                    self.name
                ),
                format!(
                    "`apt-get install {package}`, or `cargo xtask test` as root, which installs \
                     what is missing, or point FINAL_TEST_POSTGRES_URL, FINAL_TEST_MYSQL_URL or \
                     FINAL_TEST_AMQP_URL at a running server"
                ),
            )
        })
    }
}

/// Debian installs each version in its own folder outside of PATH. The newest comes first.
fn postgres_folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    folders.extend(path_and_sbin());
    folders
}

fn version(folder: &Path) -> Option<u32> {
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}

fn path_and_sbin() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    folders
}
