//! A target, how its columns belong to those of the source, and where its mirror tells how far it is.

use std::{collections::BTreeMap, fmt};

use final_reconcile::{Heartbeat, Job, Mapped, Mapping};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::super::sides::side;
use crate::{
    config::{DatabaseAddress, Period},
    exit::Failure,
};

/// A table that is to agree with the source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetConfig {
    database: DatabaseAddress,
    table: String,
    /// The columns of the key: source and target.
    #[serde(default)]
    key: BTreeMap<String, String>,
    /// Columns with one name on both sides.
    #[serde(default)]
    same: Vec<String>,
    /// Columns of the source, and what they are in the target.
    #[serde(default)]
    columns: BTreeMap<String, ColumnConfig>,
    /// Columns that are not compared, where all others are.
    #[serde(default)]
    except: Vec<String>,
    /// Whether all others are compared beside those that are named.
    #[serde(default)]
    rest: bool,
    /// Where the mirror tells how far it is.
    #[serde(default)]
    heartbeat: Option<HeartbeatConfig>,
}

/// A row in the target's database, with a time of the source's clock.
#[derive(Debug, Deserialize)]
#[serde(try_from = "HeartbeatFields")]
struct HeartbeatConfig(Heartbeat);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeartbeatFields {
    table: String,
    #[serde(default)]
    column: Option<String>,
    /// The column that names the row, and its value there.
    #[serde(default)]
    row: BTreeMap<String, RowValue>,
    #[serde(default)]
    limit: Option<Period>,
}

/// What names the row: a text, or a whole number as a text.
#[derive(Debug)]
struct RowValue(String);

impl<'de> Deserialize<'de> for RowValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = RowValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<RowValue, E> {
                Ok(RowValue(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<RowValue, E> {
                Ok(RowValue(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<RowValue, E> {
                Ok(RowValue(number.to_string()))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl TryFrom<HeartbeatFields> for HeartbeatConfig {
    type Error = &'static str;

    fn try_from(fields: HeartbeatFields) -> Result<Self, &'static str> {
        let mut heartbeat = Heartbeat::table(fields.table);
        if let Some(column) = fields.column {
            heartbeat = heartbeat.column(column);
        }
        if fields.row.len() > 1 {
            return Err("`row` names one column and its value, as { id = 1 }");
        }
        for (column, value) in fields.row {
            heartbeat = heartbeat.row(column, value.0);
        }
        Ok(Self(match fields.limit {
            Some(limit) => heartbeat.limit(limit.0),
            None => heartbeat,
        }))
    }
}

/// A name, or a name with a rule.
#[derive(Debug, Default)]
struct ColumnConfig(RuleConfig);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleConfig {
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    decimal: Option<u32>,
    #[serde(default)]
    digits: Option<u32>,
    #[serde(default)]
    precision: Option<u32>,
    #[serde(default)]
    uuid: bool,
    #[serde(default)]
    text: bool,
    #[serde(default)]
    trimmed: bool,
}

impl<'de> Deserialize<'de> for ColumnConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrRule;
        impl<'de> Visitor<'de> for NameOrRule {
            type Value = ColumnConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of the target's column, or { to = \"…\", decimal = 2 }")
            }

            fn visit_str<E>(self, name: &str) -> Result<ColumnConfig, E> {
                Ok(ColumnConfig(RuleConfig {
                    to: Some(name.into()),
                    ..RuleConfig::default()
                }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ColumnConfig, A::Error> {
                RuleConfig::deserialize(MapAccessDeserializer::new(map)).map(ColumnConfig)
            }
        }
        deserializer.deserialize_any(NameOrRule)
    }
}

impl TargetConfig {
    /// The job with this target.
    pub(super) fn of(self, job: Job, name: &str) -> Result<Job, Failure> {
        let to = side(name, &self.database, &self.table)?;
        let columns: Result<Vec<(String, Mapped)>, Failure> = self
            .columns
            .into_iter()
            .map(|(column, rule)| Ok((column.clone(), rule.mapped(name, &column)?)))
            .collect();
        let columns = columns?;
        Ok(job.target(to, |map: Mapping| {
            let map = map.same(self.same).except(self.except);
            let map = if self.rest { map.rest() } else { map };
            let map = match self.heartbeat {
                Some(heartbeat) => map.heartbeat(heartbeat.0),
                None => map,
            };
            let map = self
                .key
                .into_iter()
                .fold(map, |map, (from, to)| map.key(from, to));
            columns
                .into_iter()
                .fold(map, |map, (from, to)| map.column(from, to))
        }))
    }
}

impl ColumnConfig {
    fn mapped(self, job: &str, column: &str) -> Result<Mapped, Failure> {
        let rule = self.0;
        let given = [
            rule.decimal.is_some(),
            rule.digits.is_some(),
            rule.precision.is_some(),
            rule.uuid,
            rule.text,
            rule.trimmed,
        ];
        if given.iter().filter(|given| **given).count() > 1 {
            return Err(Failure::usage(format!(
                "job {job}: `{column}` has several rules; leave one of them"
            )));
        }
        let mapped = match rule.to {
            Some(name) => Mapped::to(name),
            None => Mapped::default(),
        };
        Ok(match rule {
            RuleConfig {
                decimal: Some(scale),
                ..
            } => mapped.decimal(scale),
            RuleConfig {
                digits: Some(digits),
                ..
            } => mapped.digits(digits),
            RuleConfig {
                precision: Some(digits),
                ..
            } => mapped.precision(digits),
            RuleConfig { uuid: true, .. } => mapped.uuid(),
            RuleConfig { text: true, .. } => mapped.text(),
            RuleConfig { trimmed: true, .. } => mapped.trimmed(),
            _ => mapped,
        })
    }
}
