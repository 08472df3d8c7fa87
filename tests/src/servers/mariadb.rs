//! MariaDB, or MySQL where that is installed in its place.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
};

use super::{
    Recipe, Server, Setup,
    find::{self, MySqlProgram},
    mysql, probe,
};
use crate::{
    Port, Result, WorkDir,
    process::{Launch, Signal},
};

/// A MariaDB of one's own, or a MySQL where that is installed in its place; durable as out of the box.
#[derive(Debug, Clone)]
pub struct MariaDb(Server);

impl MariaDb {
    /// Starts one for a test.
    #[cfg(feature = "clients")]
    pub async fn start() -> Result<Self> {
        Self::start_with(Setup::default()).await
    }

    /// Starts one with a setup of one's own, such as `--log-bin`.
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

    /// Whether it would be MySQL, which has other settings.
    pub fn is_mysql() -> Result<bool> {
        Ok(matches!(find::mysql()?, MySqlProgram::MySql(_)))
    }

    /// Makes a data folder, starts the server and waits until it answers.
    pub fn start_blocking(setup: Setup) -> Result<Self> {
        let program = find::mysql()?;
        let port = Port::prefer(setup.port)?;
        let dir = super::folder("mariadb", setup.lifetime)?;
        let user = find::user("mysql");
        let home = dir.folder("home", user)?;
        let data = home.join("data");
        // A server that starts removes all temporary tables from this folder, also those of others.
        let temporary = dir.folder("temporary", user)?;
        let first = match &program {
            MySqlProgram::MariaDb(_) => first_data(&data),
            MySqlProgram::MySql(program) => mysql::first_data(program, &dir, &data)?,
        };
        first.env("TMPDIR", &temporary).user(user).run()?;
        let mut args = setup.args;
        if let Some(files) = &setup.tls {
            files.write(&dir, user)?;
            let file = |option, name| format!("--ssl-{option}={}", dir.join(name).display());
            args.extend([file("cert", "server.pem"), file("key", "server.key")]);
        }
        let recipe = MariaDbRecipe {
            program,
            port,
            dir,
            home,
            data,
            temporary,
            user,
            args,
        };
        Server::launch(recipe, setup.lifetime).map(Self)
    }
}

impl Deref for MariaDb {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

fn first_data(data: &Path) -> Launch {
    Launch::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ])
        .arg(format!("--datadir={}", data.display()))
}

#[derive(Debug)]
struct MariaDbRecipe {
    program: MySqlProgram,
    port: Port,
    dir: WorkDir,
    home: PathBuf,
    data: PathBuf,
    temporary: PathBuf,
    user: Option<&'static str>,
    args: Vec<String>,
}

impl Recipe for MariaDbRecipe {
    fn name(&self) -> &'static str {
        match self.program {
            MySqlProgram::MariaDb(_) => "MariaDB",
            MySqlProgram::MySql(_) => "MySQL",
        }
    }

    fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/mysql", self.port.number())
    }

    fn dir(&self) -> &WorkDir {
        &self.dir
    }

    fn launch(&self) -> Launch {
        let home = self.home.display();
        let (program, more): (_, &[&str]) = match &self.program {
            MySqlProgram::MariaDb(program) => (program, &[]),
            MySqlProgram::MySql(program) => (program, &mysql::ARGS),
        };
        Launch::new(program)
            .env("TMPDIR", &self.temporary)
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            .args(more)
            .arg("--max-connections=500")
            .arg(format!("--datadir={}", self.data.display()))
            .arg(format!("--port={}", self.port.number()))
            .arg(format!("--socket={home}/socket"))
            .arg(format!("--pid-file={home}/pid"))
            .args(&self.args)
            .user(self.user)
    }

    fn is_ready(&self) -> bool {
        probe::mariadb(self.port.number())
    }

    fn stop_signal(&self) -> Signal {
        Signal::TERM
    }
}
