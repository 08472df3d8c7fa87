//! PostgreSQL.

use std::{ops::Deref, path::PathBuf, time::Duration};

use super::{Recipe, Server, Setup, find, probe};
use crate::{
    Port, Result, WorkDir,
    process::{Launch, Process, Signal},
};

/// A PostgreSQL of one's own; durable as out of the box.
#[derive(Debug, Clone)]
pub struct Postgres(Server);

impl Postgres {
    /// Starts one for a test.
    #[cfg(feature = "clients")]
    pub async fn start() -> Result<Self> {
        Self::start_with(Setup::default()).await
    }

    /// Starts one with a setup of one's own, such as `-c` settings.
    #[cfg(feature = "clients")]
    pub async fn start_with(setup: Setup) -> Result<Self> {
        crate::beside(move || Self::start_blocking(setup)).await
    }

    /// Starts one that also speaks TLS, with a certificate for `localhost` from this authority.
    #[cfg(feature = "clients")]
    pub async fn start_with_tls(authority: &super::Authority) -> Result<Self> {
        Self::start_with(Setup {
            tls: Some(authority.for_server()?),
            ..Setup::default()
        })
        .await
    }

    /// Makes a data folder, starts the server and waits until it answers.
    pub fn start_blocking(setup: Setup) -> Result<Self> {
        let programs = find::postgres()?;
        let port = Port::prefer(setup.port)?;
        let dir = super::folder("postgres", setup.lifetime)?;
        let user = find::user("postgres");
        let data = dir.folder("data", user)?;
        Launch::new(programs.join("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--no-locale",
            ])
            .args(["--no-sync", "--pgdata"])
            .arg(&data)
            .user(user)
            .run()?;
        let mut args = setup.args;
        if let Some(files) = &setup.tls {
            files.write(&dir, user)?;
            let file = |name| dir.join(name).display().to_string();
            let settings = [
                "ssl=on".into(),
                format!("ssl_cert_file={}", file("server.pem")),
                format!("ssl_key_file={}", file("server.key")),
            ];
            args.extend(settings.into_iter().flat_map(|it| ["-c".into(), it]));
        }
        let recipe = PostgresRecipe {
            programs,
            port,
            dir,
            data,
            user,
            args,
        };
        Server::launch(recipe, setup.lifetime).map(Self)
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

#[derive(Debug)]
struct PostgresRecipe {
    programs: PathBuf,
    port: Port,
    dir: WorkDir,
    data: PathBuf,
    user: Option<&'static str>,
    args: Vec<String>,
}

impl Recipe for PostgresRecipe {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn url(&self) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/postgres",
            self.port.number()
        )
    }

    fn dir(&self) -> &WorkDir {
        &self.dir
    }

    /// `postgres` itself and not `pg_ctl`: the parent has to reap the server, or the next start finds a stale
    /// lock.
    fn launch(&self) -> Launch {
        Launch::new(self.programs.join("postgres"))
            .arg("-D")
            .arg(&self.data)
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", "max_connections=300", "-c", "shared_buffers=32MB"])
            .args(["-p", &self.port.number().to_string()])
            .args(&self.args)
            .user(self.user)
            .farewell("QUIT")
    }

    fn is_ready(&self) -> bool {
        probe::postgres(self.port.number())
    }

    /// Fast shutdown.
    fn stop_signal(&self) -> Signal {
        Signal::INT
    }

    /// Immediate shutdown. It is as quick as a kill, but it releases the shared memory, which the kernel
    /// would keep after a kill.
    fn discard(&self, process: &Process) {
        let _ = process.end(Signal::QUIT, Duration::from_secs(5));
    }
}
