//! The configuration of a gateway.
//!
//! Input: a TOML file. Output: [`GatewayConfig`]. A key that is not known is an error that names its line.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;

use crate::{
    config::{self, BrokerAddress, ByteSize, ConfigError, DatabaseAddress, Loaded, Period},
    service::ServiceOptions,
};

/// What the file of a gateway says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewayConfig {
    /// The name of this gateway: all its nodes have the same one.
    #[serde(default = "name")]
    pub(super) name: String,
    /// What this node is called in receipts; a name that is made of the machine's without it.
    #[serde(default)]
    pub(super) node: Option<String>,
    /// Where the apps with their rights are, and the log.
    pub(super) database: DatabaseAddress,
    /// Keeps messages in RabbitMQ in place of the log.
    #[serde(default)]
    pub(super) rabbitmq: Option<BrokerAddress>,
    #[serde(default)]
    pub(super) resp: Option<ListenConfig>,
    #[serde(default)]
    pub(super) http: Option<ListenConfig>,
    #[serde(default)]
    pub(super) limits: LimitsConfig,
    #[serde(default)]
    pub(super) rights: RightsConfig,
    #[serde(default)]
    pub(super) log: LogConfig,
    #[serde(default)]
    pub(super) service: ServiceOptions,
}

/// Where one of the two protocols is spoken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenConfig {
    pub(super) listen: String,
    #[serde(default)]
    pub(super) max_connections: Option<usize>,
    #[serde(default)]
    pub(super) tls: Option<TlsConfig>,
}

/// Files in PEM form. They are read again when they change.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsConfig {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What is bounded. What is left out has the default of the library.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LimitsConfig {
    pub(super) max_message: Option<ByteSize>,
    pub(super) in_hand: Option<usize>,
    pub(super) in_hand_bytes: Option<ByteSize>,
    pub(super) open_pairs: Option<usize>,
    pub(super) open_pairs_of_app: Option<usize>,
    pub(super) visibility: Option<Period>,
    pub(super) max_deliveries: Option<u32>,
    pub(super) close_after: Option<Period>,
}

/// The settings of logins.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RightsConfig {
    /// Load balancers that show their own address in place of the client's.
    pub(super) balancers: Vec<IpAddr>,
    /// How long apps may log in while the database is away.
    pub(super) grace: Option<Period>,
}

/// The settings of the log.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogConfig {
    /// How long messages stay once every group has settled them.
    pub(super) keep: Option<Period>,
    /// When messages are removed although a group has not read them.
    pub(super) max_age: Option<Period>,
    /// Whether messages of one key are given out one after the other.
    pub(super) key_order: Option<bool>,
}

impl GatewayConfig {
    /// The defaults on a database.
    pub(super) fn of_database(url: &str) -> Result<Loaded<Self>, ConfigError> {
        let url = url.replace('\\', "\\\\").replace('"', "\\\"");
        config::parse("the database's URL", &format!("database = \"{url}\""))
    }
}

fn name() -> String {
    "gateway".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_every_part_of_a_gateway() {
        let text = "name = 'edge'\nnode = 'edge-1'\n\
            database = 'sqlite:edge.db'\n\
            rabbitmq = { url = 'amqp://edge@mq', password = { text = 'p' } }\n\
            [resp]\nlisten = '0.0.0.0:6205'\nmax_connections = 5\ntls = { certificate = 'a.pem', key = 'a.key' }\n\
            [http]\nlisten = '0.0.0.0:6206'\n\
            [limits]\nmax_message = '2 MB'\nvisibility = '1m'\nmax_deliveries = 7\nopen_pairs = 9\nopen_pairs_of_app = 3\n\
            close_after = '30s'\nin_hand = 3\nin_hand_bytes = '1 MiB'\n\
            [rights]\nbalancers = ['10.0.0.9', '::1']\ngrace = '5m'\n\
            [log]\nkeep = '24h'\nmax_age = '7d'\nkey_order = true\n\
            [service]\nlisten = '127.0.0.1:9090'\n";
        let config = config::parse::<GatewayConfig>("gateway.toml", text);
        let config = config.unwrap().config;

        assert_eq!(config.name, "edge");
        assert!(config.resp.is_some_and(|resp| resp.tls.is_some()));
        assert_eq!(config.limits.max_deliveries, Some(7));
        assert_eq!(config.limits.open_pairs_of_app, Some(3));
        assert_eq!(config.rights.balancers.len(), 2);
        assert_eq!(config.log.key_order, Some(true));
    }

    #[test]
    fn a_key_that_is_not_known_is_named_with_its_line() {
        let text = "database = 'sqlite:edge.db'\n[limits]\nmax_mesage = 1\n";
        let error = config::parse::<GatewayConfig>("gateway.toml", text);
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("gateway.toml:3:1") && error.contains("max_message"),
            "{error}"
        );
    }
}
