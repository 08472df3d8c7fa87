//! The name under which an operation is written down: the user and the machine.

use std::env;

/// `ann@laptop`, as far as that is known.
pub(crate) fn who() -> String {
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|user| !user.is_empty()));
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy().into_owned();
    format!("{}@{machine}", user.as_deref().unwrap_or("unknown"))
}
