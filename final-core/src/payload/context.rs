//! Where in a payload a value is written.

use serde::ser::Error;

use crate::extract::MAX_DEPTH;

/// What has to be known about the values around a value.
#[derive(Clone, Copy)]
pub(super) struct Context {
    /// The format is JSON, and not msgpack.
    pub(super) json: bool,
    /// The reader, if it is of the same type, keeps the value in serde's buffer first.
    pub(super) buffered: bool,
    /// It is a key.
    pub(super) key: bool,
    /// It lies directly inside of `Some`.
    pub(super) some: bool,
    pub(super) depth: u8,
}

impl Context {
    /// The whole payload.
    pub(super) fn root(json: bool) -> Self {
        Self {
            json,
            buffered: false,
            key: false,
            some: false,
            depth: 0,
        }
    }

    /// The context of a key in a map whose values are here.
    pub(super) fn key(self) -> Self {
        Self { key: true, ..self }
    }

    /// The context inside of something with `len` values.
    #[inline]
    pub(super) fn inside_of<E: Error>(self, len: Option<usize>) -> Result<Self, E> {
        // The reader of msgpack does not count what is empty.
        self.inside(u8::from(self.json || len != Some(0)))
    }

    /// The context `levels` further inside, if a reader goes so deep.
    #[inline]
    pub(super) fn inside<E: Error>(self, levels: u8) -> Result<Self, E> {
        let depth = self.depth + levels;
        // serde_json refuses the 128th level, our reader of msgpack the one behind it.
        if usize::from(depth) + usize::from(self.json) > MAX_DEPTH {
            return Err(E::custom("it is nested deeper than a handler could read"));
        }
        Ok(Self {
            key: false,
            some: false,
            depth,
            ..self
        })
    }
}
