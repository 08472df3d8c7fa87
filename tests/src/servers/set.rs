//! The three servers together, started at the same time.

use std::{path::PathBuf, thread};

use super::{MariaDb, Postgres, RabbitMq, Server, Setup};
use crate::{
    Error, Result, WorkDir,
    process::{Identity, Lifetime, Process},
};

/// One server of each kind.
#[derive(Debug)]
pub struct Set {
    postgres: Postgres,
    mariadb: MariaDb,
    rabbitmq: RabbitMq,
}

/// A server of a set, in a form that can be written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its process.
    pub id: Identity,
    /// Its folder.
    pub dir: PathBuf,
}

impl Set {
    /// Starts the three servers, on ports that are easy to remember if those are free.
    pub fn start(lifetime: Lifetime) -> Result<Self> {
        let setup = |port| Setup {
            port: Some(port),
            lifetime,
            ..Setup::default()
        };
        thread::scope(|scope| {
            let postgres = scope.spawn(|| Postgres::start_blocking(setup(25_432)));
            let mariadb = scope.spawn(|| MariaDb::start_blocking(setup(23_306)));
            let rabbitmq = scope.spawn(|| RabbitMq::start_blocking(setup(26_672)));
            let postgres = postgres.join().map_err(panicked).flatten();
            let mariadb = mariadb.join().map_err(panicked).flatten();
            let rabbitmq = rabbitmq.join().map_err(panicked).flatten();
            match (postgres, mariadb, rabbitmq) {
                (Ok(postgres), Ok(mariadb), Ok(rabbitmq)) => Ok(Self {
                    postgres,
                    mariadb,
                    rabbitmq,
                }),
                (postgres, mariadb, rabbitmq) => {
                    let started: [Option<&Server>; 3] = [
                        postgres.as_deref().ok(),
                        mariadb.as_deref().ok(),
                        rabbitmq.as_deref().ok(),
                    ];
                    started.into_iter().flatten().for_each(remove);
                    let errors = [postgres.err(), mariadb.err(), rabbitmq.err()];
                    Err(errors
                        .into_iter()
                        .flatten()
                        .next()
                        .unwrap_or_else(|| panicked(Box::new(()))))
                }
            }
        })
    }

    /// What tests and examples read from their environment to use this set.
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("FINAL_TEST_POSTGRES_URL", self.postgres.url()),
            ("FINAL_TEST_MYSQL_URL", self.mariadb.url()),
            ("FINAL_TEST_AMQP_URL", self.rabbitmq.url()),
            ("FINAL_TEST_RABBITMQ_API", self.rabbitmq.api_url()),
        ]
    }

    /// Its servers, to be written down.
    pub fn show(&self) -> Vec<Shown> {
        let servers: [&Server; 3] = [&self.postgres, &self.mariadb, &self.rabbitmq];
        let shown = |server: &Server| {
            Some(Shown {
                id: server.identity()?,
                dir: server.dir(),
            })
        };
        servers.into_iter().filter_map(shown).collect()
    }
}

impl Shown {
    /// Ends a server that an earlier run left behind, and removes its data.
    pub fn discard(self) -> Result<()> {
        let dir = WorkDir::again(self.dir);
        if let Some(process) = Process::attach("server", self.id, dir.join("log.txt")) {
            process.kill9();
        }
        match std::fs::remove_dir_all(dir.path()) {
            // The folder is already gone, which is the goal.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::io("cannot remove", dir.path())),
        }
    }
}

/// An incomplete set is of no use, and a lasting server would stay.
fn remove(server: &Server) {
    server.kill9();
    let _ = std::fs::remove_dir_all(server.dir());
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Error {
    Error::new(
        "starting a server panicked",
        "look at the panic above this message",
    )
}
