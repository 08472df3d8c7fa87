//! The Debian of a set: a folder with the servers and what they need.
//!
//! Input: a set. State: `HOME/NAME`, which is there when it is whole; `HOME/NAME.part` while it is being made,
//! and after a build that failed; `HOME/NAME.lock`, held by each process that uses or makes it. Output: the folder, and the
//! versions of its servers.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use final_tests::{Error, Result};

use super::{
    enter, mirror,
    sets::{SERVERS, ServerSet, TOOLS, upstream},
};
use crate::{cargo::run, install};

/// Outside of the repository: `cargo clean` does not remove it, and all clones use it.
pub(super) const HOME: &str = "/var/cache/final-matrix";

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a set takes while it is being made, with some room: the sets had 1.0 to 1.3 GiB.
const ROOM_MIB: u64 = 3 * 1024;

/// Without them a Debian is of no use.
const PROGRAMS: [&[&str]; 7] = [
    &["usr/lib/postgresql"],
    &["usr/sbin/mariadbd", "usr/sbin/mysqld"],
    &["usr/lib/rabbitmq/bin/rabbitmq-server"],
    &["usr/sbin/ip", "usr/bin/ip"],
    &["usr/lib/python3/dist-packages/celery"],
    &["usr/lib/python3/dist-packages/yaml"],
    &["usr/bin/node"],
];

/// The Debian of a set, which no other process makes anew as long as this value lives.
#[derive(Debug)]
pub(super) struct Folder {
    name: &'static str,
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it unless there is a whole one; also if there is one, where that is asked for.
    pub(super) fn ready(set: &ServerSet, is_rebuild: bool) -> Result<Self> {
        if !install::is_root_on_debian() {
            return Err(Error::new(
                "the Debian of a set can only be made and entered by root, on Debian",
                "run `cargo xtask matrix` as root on Debian",
            ));
        }
        let home = Path::new(HOME);
        fs::create_dir_all(home).map_err(Error::io("cannot make the folder", home))?;
        let root = home.join(set.name);
        let path = root.with_extension("lock");
        let cannot = || Error::io("cannot lock", &path);
        let lock = File::create(&path).map_err(cannot())?;
        let is_alone = lock.try_lock().is_ok();
        if is_rebuild || !is_whole(&root) {
            if !is_alone {
                eprintln!(
                    "waiting for another run that uses or makes {}",
                    root.display()
                );
                lock.lock().map_err(cannot())?;
            }
            if !is_rebuild && root.exists() && !is_whole(&root) {
                // Its servers stay as they are.
                get_packages(&root, &[])?;
            }
            if is_rebuild || !is_whole(&root) {
                make(set, &root)?;
            }
        } else if is_alone {
            // What runs that were killed have left behind.
            clear(&root.join("tmp"))?;
        }
        lock.lock_shared().map_err(cannot())?;
        Ok(Self {
            name: set.name,
            root,
            _lock: lock,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Its servers with their versions, in words.
    pub(super) fn servers(&self) -> Result<String> {
        let mut all = Vec::new();
        for (server, package) in SERVERS {
            let mut query = Command::new("chroot");
            query.arg(&self.root).args([
                "dpkg-query",
                "--show",
                "--showformat=${Version}\\n",
                package,
            ]);
            let answer = query
                .output()
                .map_err(Error::io("cannot ask", &self.root))?;
            let text = String::from_utf8_lossy(&answer.stdout);
            let mut versions: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
            versions.sort_unstable();
            if let Some(version) = versions.last() {
                all.push(format!("{server} {}", upstream(version)));
            }
        }
        Ok(all.join(", "))
    }
}

/// Makes it beside its place and moves it there when it is whole.
fn make(set: &ServerSet, root: &Path) -> Result<()> {
    let mirror = mirror::of_this_machine()?;
    has_room(root.parent().unwrap_or(root))?;
    install::debootstrap()?;
    let part = root.with_extension("part");
    remove(&part)?;
    let failed = |what: &str| {
        Error::new(
            format!(
                "the Debian of `{}` was not made: {what} failed, see above",
                set.name
            ),
            format!(
                "check that {mirror} can be reached and has `{}`; the next run begins anew",
                set.name
            ),
        )
    };

    let mut first = enter::outside("debootstrap");
    first
        .args([
            "--variant=minbase",
            &format!("--keyring={KEYRING}"),
            set.name,
        ])
        .args([part.as_os_str(), mirror.as_ref()]);
    if run(first)? != ExitCode::SUCCESS {
        return Err(failed("debootstrap"));
    }
    write(&part.join("usr/sbin/policy-rc.d"), NO_SERVICE)?;
    write(&part.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    if run(script(&part, "chmod 755 /usr/sbin/policy-rc.d"))? != ExitCode::SUCCESS {
        return Err(failed("chmod"));
    }
    if !get_packages(&part, set.packages)? {
        return Err(failed("apt-get update"));
    }
    if !is_whole(&part) {
        return Err(failed("apt-get install"));
    }
    let _ = run(script(&part, USER))?;
    remove(root)?;
    fs::rename(&part, root).map_err(Error::io("cannot move", &part))
}

/// Gets these servers and the tools. Returns false if the list of packages cannot be had.
fn get_packages(root: &Path, servers: &[&str]) -> Result<bool> {
    let mut update = enter::install(root);
    // A mirror that was copied long ago is of use too. Signatures are checked.
    update.args([
        "apt-get",
        "-o",
        "Acquire::Check-Valid-Until=false",
        "update",
    ]);
    if run(update)? != ExitCode::SUCCESS {
        return Ok(false);
    }
    let mut install = enter::install(root);
    install
        .args(["apt-get", "install", "-y", "--no-install-recommends"])
        .args(servers)
        .args(TOOLS);
    // What a package does after it was unpacked may fail here, where no service runs. The programs count.
    let _ = run(install)?;
    Ok(true)
}

/// Whether it has all programs. One that an older version of this program has made may lack some.
fn is_whole(root: &Path) -> bool {
    // A link is enough: it may lead to a path that is right only inside.
    let is_there = |file: &&str| fs::symlink_metadata(root.join(file)).is_ok();
    PROGRAMS.iter().all(|any| any.iter().any(is_there))
}

/// Keeps packages from starting their servers.
const NO_SERVICE: &str = "#!/bin/sh\nexit 101\n";

/// MySQL's own package makes its user where it starts the server.
const USER: &str = "id mysql || useradd --system --no-create-home mysql; apt-get clean";

fn script(root: &Path, text: &str) -> Command {
    let mut command = enter::install(root);
    command.args(["sh", "-c", text]);
    command
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io("cannot write", path))
}

/// Nothing is mounted in it here: each process that uses the folder mounts in a namespace of its own, and holds the
/// lock.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn clear(folder: &Path) -> Result<()> {
    remove(folder)?;
    fs::create_dir(folder).map_err(Error::io("cannot make the folder", folder))?;
    let everyone = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(folder, everyone).map_err(Error::io("cannot open up the folder", folder))
}

fn has_room(folder: &Path) -> Result<()> {
    let mut df = Command::new("df");
    df.args(["--block-size=M", "--output=avail"]).arg(folder);
    let answer = df
        .output()
        .map_err(Error::io("cannot ask `df` about", folder))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let free = text
        .lines()
        .nth(1)
        .map(|line| line.trim().trim_end_matches('M'));
    match free.and_then(|free| free.parse::<u64>().ok()) {
        Some(free) if free < ROOM_MIB => Err(Error::new(
            format!(
                "{} has {free} MiB free, and a Debian with servers needs {ROOM_MIB}",
                folder.display()
            ),
            "make room on that disk",
        )),
        _ => Ok(()),
    }
}
