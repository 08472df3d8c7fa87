//! Servers of one's own: started on a free port, killed, frozen, started again.
//!
//! [`Postgres`], [`MariaDb`] and [`RabbitMq`] all turn into a [`Server`], which is what they have in
//! common. Its methods come twice: `start_again` for tests, which runs beside the test's runtime,
//! and `start_again_blocking` for programs without one.

mod find;
mod mariadb;
mod mysql;
mod postgres;
mod probe;
mod rabbitmq;
mod set;

#[cfg(feature = "clients")]
mod cluster;
#[cfg(feature = "clients")]
mod http;
#[cfg(feature = "clients")]
mod management;
#[cfg(feature = "clients")]
mod tls;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Error, Result, WorkDir,
    process::{Identity, Launch, Lifetime, Process, Signal, last_lines, pause_until},
};

pub use find::{Missing, missing};
pub use mariadb::MariaDb;
pub use postgres::Postgres;
pub use rabbitmq::RabbitMq;
pub use set::{Set, Shown};

#[cfg(feature = "clients")]
pub use {cluster::RabbitCluster, management::Management, tls::Authority};

/// How long a server may take to answer; RabbitMQ needs 6 s on an idle machine.
const START: Duration = Duration::from_secs(300);
/// How long a server may take to stop when asked.
const STOP: Duration = Duration::from_secs(180);

/// The settings of a server.
#[derive(Debug, Default, Clone)]
pub struct Setup {
    /// The port to take if it is free.
    pub port: Option<u16>,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// More arguments on its command line.
    pub args: Vec<String>,
    /// The files for TLS, if the server is to speak it.
    pub tls: Option<TlsFiles>,
}

/// The PEM texts a server needs to speak TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The authority whose client certificates the server trusts.
    pub authority: String,
    /// The server's certificate.
    pub certificate: String,
    /// The key of that certificate.
    pub key: String,
    /// Whether a client has to show a certificate, where the server can be told.
    pub clients_must: bool,
}

impl TlsFiles {
    /// Writes them where the server finds them: `authority.pem`, `server.pem` and `server.key`, the
    /// last for the server's user alone.
    fn write(&self, dir: &WorkDir, user: Option<&str>) -> Result<()> {
        dir.write("authority.pem", &self.authority)?;
        dir.write("server.pem", &self.certificate)?;
        dir.write_secret("server.key", &self.key, user)
    }
}

/// What differs between the kinds of servers.
trait Recipe: fmt::Debug + Send + Sync {
    /// The server's name in messages and folders.
    fn name(&self) -> &'static str;
    /// Where clients connect.
    fn url(&self) -> String;
    /// Its data, configuration and logs.
    fn dir(&self) -> &WorkDir;
    /// The command line.
    fn launch(&self) -> Launch;
    /// Whether a client that connects now is served.
    fn is_ready(&self) -> bool;
    /// The signal for a clean stop.
    fn stop_signal(&self) -> Signal;
    /// Ends the server quickly. Its data is not needed again.
    fn discard(&self, process: &Process) {
        process.kill9();
    }
}

/// A server with its port and its data. It is a cheap handle; dropping the last one stops the server and
/// removes the data.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    recipe: Box<dyn Recipe>,
    lifetime: Lifetime,
    process: Mutex<Option<Process>>,
}

impl Server {
    fn launch(recipe: impl Recipe + 'static, lifetime: Lifetime) -> Result<Self> {
        let inner = Inner {
            recipe: Box::new(recipe),
            lifetime,
            process: Mutex::new(None),
        };
        let server = Self(Arc::new(inner));
        server.start_again_blocking()?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        self.0.recipe.url()
    }

    /// Its folder.
    pub fn dir(&self) -> PathBuf {
        self.0.recipe.dir().path().into()
    }

    /// The process that runs now, if one does.
    pub fn identity(&self) -> Option<Identity> {
        self.process().as_ref().map(Process::identity)
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        self.process()
            .as_ref()
            .map(Process::log)
            .unwrap_or_default()
    }

    /// Kills it with SIGKILL, in the middle of whatever it does.
    pub fn kill9(&self) {
        if let Some(process) = self.process().take() {
            process.kill9();
        }
    }

    /// Freezes it: connections stay open, new ones are taken by the kernel, nobody answers.
    pub fn pause(&self) {
        self.process().as_ref().inspect(|process| process.pause());
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.process().as_ref().inspect(|process| process.resume());
    }

    /// Stops it cleanly, as an operator does, and waits.
    pub fn stop_blocking(&self) -> Result<()> {
        let Some(process) = self.process().take() else {
            return Ok(());
        };
        process.end(self.0.recipe.stop_signal(), STOP)
    }

    /// Starts it on the same port and data, and waits until it answers.
    pub fn start_again_blocking(&self) -> Result<()> {
        let recipe = &*self.0.recipe;
        let log = recipe.dir().join("log.txt");
        let mut process = self.process();
        if process.as_ref().is_some_and(Process::is_alive) {
            return Ok(());
        }
        let started = recipe
            .launch()
            .lifetime(self.0.lifetime)
            .spawn(recipe.name(), &log)?;
        let ended = || !started.is_alive();
        let answers = pause_until(START, || recipe.is_ready() || ended()) && !ended();
        if answers {
            *process = Some(started);
            return Ok(());
        }
        let happened = match started.exited() {
            Some(status) => format!("ended with {status} instead of starting"),
            None => format!("did not answer within {START:?}"),
        };
        Err(Error::new(
            format!(
                "{} {happened}; the end of its log:\n{}",
                recipe.name(),
                last_lines(&log)
            ),
            format!(
                "set FINAL_TEST_KEEP=1 and look into {}",
                recipe.dir().path().display()
            ),
        ))
    }

    /// Stops it cleanly, as an operator does, and waits.
    #[cfg(feature = "clients")]
    pub async fn stop(&self) -> Result<()> {
        let server = self.clone();
        crate::beside(move || server.stop_blocking()).await
    }

    /// Starts it on the same port and data, and waits until it answers.
    #[cfg(feature = "clients")]
    pub async fn start_again(&self) -> Result<()> {
        let server = self.clone();
        crate::beside(move || server.start_again_blocking()).await
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.0
            .process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of a server, which stays if the server does.
fn folder(name: &str, lifetime: Lifetime) -> Result<WorkDir> {
    match lifetime {
        Lifetime::Tests => WorkDir::new(name),
        Lifetime::Outlive => WorkDir::lasting(name),
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.url()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let process = self
            .process
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = process.take_if(|_| self.lifetime == Lifetime::Tests) {
            self.recipe.discard(&process);
        }
    }
}
