//! What is compared with what: the columns of both sides, their forms, and the key.
//!
//! Input: two described tables and a mapping. Output: a [`Plan`], or an error that names the column or the key that
//! cannot be compared. No row is touched.
//!
//! | part | has |
//! | --- | --- |
//! | [`mapping`] | what a caller says about columns |
//! | [`columns`] | the columns that are compared, with their forms |
//! | [`key`] | the columns of the key |
//! | [`json`] | a key of JSON in canonical form |

mod columns;
pub(crate) mod json;
mod key;
pub(crate) mod mapping;

use self::mapping::Mapping;
use crate::{
    error::{ReconcileError, Reconciled},
    form::{Form, Hash, Row, given, here::hex},
    sql::key_column::KeyColumn,
    table::{Family, SideColumn, SideTable, UniqueIndex},
};

/// The plan of one pair of tables.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) source: SidePlan,
    pub(crate) target: SidePlan,
    /// Why the tables are not compared range by range of the key.
    pub(crate) no_ranges: Option<String>,
}

/// The half of a plan that one side has to know. The columns of the key come first.
#[derive(Clone, Debug)]
pub(crate) struct SidePlan {
    pub(crate) table: SideTable,
    pub(crate) columns: Vec<SideColumn>,
    pub(crate) forms: Vec<Form>,
    /// In which forms whole values go from the source to the target. None if both are SQLite, where they go as they are
    /// stored.
    pub(crate) given: Option<Vec<Form>>,
    pub(crate) keys: Vec<KeyColumn>,
    pub(crate) hash: Hash,
    pub(crate) is_in_ranges: bool,
    /// How many hexadecimal digits of a key's hash are its bucket.
    pub(crate) bucket_digits: usize,
}

impl SidePlan {
    /// The plan that reads these columns of a table. Rows are looked up, or ordered, by the first one.
    pub(crate) fn of_columns(table: SideTable, columns: Vec<(SideColumn, Form)>) -> Self {
        let (columns, forms): (Vec<SideColumn>, Vec<Form>) = columns.into_iter().unzip();
        let first = columns.iter().zip(&forms).take(1);
        let keys = first.map(|(column, form)| KeyColumn {
            name: quoted(&table, &column.name),
            column: column.clone(),
            form: *form,
            digits: None,
        });
        Self {
            keys: keys.collect(),
            columns,
            forms,
            given: None,
            hash: match table.has_md5 {
                true => Hash::Md5,
                false => Hash::Sha256,
            },
            is_in_ranges: false,
            bucket_digits: 1,
            table,
        }
    }

    /// Whether a server can make all forms. Otherwise rows are read and hashed in this process.
    pub(crate) fn is_made_by_servers(&self) -> bool {
        self.forms.iter().all(|form| form.is_made_by_servers())
    }

    /// The plan that reads keys in the order of another column, which stands before them. Where its values are unique, no
    /// other column is needed for the order, so that its index gives it.
    ///
    /// UUIDs that are texts are ordered as they are written, so they come a second time, as texts: with their digits alone
    /// the place of a row in the index could not be found again.
    pub(crate) fn by_column(&self, column: &SideColumn, form: Form) -> Self {
        let first = KeyColumn {
            name: quoted(&self.table, &column.name),
            column: column.clone(),
            form,
            digits: None,
        };
        let is_unique = |index: &UniqueIndex| index.columns.iter().eq([&column.name]);
        let mut behind = match self.table.unique.iter().any(is_unique) {
            true => Vec::new(),
            false => self.keys.clone(),
        };
        let family = self.table.family;
        let is_written = |key: &KeyColumn| key.misplaced(family).is_some();
        let comes_twice = family != Family::Sqlite && behind.iter().any(is_written);
        for key in &mut behind {
            match family {
                // It may have bytes as well as texts.
                Family::Sqlite => key.order_by_digits(family),
                _ if is_written(key) => key.form = Form::Text { trim: false },
                _ => {}
            }
        }
        let keys: Vec<KeyColumn> = [first].into_iter().chain(behind).collect();
        let own = keys.iter().take(if comes_twice { keys.len() } else { 1 });
        let (mut columns, mut forms): (Vec<SideColumn>, Vec<Form>) =
            own.map(|key| (key.column.clone(), key.form)).unzip();
        let count = self.keys.len();
        columns.extend(self.columns.iter().take(count).cloned());
        forms.extend(self.forms.iter().take(count).copied());
        Self {
            columns,
            forms,
            keys,
            ..self.clone()
        }
    }

    /// The plan for all columns of the table as its server prints them, behind those of the key. They are those that a
    /// client gets who asks for all.
    pub(crate) fn printed(&self) -> Self {
        let mut plan = self.clone();
        plan.columns.truncate(self.keys.len());
        plan.forms.truncate(self.keys.len());
        let visible = self.table.columns.iter();
        let visible = visible.filter(|column| !column.is_invisible);
        plan.columns.extend(visible.cloned());
        plan.forms.resize(plan.columns.len(), Form::Printed);
        plan.given = None;
        plan
    }

    /// Whether the key is the primary key, with its columns in the same order.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(crate) fn has_primary_key(&self) -> bool {
        let names = self.keys.iter().map(|key| &key.column.name);
        let mut unique = self.table.unique.iter();
        unique.any(|index| index.is_primary && index.columns.iter().eq(names.clone()))
    }

    /// The bucket of a key.
    pub(crate) fn bucket(&self, key: &Row) -> String {
        let mut digits = hex(&self.hash.of(&key.0));
        digits.truncate(self.bucket_digits);
        digits
    }
}

/// Rows of a bucket, about.
const BUCKET: u64 = 1_000;

impl Plan {
    pub(crate) fn new(source: SideTable, target: SideTable, mapping: &Mapping) -> Reconciled<Self> {
        let mapping = &mapping.spelled(&source, &target);
        let key = key::names(&source, &target, mapping)?;
        let pairs = columns::pairs(&source, &target, mapping, &key)?;
        key::check(&source, &target, &pairs, key.len())?;
        let no_ranges = key::no_ranges(&pairs, key.len());
        let hash = match source.has_md5 && target.has_md5 {
            true => Hash::Md5,
            false => Hash::Sha256,
        };
        let rows = source.rows.or(target.rows).unwrap_or(1_000_000);
        let bucket_digits = match rows / BUCKET {
            0..=16 => 1,
            17..=256 => 2,
            257..=4_096 => 3,
            _ => 4,
        };
        let forms: Vec<Form> = pairs.iter().map(|pair| pair.form).collect();
        let given =
            (source.family != Family::Sqlite || target.family != Family::Sqlite).then(|| {
                let forms = pairs.iter();
                let form = |pair: &columns::Pair| {
                    given(pair.form, (source.family, &pair.source), &pair.target)
                };
                forms.map(form).collect::<Vec<Form>>()
            });
        let side = |table: SideTable, of: fn(&columns::Pair) -> &SideColumn| {
            let columns: Vec<SideColumn> = pairs.iter().map(|pair| of(pair).clone()).collect();
            let keys = columns.iter().zip(&forms).take(key.len());
            let keys = keys.map(|(column, form)| KeyColumn {
                name: quoted(&table, &column.name),
                column: column.clone(),
                form: *form,
                digits: None,
            });
            SidePlan {
                keys: keys.collect(),
                columns,
                forms: forms.clone(),
                given: given.clone(),
                hash,
                is_in_ranges: no_ranges.is_none(),
                bucket_digits,
                table,
            }
        };
        Ok(Self {
            source: side(source, |pair| &pair.source),
            target: side(target, |pair| &pair.target),
            no_ranges: no_ranges.clone(),
        })
    }

    /// The columns of the key on both sides, and their forms. A stored key is one of the same text.
    pub(crate) fn key(&self) -> String {
        let pairs = self.source.keys.iter().zip(&self.target.keys);
        let pairs = pairs.map(|(source, target)| {
            format!(
                "{} = {} ({})",
                source.column.name, target.column.name, source.form
            )
        });
        pairs.collect::<Vec<_>>().join(", ")
    }

    /// Whether rows of the source can be written into the target.
    ///
    /// # Errors
    ///
    /// Names what cannot be written: a column, or the table.
    pub(crate) fn check_written(&self) -> Reconciled<()> {
        let SidePlan { table, columns, .. } = &self.target;
        let generated = columns.iter().find(|column| column.is_generated);
        let is_above = |at: usize, name: &str| columns.iter().take(at).any(|it| it.name == name);
        let twice = columns
            .iter()
            .enumerate()
            .find(|(at, it)| is_above(*at, &it.name));
        let problem = match (generated, twice, &table.unsafe_engine) {
            (Some(column), ..) => format!(
                "its column `{}` is generated by its database; leave the column out by `except`",
                column.name
            ),
            (None, Some((_, column)), _) => format!(
                "its column `{}` is to have two columns of the source; leave one of them out of the mapping",
                column.name
            ),
            (None, None, Some(engine)) => format!(
                "its engine {engine} has no transactions, so a row that is not right could not be taken back; make it a \
                 table of InnoDB"
            ),
            (None, None, None) => return Ok(()),
        };
        Err(ReconcileError::Unwritable {
            side: table.shown.clone(),
            problem,
        })
    }

    /// The plan for UUIDs that are written in several ways, in the source or in the target. Ranges of them do not have the
    /// same rows on both sides.
    pub(crate) fn order_by_digits(&mut self, in_source: bool, in_target: bool) {
        for (side, is_meant) in [(&mut self.source, in_source), (&mut self.target, in_target)] {
            side.is_in_ranges = false;
            let family = side.table.family;
            for key in side.keys.iter_mut().filter(|_| is_meant) {
                key.order_by_digits(family);
            }
        }
        self.no_ranges
            .get_or_insert_with(|| "UUIDs of the key are written in several ways".to_owned());
    }
}

fn quoted(table: &SideTable, name: &str) -> String {
    use final_core::database::Dialect;

    match table.family {
        Family::Postgres => Dialect::Postgres.quoted(name),
        Family::MySql | Family::MariaDb => Dialect::MySql.quoted(name),
        Family::Sqlite => Dialect::Sqlite.quoted(name),
    }
}
