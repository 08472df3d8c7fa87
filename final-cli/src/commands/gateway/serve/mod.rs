//! `final gateway`: runs the gateway until it is told to stop.
//!
//! Input: a TOML file, or `--demo`. Output: a service that speaks RESP and HTTP; an exit code.

mod config;
mod demo;
mod node;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use final_core::BoxError;

use self::{config::GatewayConfig, node::GatewayService};
use crate::{
    causes::chain,
    config::read,
    service::{self, RunArgs},
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
    pub(super) fn run(self) -> ExitCode {
        if self.demo {
            return demo::run(self.demo_file, self.run);
        }
        let Some(file) = &self.config else {
            eprintln!(
                "final: name a configuration by --config, or try the gateway by `final gateway --demo`"
            );
            return ExitCode::from(2);
        };
        let config: GatewayConfig = match read(file) {
            Ok(loaded) => {
                loaded
                    .warnings
                    .iter()
                    .for_each(|warning| eprintln!("{warning}"));
                loaded.config
            }
            Err(error) => {
                eprintln!("final: {error}");
                return ExitCode::from(2);
            }
        };
        let doors = match config.doors() {
            Ok(doors) => doors,
            Err(error) => {
                eprintln!("final: {}: {}", file.display(), chain(&*error));
                return ExitCode::from(2);
            }
        };
        let options = self.run.over(config.service.clone());
        service::main("gateway", options, async move || {
            let service = GatewayService::start(config.gateway(doors)?).await?;
            Ok::<_, BoxError>(service)
        })
    }
}
