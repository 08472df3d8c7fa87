//! The file with jobs of comparison.
//!
//! Input: TOML. Output: [`ReconcileConfig`], and a [`Job`] for each entry. A key that is not known is an error that names
//! its line.

use std::{collections::BTreeMap, fmt};

use final_reconcile::{Job, Mapped, Mapping};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::sides::side;
use crate::{
    config::{DatabaseAddress, Period},
    exit::Failure,
};

/// What the file says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReconcileConfig {
    #[serde(default)]
    pub(super) jobs: BTreeMap<String, JobConfig>,
}

/// A source and its targets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobConfig {
    source: TableConfig,
    targets: Vec<TargetConfig>,
    /// How long the copies may take to follow.
    #[serde(default)]
    settle: Option<Period>,
}

/// A table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableConfig {
    database: DatabaseAddress,
    table: String,
}

/// A table that is to agree with the source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TargetConfig {
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

impl JobConfig {
    /// The job of this name.
    pub(super) fn job(self, name: &str) -> Result<Job, Failure> {
        let mut job = Job::new(name).source(side(&self.source.database, &self.source.table)?);
        if let Some(settle) = self.settle {
            job = job.settle(settle.0);
        }
        for target in self.targets {
            let to = side(&target.database, &target.table)?;
            let columns: Result<Vec<(String, Mapped)>, Failure> = target
                .columns
                .into_iter()
                .map(|(column, rule)| Ok((column.clone(), rule.mapped(name, &column)?)))
                .collect();
            let columns = columns?;
            job = job.target(to, |map: Mapping| {
                let map = map.same(target.same).except(target.except);
                let map = if target.rest { map.rest() } else { map };
                let map = target
                    .key
                    .into_iter()
                    .fold(map, |map, (from, to)| map.key(from, to));
                columns
                    .into_iter()
                    .fold(map, |map, (from, to)| map.column(from, to))
            });
        }
        Ok(job)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const FILE: &str = r#"
        [jobs.users]
        settle = "5s"
        source = { database = "sqlite:shop.db", table = "user" }
        [[jobs.users.targets]]
        database = "sqlite:copy.db"
        table = "user_copy"
        key = { id = "number" }
        same = ["name"]
        except = []
        columns = { amount = { to = "amount_eur", decimal = 2 }, mail = "address" }
    "#;

    #[tokio::test]
    async fn a_file_names_every_part_of_a_job() {
        let loaded = config::parse::<ReconcileConfig>("reconcile.toml", FILE).unwrap();
        let job = loaded
            .config
            .jobs
            .into_iter()
            .next()
            .unwrap()
            .1
            .job("users")
            .unwrap();
        let shown = format!("{job:?}");
        for part in [
            "user_copy",
            "5s",
            "amount_eur",
            "Decimal(2)",
            "address",
            "number",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_rule_that_is_not_known_is_named_with_its_line() {
        let text = FILE.replace("decimal = 2", "decimals = 2");
        let error = config::parse::<ReconcileConfig>("reconcile.toml", &text)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("reconcile.toml:11") && error.contains("decimal"),
            "{error}"
        );
    }
}
