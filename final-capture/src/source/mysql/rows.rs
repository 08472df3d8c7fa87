//! The rows of an event: which were inserted, changed or deleted.
//!
//! Input: the body of a row event, and the [`Layout`] of its table. Output: for each row how it was before and after.

use std::borrow::Cow;

use super::{
    inflate,
    layout::Layout,
    shape::Shape,
    wire::{CannotRead, Wire, bit},
};
use crate::{
    source::RowOp,
    value::{Row, Value},
};

/// The events with rows. The compressed ones are MariaDB's own.
pub(super) fn op(kind: u8) -> Option<(RowOp, Form)> {
    let (op, form) = match kind {
        23 => (RowOp::Insert, (1, false)),
        24 => (RowOp::Update, (1, false)),
        25 => (RowOp::Delete, (1, false)),
        30 => (RowOp::Insert, (2, false)),
        31 => (RowOp::Update, (2, false)),
        32 => (RowOp::Delete, (2, false)),
        166 => (RowOp::Insert, (1, true)),
        167 => (RowOp::Update, (1, true)),
        168 => (RowOp::Delete, (1, true)),
        169 => (RowOp::Insert, (2, true)),
        170 => (RowOp::Update, (2, true)),
        171 => (RowOp::Delete, (2, true)),
        _ => return None,
    };
    let (version, compressed) = form;
    Some((
        op,
        Form {
            extra: version == 2,
            compressed,
        },
    ))
}

/// What differs between the events of one operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// Whether a length and that much more data come before the columns.
    extra: bool,
    compressed: bool,
}

/// The rows of an event that ends a statement without having a table.
const NO_TABLE: u64 = 0x00ff_ffff;

/// An event's rows, not read yet.
pub(super) struct Rows<'a> {
    /// The number of the table's map.
    pub(super) table: u64,
    columns: usize,
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    rows: Cow<'a, [u8]>,
}

impl<'a> Rows<'a> {
    /// Reads what comes before the rows. None for an event that has no table and no rows.
    pub(super) fn new(
        op: RowOp,
        form: Form,
        body: &'a [u8],
        most: usize,
    ) -> Result<Option<Self>, CannotRead> {
        let mut wire = Wire(body);
        let table = wire.low_first(6)?;
        wire.take(2)?;
        if form.extra {
            let extra = usize::try_from(wire.low_first(2)?).unwrap_or(usize::MAX);
            wire.take(extra.saturating_sub(2))?;
        }
        let columns = wire.length()?;
        let mut bits = |there: bool| there.then(|| wire.take(columns.div_ceil(8))).transpose();
        let before = bits(op != RowOp::Insert)?;
        let after = bits(op != RowOp::Delete)?;
        if table == NO_TABLE && wire.is_empty() {
            return Ok(None);
        }
        let rows = if form.compressed {
            inflate::event(wire.0, most)?.into()
        } else {
            wire.0.into()
        };
        Ok(Some(Self {
            table,
            columns,
            before,
            after,
            rows,
        }))
    }

    fn fits(&self, layout: &Layout) -> Result<(), CannotRead> {
        if layout.shapes.len() == self.columns {
            return Ok(());
        }
        Err(CannotRead(format!(
            "rows of {} have {} columns, and their table map has {}",
            layout.table.name,
            self.columns,
            layout.shapes.len()
        )))
    }

    /// Whether columns were left out of what is after, or of an old row: the server's setting is not FULL.
    pub(super) fn is_partial(&self, layout: &Layout) -> bool {
        let is_there = |sent: &[u8], at| bit(sent, at) || layout.hidden.contains(&at);
        let is_whole = |sent: &[u8]| (0..self.columns).all(|at| is_there(sent, at));
        [self.before, self.after]
            .into_iter()
            .flatten()
            .any(|sent| !is_whole(sent))
    }

    /// How many rows there are.
    pub(super) fn count(&self, layout: &Layout) -> Result<u64, CannotRead> {
        self.fits(layout)?;
        let mut wire = Wire(&self.rows);
        let mut count = 0;
        while !wire.is_empty() {
            let left = wire.0.len();
            for sent in [self.before, self.after].into_iter().flatten() {
                skip(&mut wire, &layout.shapes, sent)?;
            }
            if wire.0.len() == left {
                return Err(CannotRead::new("a row takes no bytes"));
            }
            count += 1;
        }
        Ok(count)
    }

    /// Reads them.
    pub(super) fn each(
        &self,
        layout: &Layout,
        most: usize,
        mut take: impl FnMut(Option<Row>, Option<Row>),
    ) -> Result<(), CannotRead> {
        self.fits(layout)?;
        let mut wire = Wire(&self.rows);
        while !wire.is_empty() {
            let left = wire.0.len();
            let mut row = |sent: Option<&[u8]>| {
                sent.map(|sent| read(&mut wire, layout, sent, most))
                    .transpose()
            };
            let before = row(self.before)?;
            let mut after = row(self.after)?;
            if let (Some(before), Some(after)) = (&before, &mut after) {
                complete(after, before);
            }
            if wire.0.len() == left {
                return Err(CannotRead::new("a row takes no bytes"));
            }
            take(before, after);
        }
        Ok(())
    }
}

/// A column that an UPDATE has not touched has the value that it had before, if that was sent.
fn complete(after: &mut Row, before: &Row) {
    for (after, before) in after.iter_mut().zip(before) {
        if *after == Value::Absent {
            after.clone_from(before);
        }
    }
}

/// Of those columns that were sent, which are NULL.
fn nulls<'a>(wire: &mut Wire<'a>, shapes: &[Shape], sent: &[u8]) -> Result<&'a [u8], CannotRead> {
    let count = (0..shapes.len()).filter(|&at| bit(sent, at)).count();
    wire.take(count.div_ceil(8))
}

fn skip(wire: &mut Wire<'_>, shapes: &[Shape], sent: &[u8]) -> Result<(), CannotRead> {
    let nulls = nulls(wire, shapes, sent)?;
    let columns = shapes.iter().enumerate().filter(|(at, _)| bit(sent, *at));
    for (place, (_, shape)) in columns.enumerate() {
        if !bit(nulls, place) {
            shape.skip(wire)?;
        }
    }
    Ok(())
}

fn read(wire: &mut Wire<'_>, layout: &Layout, sent: &[u8], most: usize) -> Result<Row, CannotRead> {
    let nulls = nulls(wire, &layout.shapes, sent)?;
    let mut row = Row::with_capacity(layout.shapes.len());
    let mut place = 0;
    for (at, shape) in layout.shapes.iter().enumerate() {
        let value = if !bit(sent, at) {
            Value::Absent
        } else {
            place += 1;
            if bit(nulls, place - 1) {
                Value::Null
            } else {
                shape.read(wire, most).map_err(|CannotRead(why)| {
                    let column = layout
                        .table
                        .columns
                        .get(row.len())
                        .map_or("", |column| &column.name);
                    CannotRead(format!("column {column} of {}: {why}", layout.table.name))
                })?
            }
        };
        if !layout.hidden.contains(&at) {
            row.push(value);
        }
    }
    Ok(row)
}
