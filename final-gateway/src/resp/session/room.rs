//! What a connection has of the memory for requests that have not come in full.
//!
//! Input: how much memory its buffer has, or needs. State: its share of the memory that all apps have together. Output:
//! whether the buffer may have that much. A client that has not logged in has nothing of it: a login is small.

use crate::memory::{Budget, Share};

/// So much has each connection for itself. It is enough for what a client sends before its login, and for small messages
/// after it: a client that takes all of the shared memory stops no such request.
pub(super) const OWN: usize = 64 * 1024;

/// What one connection has of the shared memory, until it is dropped.
#[derive(Debug)]
pub(super) struct InputShare {
    room: Budget,
    share: Share,
    /// Whether an app has logged in, which may have a share.
    is_of_app: bool,
}

impl InputShare {
    /// What a new connection has of it: nothing.
    pub(super) fn new(room: Budget) -> Self {
        let share = room.share("");
        Self {
            room,
            share,
            is_of_app: false,
        }
    }

    /// From now on the connection is one of this app, or of a client that has not logged in. What its buffer has goes with
    /// it.
    pub(super) fn belongs_to(&mut self, app: Option<&str>) {
        self.is_of_app = app.is_some();
        let app = app.unwrap_or_default();
        if self.share.app() != app {
            let mut share = self.room.share(app);
            share.set(self.share.used());
            self.share = share;
        }
    }

    /// The buffer of the connection has so many bytes from now on. If there is not so much left, the share stays as it was
    /// and the answer is `false`. It never waits: a client that stalls must not hold up another.
    #[must_use]
    pub(super) fn resize(&mut self, buffer: usize) -> bool {
        let (has, wants) = (self.share.used(), buffer.saturating_sub(OWN));
        if wants > has {
            return self.is_of_app && self.share.grow(wants - has).is_ok();
        }
        if wants < has {
            self.share.set(wants);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_buffer_has_goes_with_its_connection_to_another_app() {
        let room = Budget::new(1_000_000);
        let mut share = InputShare::new(room.clone());
        assert!(share.resize(OWN) && !share.resize(OWN + 1));
        share.belongs_to(Some("shop"));
        assert!(share.resize(OWN + 400_000));

        share.belongs_to(Some("other"));
        assert_eq!(room.left(), 600_000);
        let mut of_shop = InputShare::new(room.clone());
        of_shop.belongs_to(Some("shop"));
        assert!(of_shop.resize(OWN + 300_000) && !of_shop.resize(OWN + 300_001));
        share.belongs_to(None);
        assert!(share.resize(OWN + 300_000) && !share.resize(OWN + 300_001));
        drop((share, of_shop));
        assert_eq!(room.left(), 1_000_000);
    }
}
