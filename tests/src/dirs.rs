//! Data folders, and the process that removes them when the tests are killed.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{Error, Result};

/// Waits for the end of its input, which is the end of the test process, and removes the folder. The servers
/// die at the same moment and may still write, so it tries more than once.
const JANITOR: &str =
    r#"cat >/dev/null; for pause in .3 1 3; do sleep $pause; rm -rf "$1" && exit; done"#;

/// A folder that goes away with its value, or at the latest with the test process.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
    keep: bool,
}

impl WorkDir {
    /// Makes an empty folder with `name` in its name.
    pub fn new(name: &str) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = run_folder()?.join(format!("{name}-{number}"));
        create(&path)?;
        Ok(Self { path, keep: keep() })
    }

    /// Makes a folder that stays until somebody removes it.
    pub fn lasting(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("final-{name}-{:08x}", fastrand::u32(..)));
        create(&path)?;
        Ok(Self { path, keep: true })
    }

    /// Opens a folder that [`lasting`](Self::lasting) made earlier.
    pub fn again(path: PathBuf) -> Self {
        Self { path, keep: true }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside it.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, content).map_err(Error::io("cannot write", &path))?;
        Ok(path)
    }

    /// Makes a folder inside it that belongs to `owner`, or to us.
    pub fn folder(&self, name: &str, owner: Option<&str>) -> Result<PathBuf> {
        let path = self.join(name);
        create(&path)?;
        give(&path, owner)?;
        Ok(path)
    }

    /// Writes a file inside it that only `owner`, or this user, may read.
    pub fn write_secret(&self, name: &str, content: &str, owner: Option<&str>) -> Result<()> {
        let path = self.write(name, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
            .map_err(Error::io("cannot protect", &path))?;
        give(&path, owner)
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Whether to leave folders and logs behind.
pub(crate) fn keep() -> bool {
    std::env::var_os("FINAL_TEST_KEEP").is_some_and(|value| !value.is_empty())
}

/// The folder of this process. Statics are not dropped, and a killed process drops nothing, so another
/// process removes the folder.
fn run_folder() -> Result<PathBuf> {
    static RUN: Mutex<Option<(PathBuf, Option<Child>)>> = Mutex::new(None);
    let mut run = RUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, _)) = &*run {
        return Ok(path.clone());
    }
    let name = format!(
        "final-test-{}-{:08x}",
        std::process::id(),
        fastrand::u32(..)
    );
    let path = std::env::temp_dir().join(name);
    create(&path)?;
    let janitor = (!keep()).then(|| janitor(&path)).flatten();
    *run = Some((path.clone(), janitor));
    Ok(path)
}

/// It has its own process group, so that Ctrl-C in the terminal does not end it.
fn janitor(path: &Path) -> Option<Child> {
    Command::new("sh")
        .args(["-c", JANITOR, "final-test-janitor"])
        .arg(path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .ok()
}

/// Makes it `owner`'s, if one is named.
fn give(path: &Path, owner: Option<&str>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let done = Command::new("chown").arg(owner).arg(path).status();
    if done.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(Error::new(
        format!("cannot give {} to the user {owner}", path.display()),
        "run as root, or as an ordinary user for whom nothing changes hands",
    ))
}

/// Servers that run as another user must reach their files inside it.
fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("cannot make the folder", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("cannot open up the folder", path))
}
