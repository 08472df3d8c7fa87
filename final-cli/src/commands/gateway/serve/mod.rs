//! `final gateway`: runs the gateway until it is told to stop.
//!
//! Input: a TOML file, the URL of a database, or `--demo`. Output: a service that speaks RESP and HTTP; an exit code.

mod config;
mod demo;
mod node;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use final_core::BoxError;

use self::{
    config::GatewayConfig,
    node::{GatewayDoors, GatewayService},
};
use crate::{
    arguments::PlaceArgs,
    causes::chain,
    config::{ConfigError, read},
    exit::Failure,
    service::{self, RunArgs},
    session::Place,
};

/// What runs, and how.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The configuration in TOML; docs/gateway.md has all its keys
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    config: Option<PathBuf>,

    /// Runs on a SQLite file of its own, and prints commands to try
    #[arg(long)]
    demo: bool,

    /// Where the file of the demo is; a new one in the folder for temporary files without it
    #[arg(long, value_name = "FILE", requires = "demo")]
    demo_file: Option<PathBuf>,

    #[command(flatten)]
    run: RunArgs,
}

impl ServeArgs {
    /// Runs until a signal. It has a runtime and a log of its own.
    pub(super) fn run(self, place: PlaceArgs) -> ExitCode {
        match self.prepared(place) {
            Ok(Prepared::Demo { file, run }) => demo::run(file, run),
            Ok(Prepared::Gateway { config, doors, run }) => {
                let options = run.over(config.service.clone());
                service::main("gateway", options, async move || {
                    let service = GatewayService::start(config.gateway(doors)?).await?;
                    Ok::<_, BoxError>(service)
                })
            }
            Err(failure) => {
                let (code, line) = failure.end();
                if let Some(line) = line {
                    eprintln!("final: {line}");
                }
                code
            }
        }
    }

    /// What is to run. What can be wrong in the words and in the file is found here.
    fn prepared(self, place: PlaceArgs) -> Result<Prepared, Failure> {
        let is_placed = place.database_url.is_some() || place.context.is_some();
        if is_placed && (self.demo || self.config.is_some()) {
            return Err(Failure::usage(
                "the database is named twice: leave out --database-url and --context, or --config and --demo",
            ));
        }
        if self.demo {
            return Ok(Prepared::Demo {
                file: self.demo_file,
                run: self.run,
            });
        }
        let config = match &self.config {
            Some(file) => read::<GatewayConfig>(file).map_err(told)?,
            None => {
                let place = Place::new(place)?;
                let target = place.target.as_ref().ok_or_else(|| {
                    Failure::usage(
                        "name a configuration by --config or a database by --database-url, or try the gateway by \
                         `final gateway --demo`",
                    )
                })?;
                GatewayConfig::of_database(target.url()).map_err(told)?
            }
        };
        if self.config.is_some() {
            let warnings = config.warnings.iter();
            warnings.for_each(|warning| eprintln!("{warning}"));
        }
        let config = config.config;
        let doors = config.doors().map_err(|error| {
            let file = self.config.unwrap_or_default();
            Failure::usage(format!("{}: {}", file.display(), chain(&*error)))
        })?;
        Ok(Prepared::Gateway {
            config: Box::new(config),
            doors,
            run: self.run,
        })
    }
}

/// What is to run.
enum Prepared {
    Demo {
        file: Option<PathBuf>,
        run: RunArgs,
    },
    Gateway {
        config: Box<GatewayConfig>,
        doors: GatewayDoors,
        run: RunArgs,
    },
}

fn told(error: ConfigError) -> Failure {
    Failure::usage(error.to_string())
}
