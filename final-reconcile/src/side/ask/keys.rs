//! Statements that look for one row whose key is not as it is mostly.

use crate::{plan::SidePlan, table::Family};

/// The statement that looks for a UUID that is written in a way that no index is asked for. None where there can be none.
pub(super) fn odd_keys(plan: &SidePlan) -> Option<String> {
    let family = plan.table.family;
    let conditions = plan.keys.iter().filter_map(|key| key.odd(family));
    one_where(plan, conditions.collect())
}

/// The statement that looks for a UUID that has another place in the index than its digits say. None where there can be
/// none.
pub(super) fn misplaced_keys(plan: &SidePlan) -> Option<String> {
    let family = plan.table.family;
    let conditions = plan.keys.iter().filter_map(|key| key.misplaced(family));
    one_where(plan, conditions.collect())
}

/// The statement that looks for a row without a key. None where the columns allow none.
pub(super) fn null_keys(plan: &SidePlan) -> Option<String> {
    let nullable = plan.keys.iter().filter(|key| key.column.nullable);
    let conditions = nullable.map(|key| format!("{} IS NULL", key.name));
    one_where(plan, conditions.collect())
}

fn one_where(plan: &SidePlan, conditions: Vec<String>) -> Option<String> {
    let name = &plan.table.name;
    let one = match plan.table.family {
        Family::Postgres => "1::bigint",
        _ => "1",
    };
    (!conditions.is_empty()).then(|| {
        format!(
            "SELECT {one} AS found FROM {name} WHERE {} LIMIT 1",
            conditions.join(" OR ")
        )
    })
}
