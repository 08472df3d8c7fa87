//! Running a program in the Debian of a set.
//!
//! Input: the root of that Debian, and a program. Output: a command. Its processes have mounts, process
//! numbers and a network of their own. So nothing stays mounted, no port meets one of this machine's servers,
//! and all of them end with the program, or with us if we are killed.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use final_tests::Result;

use crate::cargo::{root, target};

/// The arguments are `lo` or `-`, the Debian's root, the folders that the program finds at the same place, `--`,
/// and the program. The shell stays the first process of the namespace, because it collects the children of
/// servers that were killed.
const SCRIPT: &str = r#"
set -e
network=$1 root=$2; shift 2
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --bind "$1" "$root$1"
    shift
done
shift
if [ "$network" = lo ]; then chroot "$root" ip link set lo up; fi
chroot "$root" "$@" || exit $?
"#;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program of ours, with the repository and the folder of builds where they are here.
pub(super) fn command(debian: &Path, program: &Path) -> Result<Command> {
    let mut command = namespace(&["--net"]);
    command.args(["lo".as_ref(), debian, root()]);
    let target = target();
    if !target.starts_with(root()) {
        command.arg(&target);
    }
    command.arg("--").arg(program);
    clean(&mut command);
    Ok(command)
}

/// A program of the Debian itself, which may use the network.
pub(super) fn install(debian: &Path) -> Command {
    let mut command = namespace(&[]);
    command.args(["-".as_ref(), debian, "--".as_ref()]);
    clean(&mut command);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// A program of this machine, in a namespace of its own.
pub(super) fn outside(program: &str) -> Command {
    let mut command = unshare(&[]);
    command.args(["--", program]);
    command
}

fn namespace(more: &[&str]) -> Command {
    let mut command = unshare(more);
    command.args(["--", "sh", "-c", SCRIPT, "matrix"]);
    command
}

fn unshare(more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(["--mount", "--pid", "--ipc", "--fork", "--kill-child=KILL"])
        .args(more)
        .stdin(Stdio::null());
    command
}

/// No server of this machine's is to be found by the variables that lead to it.
fn clean(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("FINAL_TEST_") && text != "FINAL_TEST_KEEP" {
            command.env_remove(&name);
        }
    }
    command
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("TMPDIR", "/tmp")
        .env("LC_ALL", "C");
}
