//! Files of this crate's tests.

use std::{
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use final_tests::WorkDir;

/// A path for a new SQLite database. The file goes away with the process of the tests.
pub(crate) fn database() -> PathBuf {
    // Each test has its own file, and any test may end while another still uses the folder.
    static FOLDER: LazyLock<WorkDir> = LazyLock::new(|| WorkDir::new("unit").unwrap());
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    FOLDER.join(&format!("{number}.db"))
}
