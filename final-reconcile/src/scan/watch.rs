//! Keys of changes, as messages have them.
//!
//! Input: messages of a capture. Output: a suspect for each key, written before the message is done. So no key is
//! forgotten, whatever dies. A table that was emptied is swept.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use final_capture::change::{Change, ChangeInfo, ChangeOp, Changes, MovedKey};
use final_core::HandlerError;
use serde_json::{Map, Value};

use super::{
    room::Room,
    store::{ScanStore, WatchedKey},
};
use crate::{
    form::time::{micros, micros_of},
    mirror::Due,
    unit::UnitName,
};

/// Tables that are told once as those of no job.
const MOST_TOLD: usize = 100;

/// A job and target that takes changes from a topic.
#[derive(Clone, Debug)]
pub(crate) struct WatchedUnit {
    pub(crate) name: Arc<UnitName>,
    /// The source's table, with its schema if the job names one.
    pub(crate) table: String,
    /// The columns of the key. None if it is the table's own.
    pub(crate) columns: Vec<String>,
    pub(crate) settle: Duration,
    /// Whether the mirror tells how far it is.
    pub(crate) has_heartbeat: bool,
    /// How many rows may wait for a look.
    pub(crate) room: Arc<Room>,
}

impl WatchedUnit {
    /// When the row of a change is looked at: when the mirror has passed the change, where that is known.
    fn due(&self, info: &ChangeInfo) -> Due {
        let at = info.at.as_deref().and_then(micros);
        match self.has_heartbeat {
            false => Due::After(self.settle),
            true => Due::Passed(
                at.unwrap_or_default()
                    .saturating_add(micros_of(self.settle)),
            ),
        }
    }

    fn is_of(&self, info: &ChangeInfo) -> bool {
        match (self.table.split_once('.'), &info.schema) {
            (Some((schema, table)), Some(of)) => schema == of && table == info.table,
            (Some((_, table)), None) => table == info.table,
            (None, _) => self.table == info.table,
        }
    }

    /// All keys that a change names: that of the row after it, and that of the row before it.
    fn keys(
        &self,
        info: &ChangeInfo,
        change: &Change<Value>,
    ) -> Result<BTreeSet<String>, HandlerError> {
        let moved = info.moved.as_ref().map(|moved| match moved {
            MovedKey::To(key) | MovedKey::From(key) => key,
        });
        let own = [info.key.as_ref(), moved];
        let rows = [change.after(), change.before()].map(|row| row.and_then(Value::as_object));
        let mut keys = BTreeSet::new();
        for named in own.into_iter().chain(rows).flatten() {
            if let Some(key) = self.key(named, info) {
                keys.insert(Value::Object(key).to_string());
            }
        }
        match keys.is_empty() {
            false => Ok(keys),
            true => Err(HandlerError::permanent(format!(
                "a change of `{}` does not have all columns of the key of job `{}`; name the columns in the mapping, and let \
                 the source send them",
                info.table, self.name.job
            ))),
        }
    }

    /// The columns of the key. A row has others as well.
    fn key(&self, named: &Map<String, Value>, info: &ChangeInfo) -> Option<Map<String, Value>> {
        let of_table = || info.key.iter().flat_map(Map::keys).cloned().collect();
        let columns: Vec<String> = match self.columns.is_empty() {
            false => self.columns.clone(),
            true => of_table(),
        };
        let value = |column: String| {
            // MySQL and MariaDB take a name of a column in any case, and a change has it as the table does.
            let is_it = |(name, _): &(&String, &Value)| name.eq_ignore_ascii_case(&column);
            let (name, value) = named
                .get_key_value(&column)
                .or_else(|| named.iter().find(is_it))?;
            (!value.is_null()).then(|| (name.clone(), value.clone()))
        };
        let key: Option<Map<_, _>> = columns.into_iter().map(value).collect();
        key.filter(|key| !key.is_empty())
    }
}

/// Takes the changes of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) units: Arc<[WatchedUnit]>,
    pub(crate) store: Arc<dyn ScanStore>,
    told: Arc<Mutex<BTreeSet<String>>>,
}

impl Watcher {
    pub(crate) fn new(units: Vec<WatchedUnit>, store: Arc<dyn ScanStore>) -> Self {
        Self {
            units: units.into(),
            store,
            told: Arc::default(),
        }
    }

    /// Writes the keys of a message down. The message is done once this is. As long as there is no room for them, it waits.
    ///
    /// Safe to drop at any time: the message comes again.
    ///
    /// # Errors
    ///
    /// Fails if a change has no key of the job, or if the state's database does; then the message comes again.
    pub(crate) async fn take(&self, changes: Changes) -> Result<(), HandlerError> {
        let (mut keys, mut emptied) = (Vec::new(), Vec::new());
        let mut wanted: BTreeMap<&str, (&Room, usize)> = BTreeMap::new();
        for (info, change) in &changes.list {
            let mut is_known = false;
            for unit in self.units.iter().filter(|unit| unit.is_of(info)) {
                is_known = true;
                if info.op == ChangeOp::Truncate {
                    emptied.push(Arc::clone(&unit.name));
                    continue;
                }
                let found = unit.keys(info, change)?;
                let of_unit = wanted.entry(&unit.name.name).or_insert((&unit.room, 0));
                of_unit.1 += found.len();
                keys.extend(found.into_iter().map(|json| WatchedKey {
                    unit: Arc::clone(&unit.name),
                    json,
                    due: unit.due(info),
                }));
            }
            if !is_known {
                self.tell(info);
            }
        }
        // One unit after the other, always in this order, so that no two messages wait for each other.
        let mut room = Vec::new();
        for (of_unit, keys) in wanted.into_values() {
            room.push(of_unit.take(&*self.store, keys).await?);
        }
        if !keys.is_empty() {
            self.store.suspect(&keys).await?;
        }
        if !emptied.is_empty() {
            self.store.ask_sweep(&emptied).await?;
        }
        Ok(())
    }

    /// A topic may have changes of other tables as well, or the job may name the wrong one.
    fn tell(&self, info: &ChangeInfo) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < MOST_TOLD && told.insert(info.table.clone()) {
            tracing::warn!(
                target: "final::reconcile",
                table = info.table,
                "a topic that is watched has changes of a table that is the source of no job; they are passed over"
            );
        }
    }
}
