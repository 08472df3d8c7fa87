//! Plans and operations.

use final_core::admin::{Operation, Plan, Sample};
use serde::Serialize;

use super::{CountView, LetterView, RecordView, count_text, letter_table, moment, record_table};
use crate::{
    exit::Failure,
    output::{Cell, Output, Table, text::harmless, time::utc},
};

/// What an action would do.
#[derive(Debug, Serialize)]
pub(crate) struct PlanView {
    operation: i64,
    service: String,
    action: String,
    filter: String,
    count: CountView,
    cut_off: String,
    sample: Vec<SampleView>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum SampleView {
    Letter(LetterView),
    Record(RecordView),
}

impl From<&Plan> for PlanView {
    fn from(plan: &Plan) -> Self {
        let sample = plan.sample.iter().filter_map(|sample| match sample {
            Sample::Letter(letter) => Some(SampleView::Letter(letter.into())),
            Sample::Record(record) => {
                Some(SampleView::Record(RecordView::new(&plan.service, record)))
            }
            _ => None,
        });
        Self {
            operation: plan.id,
            service: plan.service.clone(),
            action: plan.action.to_string(),
            filter: plan.filter.clone(),
            count: plan.count.into(),
            cut_off: utc(plan.cut_off),
            sample: sample.collect(),
        }
    }
}

impl PlanView {
    /// Writes a plan for a person: what is done with how many, and the first ones.
    pub(crate) fn write(plan: &Plan, out: &mut Output) -> Result<(), Failure> {
        let (mut letters, mut records) = (Vec::new(), Vec::new());
        for sample in &plan.sample {
            match sample {
                Sample::Letter(letter) => letters.push(letter.clone()),
                Sample::Record(record) => records.push(record.clone()),
                _ => {}
            }
        }
        let what = if records.is_empty() {
            "dead letter(s)"
        } else {
            "record(s)"
        };
        let (action, count, service) = (plan.action, plan.count, &plan.service);
        out.line(&harmless(&format!(
            "operation {}: {action} {count} {what} of {service}, {}, up to {}",
            plan.id,
            plan.filter,
            utc(plan.cut_off),
        )))?;
        if !letters.is_empty() {
            out.table(&letter_table(&letters))?;
        }
        if !records.is_empty() {
            out.table(&record_table(&records))?;
        }
        let shown = plan.sample.len() as u64;
        if plan.count.more || plan.count.number > shown {
            out.line("…")?;
        }
        Ok(())
    }
}

/// A bulk action, as it is written down.
#[derive(Debug, Serialize)]
pub(crate) struct OperationView {
    operation: i64,
    service: String,
    who: String,
    action: String,
    on: &'static str,
    filter: String,
    cut_off: String,
    total: CountView,
    done: u64,
    refused: u64,
    refusal: Option<String>,
    state: String,
    planned_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
}

impl From<&Operation> for OperationView {
    fn from(operation: &Operation) -> Self {
        Self {
            operation: operation.id,
            service: operation.service.clone(),
            who: operation.who.clone(),
            action: operation.action.to_string(),
            on: on(operation),
            filter: operation.filter.clone(),
            cut_off: utc(operation.cut_off),
            total: operation.total.into(),
            done: operation.done,
            refused: operation.refused,
            refusal: operation.refusal.clone(),
            state: operation.state.to_string(),
            planned_at: utc(operation.planned_at),
            started_at: moment(operation.started_at),
            ended_at: moment(operation.ended_at),
        }
    }
}

fn on(operation: &Operation) -> &'static str {
    match operation.on_letters {
        true => "letters",
        false => "records",
    }
}

/// A list of operations.
pub(crate) fn operation_table(operations: &[Operation]) -> Table {
    let mut table = Table::new(&[
        ">operation",
        "service",
        "action",
        "on",
        "state",
        ">done",
        ">of",
        ">refused",
        "who",
        "planned",
        "filter",
    ]);
    for operation in operations {
        table.row([
            operation.id.to_string().into(),
            operation.service.as_str().into(),
            operation.action.to_string().into(),
            on(operation).into(),
            operation.state.to_string().into(),
            operation.done.to_string().into(),
            count_text(operation.total).into(),
            Cell::new(operation.refused.to_string()).bad(operation.refused > 0),
            operation.who.as_str().into(),
            utc(operation.planned_at).into(),
            operation.filter.as_str().into(),
        ]);
    }
    table
}
