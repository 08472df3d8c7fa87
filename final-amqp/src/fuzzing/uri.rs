//! What must hold for any URL of a broker.
//!
//! Input: bytes, read as the URL. Output: a panic if an error or a log line would show a secret, or if a host
//! is accepted that cannot be one.

use final_core::fuzzing::{SECRETS, check_error};

use crate::{Amqp, uri::address};

/// The bytes are the URL.
pub fn uri(bytes: &[u8]) {
    let Ok(url) = std::str::from_utf8(bytes) else {
        return;
    };
    let amqp = match Amqp::new(url) {
        Ok(amqp) => amqp,
        Err(error) => return check_error(&format!("{error} {error:?}"), 1024),
    };
    let address = address(&amqp.settings.uri);
    let host = &amqp.settings.uri.authority.host;
    assert!(
        !host.is_empty() && !host.chars().any(char::is_control),
        "{host:?}"
    );
    let uri = &amqp.settings.uri;
    // lapin panics at a virtual host that is longer.
    assert!((1..=255).contains(&uri.vhost.len()), "{:?}", uri.vhost);
    let login = &uri.authority.userinfo;
    assert!(!login.username.contains('\0') && !login.password.contains('\0'));
    assert!(uri.authority.port > 0);
    // A password may have a `/` that was not encoded, so everything before the last `@` is secret.
    let Some((user, shown)) = url.rsplit_once('@') else {
        return;
    };
    for secret in SECRETS {
        if user.contains(secret) && !shown.contains(secret) {
            assert!(!format!("{amqp:?} {address}").contains(secret));
        }
    }
}
