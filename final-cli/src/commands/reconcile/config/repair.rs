//! What is done about rows that differ.

use std::time::Duration;

use final_reconcile::{CallbackBody, Repair};
use final_webhook::Endpoint;
use serde::Deserialize;

use super::{super::bus::AnyBus, endpoint::endpoint, lease::RepairLease};
use crate::{
    config::{Period, Secret, WebAddress},
    exit::Failure,
};

/// What is done, and how soon it is done again.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RepairFields")]
pub(super) struct RepairConfig {
    way: Way,
    body: CallbackBody,
    extras: bool,
    quick: Option<Period>,
    slow: Option<Period>,
    lease: Option<RepairLease>,
}

#[derive(Debug)]
enum Way {
    Callback(Box<Endpoint>),
    Publish(String),
    Sql,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepairFields {
    #[serde(default)]
    callback: Option<CallbackConfig>,
    #[serde(default)]
    publish: Option<PublishFields>,
    #[serde(default)]
    sql: bool,
    /// Whether rows are repaired that the source has not.
    #[serde(default)]
    extras: bool,
    #[serde(default)]
    quick: Option<Period>,
    #[serde(default)]
    slow: Option<Period>,
    /// How long a process that is gone keeps repairs that it has taken from the others.
    #[serde(default)]
    lease: Option<RepairLease>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "CallbackFields")]
struct CallbackConfig {
    endpoint: Endpoint,
    timeout: Option<Period>,
    body: BodyWord,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CallbackFields {
    url: WebAddress,
    #[serde(default)]
    secret: Option<Secret>,
    #[serde(default)]
    timeout: Option<Period>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    body: BodyWord,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishFields {
    topic: String,
    #[serde(default)]
    body: BodyWord,
}

/// What a call or a message has in it.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum BodyWord {
    #[default]
    Full,
    Cupid,
    CupidRow,
}

impl From<BodyWord> for CallbackBody {
    fn from(word: BodyWord) -> Self {
        match word {
            BodyWord::Full => Self::Full,
            BodyWord::Cupid => Self::Cupid,
            BodyWord::CupidRow => Self::CupidRow,
        }
    }
}

impl TryFrom<CallbackFields> for CallbackConfig {
    type Error = String;

    fn try_from(fields: CallbackFields) -> Result<Self, String> {
        let secret = fields.secret.as_ref();
        Ok(Self {
            endpoint: endpoint(&fields.url, secret, fields.timeout, fields.private)?,
            timeout: fields.timeout,
            body: fields.body,
        })
    }
}

impl TryFrom<RepairFields> for RepairConfig {
    type Error = String;

    fn try_from(fields: RepairFields) -> Result<Self, String> {
        let lease = fields.lease.map_or(LEASE, |lease| lease.0);
        let timeout = fields
            .callback
            .as_ref()
            .and_then(|callback| callback.timeout);
        if let Some(timeout) = timeout.filter(|timeout| timeout.0 > lease / 4) {
            return Err(format!(
                "`callback.timeout` ({timeout}) is longer than a quarter of `lease` ({}), and a try may take no longer; write \
                 lease = \"{}\" or a smaller `timeout`",
                Period(lease),
                Period(timeout.0.saturating_mul(4)),
            ));
        }
        let (way, body) = match (fields.callback, fields.publish, fields.sql) {
            (Some(callback), None, false) => {
                (Way::Callback(Box::new(callback.endpoint)), callback.body)
            }
            (None, Some(publish), false) => (Way::Publish(publish.topic), publish.body),
            (None, None, true) => (Way::Sql, BodyWord::default()),
            _ => {
                return Err(
                    "a repair is done in one way; name one of `callback`, `publish` and `sql = true`"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            way,
            body: body.into(),
            extras: fields.extras,
            quick: fields.quick,
            slow: fields.slow,
            lease: fields.lease,
        })
    }
}

impl RepairConfig {
    /// Whether it publishes messages.
    pub(super) fn is_published(&self) -> bool {
        matches!(self.way, Way::Publish(_))
    }

    /// The repair, with the bus that it publishes on.
    pub(super) fn repair(self, bus: Option<&dyn AnyBus>) -> Result<Repair, Failure> {
        let mut repair = match self.way {
            Way::Callback(endpoint) => Repair::callback(*endpoint),
            Way::Sql => Repair::sql(),
            Way::Publish(topic) => match bus {
                Some(bus) => bus.repair(&topic),
                None => {
                    return Err(Failure::usage(
                        "`repair.publish` needs a bus; name it by [bus]",
                    ));
                }
            },
        };
        repair = repair.body(self.body).extras(self.extras);
        if self.quick.is_some() || self.slow.is_some() {
            let quick = self.quick.unwrap_or(QUICK);
            repair = repair.pace(quick.0, self.slow.unwrap_or(SLOW).0);
        }
        if let Some(lease) = self.lease {
            repair = repair.lease(lease.0);
        }
        Ok(repair)
    }
}

/// The library's own pace and lease.
const QUICK: Period = Period(Duration::from_secs(10));
const SLOW: Period = Period(Duration::from_secs(600));
const LEASE: Duration = Duration::from_secs(120);
