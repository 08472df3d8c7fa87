//! What is the same for all changes of a table: its topic, its rules, and the JSON of its names.
//!
//! Input: a [`Table`], the selection. Output: a [`Plan`], made when the table is seen for the first time and again when
//! its columns change.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{EncodeError, EncoderOptions, Format, dbsync_table, key, topic};
use crate::{
    select::{Fit, Show, TableFilter},
    table::{Column, ColumnKind, Table, TableName},
    value::{Value, json},
};

/// Tables that are remembered. Tools that change a table in place make names without end.
const MOST: usize = 10_000;

/// What is the same for all changes of a table.
#[derive(Debug)]
pub(super) struct Plan {
    table: Arc<Table>,
    /// Whether it is captured at all.
    pub(super) wanted: bool,
    pub(super) topic: Arc<str>,
    /// `,"schema":"shop","table":"holes"`
    pub(super) names: Vec<u8>,
    pub(super) columns: Vec<ColumnPlan>,
    /// The key's columns, by their places.
    pub(super) key: Vec<usize>,
    filters: Vec<TableFilter>,
    /// The message key of the whole table.
    pub(super) table_key: Arc<str>,
    /// In dbsync's format, everything up to the values.
    pub(super) dbsync_head: Vec<u8>,
}

/// What is the same for all values of a column.
#[derive(Debug)]
pub(super) struct ColumnPlan {
    /// `"id":`
    pub(super) name: Vec<u8>,
    pub(super) show: Show,
    pub(super) kind: ColumnKind,
}

impl ColumnPlan {
    fn new(column: &Column, show: Show) -> Self {
        let mut name = Vec::new();
        json::text(&mut name, &column.name);
        name.push(b':');
        Self {
            name,
            show,
            kind: column.kind.clone(),
        }
    }

    /// Whether messages have the column.
    pub(super) fn is_shown(&self) -> bool {
        !matches!(self.show, Show::Dropped)
    }

    /// The value as messages show it.
    pub(super) fn shown<'a>(&self, value: &'a Value) -> Cow<'a, Value> {
        match (&self.show, value) {
            (Show::Plain | Show::Dropped, _) | (_, Value::Null | Value::Absent) => {
                Cow::Borrowed(value)
            }
            (Show::Masked(text), _) => Cow::Owned(Value::Text(Arc::clone(text))),
            (Show::Hashed(key), value) => {
                Cow::Owned(Value::Text(key.hash(&canonical(value)).into()))
            }
        }
    }
}

/// The bytes of a value that is hashed: its text as JSON shows it, without quotes; bytes as they are.
fn canonical(value: &Value) -> Vec<u8> {
    match value {
        Value::Text(text) | Value::Enum(_, text) | Value::Json(text) | Value::Invalid(text) => {
            text.as_bytes().to_vec()
        }
        Value::Bytes(bytes) => bytes.to_vec(),
        Value::Set(_, texts) => texts.join(",").into_bytes(),
        other => {
            let mut text = Vec::new();
            json::write(&mut text, other, json::Integers::Numbers);
            text
        }
    }
}

impl Plan {
    fn new(
        table: &Arc<Table>,
        source: &str,
        options: &EncoderOptions,
    ) -> Result<Self, EncodeError> {
        let stops = |why: String| EncodeError {
            table: table.name.clone(),
            key: None,
            why,
            stops: true,
        };
        let wanted = options.selection.wants(&table.name);
        let (mut show, mut filters, mut topic) = (Vec::new(), Vec::new(), String::new());
        if wanted {
            let rules = options.selection.rules_for(source, table);
            let rules = rules.map_err(|error| stops(error.to_string()))?;
            (show, filters) = (rules.show, rules.filters);
            topic = (options.topic)(&table.name);
            if let Some(fault) = topic::fault(&topic) {
                return Err(stops(format!(
                    "its topic `{topic}` cannot be used: {fault}; give it another one by the topic's template"
                )));
            }
        }
        let columns: Vec<_> = table
            .columns
            .iter()
            .zip(show)
            .map(|(column, show)| ColumnPlan::new(column, show))
            .collect();
        let mut names = b",\"schema\":".to_vec();
        json::text(&mut names, &table.name.schema);
        names.extend(b",\"table\":");
        json::text(&mut names, &table.name.table);
        let shown = table.columns.iter().zip(&columns);
        let shown = shown.filter(|(_, plan)| plan.is_shown());
        let dbsync_head = match options.format {
            Format::Dbsync { .. } if wanted => {
                // A masked or hashed value is a text, whatever the column has.
                let told = shown.map(|(column, plan)| match plan.show {
                    Show::Plain => column.clone(),
                    _ => Column {
                        name: Arc::clone(&column.name),
                        kind: ColumnKind::Text,
                        declared: "varchar(64)".into(),
                    },
                });
                dbsync_table::head(&table.name.table, &told.collect::<Vec<_>>())
            }
            _ => Vec::new(),
        };
        Ok(Self {
            table: Arc::clone(table),
            wanted,
            topic: topic.into(),
            names,
            columns,
            key: table.key.clone(),
            filters,
            table_key: key::shortened(table.name.to_string()).into(),
            dbsync_head,
        })
    }

    /// The table's name.
    pub(super) fn name(&self) -> &TableName {
        &self.table.name
    }

    /// The table.
    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    /// Whether rows are left out.
    pub(super) fn filters(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Whether a row fits all filters.
    pub(super) fn fit(&self, row: &[Value]) -> Fit {
        let mut all = Fit::Yes;
        for filter in &self.filters {
            match filter.fit(row) {
                Fit::No => return Fit::No,
                Fit::Unknown => all = Fit::Unknown,
                Fit::Yes => {}
            }
        }
        all
    }
}

/// The plans of the tables that were seen.
#[derive(Debug)]
pub(super) struct Plans {
    source: Arc<str>,
    all: HashMap<TableName, Arc<Plan>>,
    /// That of the last change: mostly it is that of the next one.
    last: Option<(Arc<Table>, Arc<Plan>)>,
}

impl Plans {
    /// None yet, of this source.
    pub(super) fn new(source: Arc<str>) -> Self {
        Self {
            source,
            all: HashMap::new(),
            last: None,
        }
    }

    pub(super) fn of(
        &mut self,
        table: &Arc<Table>,
        options: &EncoderOptions,
    ) -> Result<Arc<Plan>, EncodeError> {
        if let Some((of, plan)) = &self.last
            && Arc::ptr_eq(of, table)
        {
            return Ok(Arc::clone(plan));
        }
        let plan = match self.all.get(&table.name) {
            Some(plan) if plan.table == *table => Arc::clone(plan),
            _ => {
                if self.all.len() >= MOST {
                    self.all.clear();
                }
                let plan = Arc::new(Plan::new(table, &self.source, options)?);
                self.all.insert(table.name.clone(), Arc::clone(&plan));
                plan
            }
        };
        self.last = Some((Arc::clone(table), Arc::clone(&plan)));
        Ok(plan)
    }
}
