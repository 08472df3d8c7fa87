//! Memory that the connections of all apps share: for bodies of HTTP, and for requests of Redis clients.
//!
//! Input: who wants how many bytes. State: how many each app has. Output: shares, which give back what they have when
//! they are dropped, or a refusal before the memory is taken. An app may have half of what the others leave free, so
//! that there is always something for another one.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// There is no memory left for the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// What a pull is promised at least: so much costs less than its connection.
const LEAST_PROMISE: usize = 16 * 1024;

/// Memory of so many bytes. Clones share it.
#[derive(Clone)]
pub(crate) struct Budget(Arc<BudgetInner>);

struct BudgetInner {
    limit: usize,
    state: Mutex<BudgetState>,
}

#[derive(Debug, Default)]
struct BudgetState {
    all: Amounts,
    apps: HashMap<Arc<str>, Amounts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Amounts {
    /// Bytes that are in memory, or surely will be.
    used: usize,
    /// Bytes that pulls which wait may bring.
    promised: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(BudgetInner {
            limit,
            state: Mutex::default(),
        }))
    }

    /// An empty share of an app; `""` is a stranger.
    pub(crate) fn share(&self, app: &str) -> Share {
        Share {
            budget: self.clone(),
            app: Arc::from(app),
            has: Amounts::default(),
        }
    }

    /// How many bytes all apps together leave.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.limit - self.state().all.used
    }

    fn state(&self) -> MutexGuard<'_, BudgetState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.state().all;
        f.debug_tuple("Budget").field(&all).finish()
    }
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    app: Arc<str>,
    has: Amounts,
}

impl Share {
    /// An empty share of the same app.
    pub(crate) fn another(&self) -> Self {
        Self {
            budget: self.budget.clone(),
            app: Arc::clone(&self.app),
            has: Amounts::default(),
        }
    }

    /// Whose it is.
    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    /// How many bytes it has.
    pub(crate) fn used(&self) -> usize {
        self.has.used
    }

    /// Takes more. It never waits: a client that stalls must not hold up another.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let budget = self.budget.clone();
        let mut state = budget.state();
        let (most, own) = self.most(&state, |amounts| amounts.used);
        if own.saturating_add(bytes) > most {
            return Err(Full);
        }
        let used = self.has.used.saturating_add(bytes);
        self.change(&mut state, Amounts { used, ..self.has });
        Ok(())
    }

    /// Promises room for an answer of so many bytes, or of fewer where many pulls wait. A promise takes nothing from
    /// bodies. It is refused while the app has no memory left.
    pub(crate) fn promise(&mut self, bytes: usize) -> Result<usize, Full> {
        let budget = self.budget.clone();
        let mut state = budget.state();
        let (most, own) = self.most(&state, |amounts| amounts.used);
        if own >= most {
            return Err(Full);
        }
        let (most, own) = self.most(&state, |amounts| amounts.used + amounts.promised);
        let promised = bytes.min((most.saturating_sub(own) / 8).max(LEAST_PROMISE));
        self.change(
            &mut state,
            Amounts {
                promised,
                ..self.has
            },
        );
        Ok(promised)
    }

    /// Has exactly so many bytes from now on, even beyond the limit: what is done has to be said.
    pub(crate) fn set(&mut self, used: usize) {
        let budget = self.budget.clone();
        self.change(&mut budget.state(), Amounts { used, promised: 0 });
    }

    /// How many bytes the app may have, and has.
    fn most(&self, state: &BudgetState, of: impl Fn(&Amounts) -> usize) -> (usize, usize) {
        let own = state.apps.get(&self.app).map_or(0, &of);
        let others = of(&state.all).saturating_sub(own);
        (self.budget.0.limit.saturating_sub(others) / 2, own)
    }

    fn change(&mut self, state: &mut BudgetState, to: Amounts) {
        let had = std::mem::replace(&mut self.has, to);
        let changed = |of: Amounts| Amounts {
            used: of.used.saturating_sub(had.used).saturating_add(to.used),
            promised: of
                .promised
                .saturating_sub(had.promised)
                .saturating_add(to.promised),
        };
        state.all = changed(state.all);
        let own = changed(state.apps.get(&self.app).copied().unwrap_or_default());
        match own {
            Amounts {
                used: 0,
                promised: 0,
            } => drop(state.apps.remove(&self.app)),
            _ => drop(state.apps.insert(Arc::clone(&self.app), own)),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_at_most_half_of_what_the_others_leave() {
        let budget = Budget::new(1200);
        let (mut first, mut second) = (budget.share("first"), budget.share("second"));
        assert!(first.grow(601).is_err());
        first.grow(600).unwrap();
        assert!(first.grow(1).is_err());
        assert!(
            budget.share("first").grow(1).is_err(),
            "the app, not the share"
        );
        second.grow(300).unwrap();
        assert!(second.grow(1).is_err());
        drop(first);
        second.grow(300).unwrap();
        drop(second);
        let state = budget.state();
        assert_eq!((state.all.used, state.apps.len()), (0, 0));
    }

    #[test]
    fn what_is_done_is_said_beyond_the_limit_and_counts() {
        let budget = Budget::new(1000);
        let mut share = budget.share("app");
        share.set(5000);
        assert!(budget.share("app").grow(1).is_err());
        assert!(budget.share("other").grow(1).is_err());
        share.set(10);
        budget.share("other").grow(400).unwrap();
    }

    #[test]
    fn promises_get_smaller_and_take_nothing_from_bodies() {
        let budget = Budget::new(32 << 20);
        let mut shares = Vec::new();
        let mut last = usize::MAX;
        for _ in 0..1000 {
            let mut share = budget.share("app");
            let promised = share.promise(1 << 20).unwrap();
            assert!(promised <= last && promised >= LEAST_PROMISE);
            last = promised;
            shares.push(share);
        }
        assert_eq!(last, LEAST_PROMISE);
        budget.share("app").grow(16 << 20).unwrap();
        let mut others = budget.share("other");
        assert!(others.promise(1 << 20).unwrap() >= LEAST_PROMISE);
        let mut all = budget.share("app");
        all.grow(16 << 20).unwrap();
        assert!(budget.share("app").promise(1).is_err());
    }
}
