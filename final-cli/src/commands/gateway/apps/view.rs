//! Apps and rights, as rows.

use final_gateway::rights::{AppInfo, AppLimits, Grant, Operation};
use serde::Serialize;

use crate::{
    exit::Failure,
    output::{Cell, Output, Table, time::utc},
};

/// An app.
#[derive(Debug, Serialize)]
struct AppView<'a> {
    app: &'a str,
    enabled: bool,
    created_at: String,
    disabled_at: Option<String>,
    secret_kind: &'a str,
    old_secret_until: Option<String>,
    connections: Option<u32>,
    publishes_per_second: Option<u32>,
    deliveries_per_second: Option<u32>,
    open_pairs: Option<u32>,
    rights: Vec<RightView<'a>>,
    faults: &'a [String],
}

/// A right.
#[derive(Debug, Serialize)]
pub(super) struct RightView<'a> {
    group: &'a str,
    topic: &'a str,
    publish: bool,
    subscribe: bool,
    batch: Option<u32>,
    publishes_per_second: Option<u32>,
    deliveries_per_second: Option<u32>,
}

impl<'a> From<&'a Grant> for RightView<'a> {
    fn from(grant: &'a Grant) -> Self {
        Self {
            group: grant.group(),
            topic: grant.topic(),
            publish: grant.operations().has(Operation::Publish),
            subscribe: grant.operations().has(Operation::Subscribe),
            batch: grant.most_of_a_batch(),
            publishes_per_second: grant.per_second(Operation::Publish),
            deliveries_per_second: grant.per_second(Operation::Subscribe),
        }
    }
}

impl<'a> From<&'a AppInfo> for AppView<'a> {
    fn from(app: &'a AppInfo) -> Self {
        let AppLimits {
            connections,
            publishes_per_second,
            deliveries_per_second,
            open_pairs,
        } = app.limits;
        Self {
            app: &app.key,
            enabled: app.disabled_at.is_none(),
            created_at: utc(app.created_at),
            disabled_at: app.disabled_at.map(utc),
            secret_kind: &app.secret_kind,
            old_secret_until: app.old_secret_until.map(utc),
            connections,
            publishes_per_second,
            deliveries_per_second,
            open_pairs,
            rights: app.rights.iter().map(RightView::from).collect(),
            faults: &app.faults,
        }
    }
}

/// Writes apps: for a person, each with a row for each of its rights.
pub(super) fn write(apps: &[AppInfo], out: &mut Output) -> Result<(), Failure> {
    if out.is_json() {
        return apps
            .iter()
            .try_for_each(|app| out.json("app", &AppView::from(app)));
    }
    let mut table = Table::new(&[
        "!app",
        "state",
        "group",
        "topic",
        "may",
        ">batch",
        ">publishes/s",
        ">deliveries/s",
        ">connections",
        ">open pairs",
    ]);
    let number = |limit: Option<u32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    for app in apps {
        let state = match (&app.disabled_at, app.faults.is_empty()) {
            (Some(_), _) => "disabled",
            (None, true) => "enabled",
            (None, false) => "faulty",
        };
        table.row([
            app.key.as_str().into(),
            Cell::new(state)
                .bad(state != "enabled")
                .good(state == "enabled"),
            "".into(),
            "".into(),
            app.faults.join("; ").into(),
            "".into(),
            number(app.limits.publishes_per_second).into(),
            number(app.limits.deliveries_per_second).into(),
            number(app.limits.connections).into(),
            number(app.limits.open_pairs).into(),
        ]);
        for right in &app.rights {
            table.row([
                "".into(),
                "".into(),
                right.group().into(),
                right.topic().into(),
                right.operations().to_string().into(),
                number(right.most_of_a_batch()).into(),
                number(right.per_second(Operation::Publish)).into(),
                number(right.per_second(Operation::Subscribe)).into(),
                "".into(),
                "".into(),
            ]);
        }
    }
    out.table(&table)
}
