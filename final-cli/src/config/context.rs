//! What a value knows of the file that it stands in while it is read.
//!
//! Input: the folder of the file, and the environment. State: one context a thread, while a file is read. Output: the
//! notes that values have left, for warnings. serde hands nothing to the types that it fills, so this goes beside it.

use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};

/// Looks up a variable of the environment. An error says that it is not UTF-8.
pub(crate) type Environment = fn(&str) -> Result<Option<String>, ()>;

thread_local! {
    static CURRENT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// The file that is being read by this thread.
pub(crate) struct Context {
    folder: PathBuf,
    environment: Environment,
    notes: Vec<Note>,
}

/// What a value found that is no error.
pub(crate) enum Note {
    /// This secret stands in the file itself.
    PlainText(String),
    /// Every user of the machine can read this file of a secret.
    OpenFile(PathBuf),
}

impl Context {
    /// Does something while values know the folder and the environment. Returns the notes as well.
    pub(crate) fn within<T>(
        folder: PathBuf,
        environment: Environment,
        read: impl FnOnce() -> T,
    ) -> (T, Vec<Note>) {
        let context = Self {
            folder,
            environment,
            notes: Vec::new(),
        };
        // A type may read another file while it is read itself; a panic must leave nothing behind.
        let before = Before(CURRENT.replace(Some(context)));
        let read = read();
        let notes = CURRENT
            .with_borrow_mut(Option::take)
            .map(|context| context.notes);
        drop(before);
        (read, notes.unwrap_or_default())
    }

    /// A path as the file means it: relative to its folder.
    pub(crate) fn path(path: &str) -> PathBuf {
        CURRENT.with_borrow(|context| match context {
            Some(context) => context.folder.join(path),
            None => Path::new(path).to_owned(),
        })
    }

    /// A variable of the environment. An error says that it is not UTF-8.
    pub(crate) fn variable(name: &str) -> Result<Option<String>, ()> {
        // `std::env` panics in no case, but it finds nothing under such names.
        if name.is_empty() || name.contains(['=', '\0']) {
            return Ok(None);
        }
        let environment = CURRENT.with_borrow(|context| context.as_ref().map(|c| c.environment));
        environment.unwrap_or(super::read_environment)(name)
    }

    /// Leaves a note.
    pub(crate) fn note(note: Note) {
        CURRENT.with_borrow_mut(|context| {
            if let Some(context) = context {
                context.notes.push(note);
            }
        });
    }
}

impl Note {
    /// The secret that stands in the file, to find where.
    pub(crate) fn plain_text(&self) -> Option<&str> {
        match self {
            Self::PlainText(text) => Some(text),
            Self::OpenFile(_) => None,
        }
    }
}

impl fmt::Debug for Note {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PlainText(_) => f.write_str("PlainText"),
            Self::OpenFile(path) => f.debug_tuple("OpenFile").field(path).finish(),
        }
    }
}

/// Puts the context of before back.
struct Before(Option<Context>);

impl Drop for Before {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}
