//! What can be set of a service that runs: as a table of its configuration, and by arguments, which win.
//!
//! Input: TOML, arguments. Output: [`ServiceOptions`].

use std::{net::SocketAddr, time::Duration};

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::config::Period;

/// How a service runs, whatever it does. A table of its configuration:
///
/// ```toml
/// [service]
/// listen = "127.0.0.1:9090"
/// stop_within = "30s"
/// log = "info,final::relay=debug"
/// log_format = "json"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// The address of `/livez`, `/readyz` and `/metrics`. None by default: no server.
    pub listen: Option<SocketAddr>,
    /// How long a stop may take. 30 s by default, as Kubernetes waits. systemd waits for 90 s.
    pub stop_within: Period,
    /// Which events are logged, as `RUST_LOG` has it. `info` by default.
    pub log: String,
    /// The form of a log line.
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON object for a program.
    Json,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            listen: None,
            stop_within: Period(Duration::from_secs(30)),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// The arguments of a command that runs a service.
#[derive(Clone, Debug, Default, Args)]
pub struct RunArgs {
    /// Answers /livez, /readyz and /metrics on this address
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// How long a stop may take, as 30s
    #[arg(long, value_name = "TIME")]
    pub stop_within: Option<Period>,

    /// Which events are logged, as info,final::relay=debug
    #[arg(long, value_name = "FILTER", env = "FINAL_LOG")]
    pub log: Option<String>,

    /// The form of a log line
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
}

impl RunArgs {
    /// The options, with those of the arguments in place of those of the configuration.
    #[must_use]
    pub fn over(self, options: ServiceOptions) -> ServiceOptions {
        ServiceOptions {
            listen: self.listen.or(options.listen),
            stop_within: self.stop_within.unwrap_or(options.stop_within),
            log: self.log.unwrap_or(options.log),
            log_format: self.log_format.unwrap_or(options.log_format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_wins_over_the_configuration() {
        let config = "listen = '127.0.0.1:1'\nstop_within = '3s'\nlog_format = 'json'";
        let options: ServiceOptions = crate::config::parse("a.toml", config).unwrap().config;
        assert_eq!(options.log, "info");
        let arguments = RunArgs {
            listen: "[::1]:2".parse().ok(),
            ..RunArgs::default()
        };
        let both = arguments.over(options);
        assert_eq!(both.listen, "[::1]:2".parse().ok());
        assert_eq!(both.stop_within.0, Duration::from_secs(3));
        assert_eq!(both.log_format, LogFormat::Json);
    }
}
