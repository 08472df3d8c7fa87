//! Which app uses which open groups and topics, and how many it may use at once.
//!
//! Input: an app that comes to a slot, and its end there. State: for each app the slots that it uses, each with a count
//! of its connections, its pulls and its pulled messages. Output: a [`PairUse`] that counts until it is dropped, or an
//! error if the app uses as many slots as it may.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::GroupError;

/// An app, and how many groups and topics it may use at once.
#[derive(Clone, Debug)]
pub(super) struct AppQuota {
    pub(super) app: Arc<str>,
    pub(super) most: usize,
}

/// The uses of all apps.
#[derive(Default)]
pub(super) struct PairUses(Mutex<AppSlots>);

type AppSlots = HashMap<Arc<str>, HashMap<u64, usize>>;

/// A use of a slot, until it is dropped. Without an app nothing is counted.
pub(super) struct PairUse {
    uses: Arc<PairUses>,
    of: Option<(Arc<str>, u64)>,
}

impl PairUses {
    /// Begins a use of a slot.
    ///
    /// # Errors
    ///
    /// [`GroupError::TooManyOfApp`] if it is one more than the app may use.
    pub(super) fn begin(
        self: &Arc<Self>,
        quota: Option<&AppQuota>,
        slot: u64,
    ) -> Result<PairUse, GroupError> {
        let uses = Arc::clone(self);
        let Some(quota) = quota else {
            return Ok(PairUse { uses, of: None });
        };
        let mut apps = self.apps();
        let slots = apps.entry(Arc::clone(&quota.app)).or_default();
        if !slots.contains_key(&slot) && slots.len() >= quota.most {
            if slots.is_empty() {
                apps.remove(&quota.app);
            }
            return Err(GroupError::TooManyOfApp {
                app: quota.app.to_string(),
                most: quota.most,
            });
        }
        *slots.entry(slot).or_default() += 1;
        let of = Some((Arc::clone(&quota.app), slot));
        Ok(PairUse { uses, of })
    }

    /// Whether the app uses the slot.
    pub(super) fn has(&self, app: &str, slot: u64) -> bool {
        let apps = self.apps();
        apps.get(app).is_some_and(|slots| slots.contains_key(&slot))
    }

    /// The slot is no more, so it counts for no app. Its uses may live on.
    pub(super) fn end_all(&self, slot: u64) {
        self.apps().retain(|_, slots| {
            slots.remove(&slot);
            !slots.is_empty()
        });
    }

    fn end(&self, app: &str, slot: u64) {
        let mut apps = self.apps();
        let Some(slots) = apps.get_mut(app) else {
            return;
        };
        if let Some(count) = slots.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                slots.remove(&slot);
            }
        }
        if slots.is_empty() {
            apps.remove(app);
        }
    }

    fn apps(&self) -> MutexGuard<'_, AppSlots> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PairUse {
    fn drop(&mut self) {
        if let Some((app, slot)) = &self.of {
            self.uses.end(app, *slot);
        }
    }
}

impl fmt::Debug for PairUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PairUse").field(&self.of).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(app: &str, most: usize) -> AppQuota {
        let app = app.into();
        AppQuota { app, most }
    }

    #[test]
    fn an_app_uses_as_many_slots_as_it_may_and_each_of_them_any_number_of_times() {
        let uses = Arc::<PairUses>::default();
        let (shop, other) = (quota("shop", 2), quota("other", 2));
        let one = uses.begin(Some(&shop), 1);
        let again = uses.begin(Some(&shop), 1);
        let two = uses.begin(Some(&shop), 2);
        assert!(one.is_ok() && again.is_ok() && two.is_ok());
        assert!(uses.begin(Some(&shop), 3).is_err());
        assert!(uses.begin(Some(&other), 3).is_ok());
        assert!(uses.begin(None, 3).is_ok());

        drop(one);
        assert!(uses.begin(Some(&shop), 3).is_err(), "one use is left");
        drop(again);
        assert!(uses.begin(Some(&shop), 3).is_ok());
    }

    #[test]
    fn a_use_that_outlives_its_slot_counts_nowhere() {
        let uses = Arc::<PairUses>::default();
        let shop = quota("shop", 1);
        let old = uses.begin(Some(&shop), 1);
        uses.end_all(1);
        let new = uses.begin(Some(&shop), 2);
        assert!(new.is_ok());
        drop(old);
        assert!(uses.has("shop", 2));
        drop(new);
        assert!(
            uses.apps().is_empty(),
            "nothing is kept of an app that left"
        );
    }
}
