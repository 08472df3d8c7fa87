//! Whether a capture that begins would take what another one reads.
//!
//! Input: the identity of the opened source, and the other captures of the place with the positions. Output: the error,
//! if two captures would share a slot: each would move it beyond what the other has not read yet.

use super::{Engine, end::TermEnd};
use crate::{
    capture::StopReason,
    position::{PositionStore, SourceIdentity},
};

/// Fails if another capture reads the same slot.
pub(super) async fn of_another(
    engine: &Engine,
    store: &dyn PositionStore,
    ours: &SourceIdentity,
) -> Result<(), TermEnd> {
    let others = store.others(&engine.name).await?;
    for (name, theirs) in &others {
        if let Some(shared) = engine.source.shared(ours, theirs) {
            return Err(TermEnd::Stopped(StopReason::Config(format!(
                "{shared} is read by the capture `{name}`, and would be moved beyond what that one has not read yet. Give this \
                 capture another one by `source.slot` and `source.publication` (`PgSource::slot`, `PgSource::publication`). If \
                 `{name}` has ended for good, remove it: DELETE FROM final_captures WHERE name = '{name}'"
            ))));
        }
    }
    Ok(())
}
