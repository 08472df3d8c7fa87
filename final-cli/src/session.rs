//! A command's way to its database.
//!
//! Input: the words of the command line, the environment, the context. State: a pool that has connected once.
//! Output: the admin API, and the service that is meant.

use std::{env, str::FromStr, time::Duration};

use final_core::{OutboxDatabase, admin::Admin};
use sqlx::{Connection, Pool, pool::PoolOptions};
use tokio::time::timeout;

use crate::{
    arguments::{PlaceArgs, ServiceArgs},
    causes::chain,
    contexts::Context,
    exit::Failure,
    target::Target,
};

/// How long connecting may take, and waiting for a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// Connections of one command.
const CONNECTIONS: u32 = 3;

/// What the command line and the environment say about the place to work on.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) context: Context,
    /// The database, if one is named.
    pub(crate) target: Option<Target>,
}

impl Place {
    pub(crate) fn new(args: PlaceArgs) -> Result<Self, Failure> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(url) = args.database_url {
            return Ok(Self {
                context: Context::default(),
                target: Some(Target::new(url.0)?),
            });
        }
        if let Some(name) = args.context.or_else(|| set("FINAL_CONTEXT")) {
            let context = Context::find(&name)?;
            let target = context.database_url()?.map(Target::new).transpose()?;
            return Ok(Self { context, target });
        }
        Ok(Self {
            context: Context::default(),
            target: set("DATABASE_URL").map(Target::new).transpose()?,
        })
    }

    /// The database, or what to do where none is named.
    pub(crate) fn target(&self) -> Result<&Target, Failure> {
        self.target.as_ref().ok_or_else(|| {
            Failure::usage(match self.context.name.as_str() {
                "" => "no database is named; give --database-url or --context, or set DATABASE_URL".into(),
                name => format!("the context {name:?} has no database; give it `database_url` or `database_url_file`"),
            })
        })
    }
}

/// A pool to the database, and where it is.
#[derive(Debug)]
pub(crate) struct Session<DB: OutboxDatabase> {
    pub(crate) pool: Pool<DB>,
    pub(crate) context: Context,
    pub(crate) target: Target,
}

impl<DB: OutboxDatabase> Session<DB> {
    /// Makes a pool. Nothing is connected until it is used.
    pub(crate) fn lazy(place: Place, target: Target) -> Result<Self, Failure> {
        let options = options::<DB>(&target)?;
        Ok(Self {
            pool: PoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(CONNECTING)
                .connect_lazy_with(options),
            context: place.context,
            target,
        })
    }

    /// Connects once. A pool would try again for as long as it may, and then say only that its time was over.
    pub(crate) async fn connect(&self) -> Result<(), Failure> {
        let Self { target, .. } = self;
        let options = options::<DB>(target)?;
        let connected = timeout(CONNECTING, DB::Connection::connect_with(&options)).await;
        let connection = match connected {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                return Err(Failure::Failed(format!(
                    "cannot connect to {target}: {}{}",
                    chain(&error),
                    cure(&error)
                )));
            }
            Err(_) => {
                return Err(Failure::Failed(format!(
                    "cannot connect to {target}: no answer within {CONNECTING:?}; check the host, the port and \
                     the firewall"
                )));
            }
        };
        // The server ends a connection that is not said goodbye to as well.
        let _ = connection.close().await;
        Ok(())
    }

    /// What an operator may know and do here.
    pub(crate) fn admin(&self) -> Admin<DB> {
        Admin::new(self.pool.clone())
    }

    /// The service that is named, else that of the context, else the only one of the database.
    pub(crate) async fn service(&self, args: &ServiceArgs) -> Result<String, Failure> {
        if let Some(named) = args.service.as_ref().or(self.context.service.as_ref()) {
            return Ok(named.clone());
        }
        let mut services = self.admin().services().await?;
        match (services.pop(), services.is_empty()) {
            (Some(only), true) => Ok(only.name),
            (None, _) => Err(Failure::usage(format!(
                "no service has tables in {}; name one by --service",
                self.target
            ))),
            (Some(last), false) => {
                services.push(last);
                let names: Vec<String> = services.into_iter().map(|service| service.name).collect();
                Err(Failure::usage(format!(
                    "{} has more than one service; name one by --service: {}",
                    self.target,
                    names.join(", ")
                )))
            }
        }
    }

    /// Whether a service reads the log, so that its messages are written there as well.
    pub(crate) async fn reads_the_log(&self, service: &str) -> Result<bool, Failure> {
        let services = self.admin().services().await?;
        Ok(services
            .iter()
            .any(|known| known.name == service && known.reads_log))
    }
}

fn options<DB: OutboxDatabase>(
    target: &Target,
) -> Result<<DB::Connection as Connection>::Options, Failure> {
    FromStr::from_str(target.url()).map_err(|error: sqlx::Error| {
        let why = target.without_values(&chain(&error));
        Failure::usage(format!(
            "the database URL of {target} cannot be read: {why}"
        ))
    })
}

/// What to do about an error of connecting, where that is known.
fn cure(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Io(_) => "; check the host and the port, and that the server runs",
        sqlx::Error::Tls(_) => {
            "; check `sslmode` (MySQL: `ssl-mode`), and that `sslrootcert` (MySQL: `ssl-ca`) is the CA of the \
             server's certificate"
        }
        _ => "",
    }
}
