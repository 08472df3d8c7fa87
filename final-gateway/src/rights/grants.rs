//! What a caller decides about an app, where rights do not come from tables.

use super::{AppLimits, AuthError, Grant, Operations};
use crate::names::NameError;

/// What a caller decides about an app, see [`Rights::from_fn`](super::Rights::from_fn).
#[derive(Clone, Debug, Default)]
pub struct Grants {
    pub(super) grants: Vec<Grant>,
    pub(super) limits: AppLimits,
}

impl Grants {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything, without limits.
    #[must_use]
    pub fn all() -> Self {
        Self {
            grants: Grant::new("*", "*", Operations::BOTH).into_iter().collect(),
            limits: AppLimits::default(),
        }
    }

    /// One right more, see [`Grant`].
    ///
    /// # Errors
    ///
    /// Says which name cannot be used, and why.
    pub fn allow(
        self,
        group: &str,
        topic: &str,
        operations: Operations,
    ) -> Result<Self, NameError> {
        Ok(self.grant(Grant::new(group, topic, operations)?))
    }

    /// One right more.
    #[must_use]
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grants.push(grant);
        self
    }

    /// Limits of the app as a whole.
    #[must_use]
    pub fn limits(mut self, limits: AppLimits) -> Self {
        self.limits = limits;
        self
    }
}

/// A decision may fail by a name alone.
impl From<NameError> for AuthError {
    /// The caller's mistake, so nobody may log in by it.
    fn from(_: NameError) -> Self {
        Self::Unknown
    }
}
