//! A walk along an index: pages and counts of tables of any size, at a bounded cost.
//!
//! Input: a table, the columns of an index, and a filter. State: where the walk is, and how many rows it may still
//! look at. Output: rows that meet the filter, or their count; and whether the walk has come to the end.
//!
//! ```text
//!   index:  ·····|<─ after          edge ─>|···············
//!                └ a stretch of 10,000 rows ┘ filtered ─▶ rows ─▶ the next stretch … until 100,000 were looked at
//! ```
//!
//! A filter that no index knows would make the database look at all rows for one page. So the walk asks for the edge
//! of a stretch first, which is read from the index alone, and then for the rows up to there.

use uuid::Uuid;

use super::{
    Count,
    desk::{Desk, micros_of, time_of},
};
use crate::{
    OutboxDatabase,
    database::{DbResult, Dialect, FromRow, Value},
};

/// How many rows one question looks at, if a filter needs more than an index.
pub(super) const MOST_LOOKED_AT: u64 = 100_000;

/// How many of them one statement looks at.
const STRETCH: u64 = 10_000;

/// The columns of the index that a walk goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkKey {
    /// A number that is unique within what the walk looks at.
    Number(&'static str),
    /// A time in the unit of the outbox, and the id of the message.
    Time(&'static str),
    /// The topic, and the id of the message.
    Topic,
    /// The id of the message.
    Id,
}

/// A place in a walk. What its key has no column for is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WalkPlace {
    pub(super) number: i64,
    pub(super) topic: String,
    pub(super) id: Uuid,
}

/// The bounds of a walk, and the filter. Texts are templates.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    /// The table, with a hint for its index.
    pub(super) table: String,
    pub(super) key: WalkKey,
    /// What the index is bound to before its key, such as a status.
    pub(super) fixed: (String, Vec<Value<'a>>),
    /// What a row has to meet besides. Empty if every row is meant.
    pub(super) filter: (String, Vec<Value<'a>>),
    /// The walk begins behind this place.
    pub(super) after: Option<WalkPlace>,
    /// The walk ends with this place.
    pub(super) up_to: Option<WalkPlace>,
}

/// Where a part of a walk has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WalkEnd {
    /// Nothing is left.
    Over,
    /// As many rows were found as were wanted.
    Full,
    /// Enough rows were looked at. The walk goes on behind this place.
    Stopped(WalkPlace),
}

impl WalkKey {
    fn columns(self) -> Vec<&'static str> {
        match self {
            Self::Number(column) => vec![column],
            Self::Time(column) => vec![column, "message_id"],
            Self::Topic => vec!["topic", "message_id"],
            Self::Id => vec!["message_id"],
        }
    }

    fn order(self) -> String {
        format!("ORDER BY {}", self.columns().join(", "))
    }

    /// The values of a place, each with its placeholder.
    fn values<'a>(self, dialect: Dialect, place: &WalkPlace) -> Vec<(String, Value<'a>)> {
        let number = || Value::from(place.number);
        let id = || ("?".to_owned(), Value::from(place.id));
        match self {
            Self::Number(_) => vec![("?".to_owned(), number())],
            Self::Time(_) => vec![(time_of(dialect, "?"), number()), id()],
            Self::Topic => vec![("?".to_owned(), place.topic.clone().into()), id()],
            Self::Id => vec![id()],
        }
    }

    /// The condition that rows come behind a place, or up to it. MySQL reads a comparison of several columns by no
    /// index, so there it is written out.
    fn beyond<'a>(
        self,
        dialect: Dialect,
        place: &WalkPlace,
        up_to: bool,
    ) -> (String, Vec<Value<'a>>) {
        let (columns, values) = (self.columns(), self.values(dialect, place));
        let (strict, last) = if up_to { ("<", "<=") } else { (">", ">") };
        match (&columns[..], &values[..]) {
            ([first, second], [(at, value), (id_at, id)]) if dialect == Dialect::MySql => (
                format!("({first} {strict} {at} OR ({first} = {at} AND {second} {last} {id_at}))"),
                vec![value.clone(), value.clone(), id.clone()],
            ),
            _ => {
                let at: Vec<&str> = values.iter().map(|(at, _)| at.as_str()).collect();
                let text = format!("({}) {last} ({})", columns.join(", "), at.join(", "));
                (text, values.into_iter().map(|(_, value)| value).collect())
            }
        }
    }
}

impl<'a> Walk<'a> {
    /// The `WHERE` of its bounds.
    fn bounds(&self, dialect: Dialect, up_to: Option<&WalkPlace>) -> (String, Vec<Value<'a>>) {
        let (mut text, mut values) = self.fixed.clone();
        let mut add = |(condition, more): (String, Vec<Value<'a>>)| {
            text.push_str(" AND ");
            text.push_str(&condition);
            values.extend(more);
        };
        if let Some(after) = &self.after {
            add(self.key.beyond(dialect, after, false));
        }
        if let Some(up_to) = up_to {
            add(self.key.beyond(dialect, up_to, true));
        }
        (text, values)
    }

    /// The `FROM` and `WHERE` of its rows up to a place.
    fn rows_up_to(&self, dialect: Dialect, up_to: Option<&WalkPlace>) -> (String, Vec<Value<'a>>) {
        let (bounds, mut values) = self.bounds(dialect, up_to);
        let (filter, more) = &self.filter;
        values.extend(more.iter().cloned());
        let filter = match filter.is_empty() {
            true => String::new(),
            false => format!(" AND {filter}"),
        };
        (
            format!("FROM {} WHERE {bounds}{filter}", self.table),
            values,
        )
    }

    /// Where a stretch of so many rows ends. `None` if it is the last one.
    async fn edge<DB: OutboxDatabase>(
        &self,
        desk: &Desk<DB>,
        rows: u64,
    ) -> DbResult<Option<WalkPlace>> {
        let (bounds, mut values) = self.bounds(DB::DIALECT, self.up_to.as_ref());
        values.push(
            i64::try_from(rows.saturating_sub(1))
                .unwrap_or(i64::MAX)
                .into(),
        );
        let rest = format!(
            "FROM {} WHERE {bounds} {} LIMIT 1 OFFSET ?",
            self.table,
            self.key.order()
        );
        let edge = self.places_of(desk, &rest, &values).await?;
        Ok(edge.into_iter().next())
    }

    /// Reads the keys of rows.
    async fn places_of<DB: OutboxDatabase>(
        &self,
        desk: &Desk<DB>,
        rest: &str,
        values: &[Value<'_>],
    ) -> DbResult<Vec<WalkPlace>> {
        let columns = match self.key {
            WalkKey::Time(column) => format!("{}, message_id", micros_of(DB::DIALECT, column)),
            key => key.columns().join(", "),
        };
        let places = format!("SELECT {columns} {rest}");
        Ok(match self.key {
            WalkKey::Number(_) => {
                let all: Vec<i64> = desk.rows(&places, values).await?;
                all.into_iter().map(WalkPlace::of_number).collect()
            }
            WalkKey::Id => {
                let all: Vec<Uuid> = desk.rows(&places, values).await?;
                all.into_iter()
                    .map(|id| WalkPlace::of_time(0, id))
                    .collect()
            }
            WalkKey::Time(_) => {
                let all: Vec<(i64, Uuid)> = desk.rows(&places, values).await?;
                let place = |(number, id)| WalkPlace::of_time(number, id);
                all.into_iter().map(place).collect()
            }
            WalkKey::Topic => {
                let all: Vec<(String, Uuid)> = desk.rows(&places, values).await?;
                let place = |(topic, id)| WalkPlace {
                    number: 0,
                    topic,
                    id,
                };
                all.into_iter().map(place).collect()
            }
        })
    }

    /// Up to `want` keys of rows, and where they end.
    pub(super) async fn places<DB: OutboxDatabase>(
        mut self,
        desk: &Desk<DB>,
        want: usize,
        left: &mut u64,
    ) -> DbResult<(Vec<WalkPlace>, WalkEnd)> {
        let mut all = Vec::new();
        loop {
            let (edge, end) = self.stretch(desk, left).await?;
            let (from, mut values) = self.rows_up_to(DB::DIALECT, edge.as_ref());
            let most = want.saturating_sub(all.len());
            values.push(i64::try_from(most).unwrap_or(i64::MAX).into());
            let rest = format!("{from} {} LIMIT ?", self.key.order());
            all.extend(self.places_of(desk, &rest, &values).await?);
            if all.len() >= want {
                return Ok((all, WalkEnd::Full));
            }
            match end {
                Some(end) => return Ok((all, end)),
                None => self.after = edge,
            }
        }
    }

    /// The next stretch: up to where its rows are to be read, and how the walk goes on behind it. `left` is how many
    /// rows may still be looked at. Without a filter there is one stretch, because the index alone finds the rows.
    async fn stretch<DB: OutboxDatabase>(
        &self,
        desk: &Desk<DB>,
        left: &mut u64,
    ) -> DbResult<(Option<WalkPlace>, Option<WalkEnd>)> {
        if self.filter.0.is_empty() {
            return Ok((self.up_to.clone(), Some(WalkEnd::Over)));
        }
        let rows = STRETCH.min(*left);
        let Some(edge) = self.edge(desk, rows).await? else {
            return Ok((self.up_to.clone(), Some(WalkEnd::Over)));
        };
        *left = left.saturating_sub(rows);
        let end = (*left == 0).then(|| WalkEnd::Stopped(edge.clone()));
        Ok((Some(edge), end))
    }

    /// Up to `want` rows, and where they end. `columns` are those of `T`.
    pub(super) async fn read<DB: OutboxDatabase, T: FromRow>(
        mut self,
        desk: &Desk<DB>,
        columns: &str,
        want: usize,
        left: &mut u64,
    ) -> DbResult<(Vec<T>, WalkEnd)> {
        let mut all = Vec::new();
        loop {
            let (edge, end) = self.stretch(desk, left).await?;
            let (from, mut values) = self.rows_up_to(DB::DIALECT, edge.as_ref());
            let most = want.saturating_sub(all.len());
            values.push(i64::try_from(most).unwrap_or(i64::MAX).into());
            let order = self.key.order();
            let rows = format!("SELECT {columns} {from} {order} LIMIT ?");
            all.extend(desk.rows::<T>(&rows, &values).await?);
            if all.len() >= want {
                return Ok((all, WalkEnd::Full));
            }
            match end {
                Some(end) => return Ok((all, end)),
                None => self.after = edge,
            }
        }
    }

    /// How many rows there are, up to one more than [`Count::MOST`], and whether that is all that could be counted.
    pub(super) async fn count<DB: OutboxDatabase>(
        mut self,
        desk: &Desk<DB>,
        left: &mut u64,
    ) -> DbResult<Count> {
        let mut counted = 0;
        let most = i64::try_from(Count::MOST).unwrap_or(i64::MAX) + 1;
        loop {
            let (edge, end) = self.stretch(desk, left).await?;
            let (from, mut values) = self.rows_up_to(DB::DIALECT, edge.as_ref());
            values.push((most - counted).into());
            let count = format!("SELECT COUNT(*) FROM (SELECT 1 AS one {from} LIMIT ?) c");
            counted += desk.first::<i64>(&count, &values).await?.unwrap_or(0);
            let mut count = Count::capped(counted);
            match end {
                _ if count.more => return Ok(count),
                Some(end) => {
                    count.more = matches!(end, WalkEnd::Stopped(_));
                    return Ok(count);
                }
                None => self.after = edge,
            }
        }
    }
}

impl WalkPlace {
    pub(super) fn of_number(number: i64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    pub(super) fn of_time(number: i64, id: Uuid) -> Self {
        Self {
            number,
            id,
            ..Self::default()
        }
    }
}
