//! From a payload to its changes, whichever JSON it is.

use std::borrow::Cow;

use super::{
    ChangeError, ChangeInfo, ChangedColumns, MovedKey, TransactionPart, dbsync,
    distinct::{self, Distinct},
    rows::{WireRows, WithInfo},
    wire::{Encoding, WireMessage},
};

/// The one change of a message.
pub(super) fn one(payload: &[u8], encoding: Encoding) -> Result<WithInfo<'_>, ChangeError> {
    let mut all = all(payload, encoding)?.1.into_iter();
    match (all.next(), all.next()) {
        (Some(change), None) => Ok(change),
        (None, _) => Err(ChangeError::new("the message has no change")),
        (Some(_), Some(_)) => Err(ChangeError::new(
            "the message has several changes of a transaction; take them by `Changes<T>`",
        )),
    }
}

/// What a message says of its transaction as a whole.
#[derive(Default)]
pub(super) struct Envelope {
    pub(super) at: Option<String>,
    pub(super) position: Option<String>,
    pub(super) tx: Option<TransactionPart>,
}

/// All changes of a message.
pub(super) fn all(
    payload: &[u8],
    encoding: Encoding,
) -> Result<(Envelope, Vec<WithInfo<'_>>), ChangeError> {
    let wrong = |error| ChangeError::payload(&error);
    let mut message: WireMessage<'_> = serde_json::from_slice(payload).map_err(wrong)?;
    if message.action.is_some() {
        return Ok((Envelope::default(), vec![dbsync::read(payload, encoding)?]));
    }
    let envelope = Envelope {
        at: message.at.clone(),
        position: message.position.clone(),
        tx: message.tx.clone(),
    };
    let Some(changes) = message.changes.take() else {
        return Ok((envelope, vec![with_info(message)?]));
    };
    let count = changes.len();
    let mut all = Vec::with_capacity(count);
    for (number, raw) in changes.into_iter().enumerate() {
        let mut change: WireMessage<'_> = serde_json::from_str(raw.get()).map_err(wrong)?;
        change.at.clone_from(&envelope.at);
        change.position.clone_from(&envelope.position);
        change.tx = envelope.tx.as_ref().map(|tx| TransactionPart {
            id: tx.id.clone(),
            index: change.index.unwrap_or(tx.index),
            last: tx.last && number + 1 == count,
        });
        all.push(with_info(change)?);
    }
    Ok((envelope, all))
}

fn with_info(change: WireMessage<'_>) -> Result<WithInfo<'_>, ChangeError> {
    let missing =
        |field: &str| ChangeError::new(format!("the payload is no change: it has no `{field}`"));
    let op = change.op.ok_or_else(|| missing("op"))?;
    for row in [change.before, change.after].into_iter().flatten() {
        distinct::check(row.get()).map_err(|error| ChangeError::payload(&error))?;
    }
    let rows = WireRows {
        op,
        before: change.before.map(|raw| Cow::Borrowed(raw.get())),
        after: change.after.map(|raw| Cow::Borrowed(raw.get())),
        changed: ChangedColumns::new(change.changed, change.unchanged.clone()),
        partial: change.partial,
    };
    let info = ChangeInfo {
        op,
        schema: change.schema,
        table: change.table.ok_or_else(|| missing("table"))?,
        key: change.key.map(Distinct::into_map),
        at: change.at,
        position: change.position,
        transaction: change.tx,
        unchanged: change.unchanged,
        invalid: change.invalid.after.into_map(),
        moved: match (change.moved_to, change.moved_from) {
            (Some(to), _) => Some(MovedKey::To(to.into_map())),
            (None, Some(from)) => Some(MovedKey::From(from.into_map())),
            (None, None) => None,
        },
    };
    Ok((info, rows))
}
