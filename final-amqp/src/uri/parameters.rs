//! Checks the parameters of the broker's URL, which stand behind its `?`.
//!
//! Input: that part of the URL. Output: nothing, or the reason that names the parameter.

use std::ops::RangeInclusive;

use lapin::uri::SASLMechanism;

/// The frame sizes that can be asked for. AMQP allows no smaller one. lapin reserves 64 frames of memory for
/// each connection, so a larger one would take more than 64 MiB.
const FRAME_SIZES: RangeInclusive<u32> = 4096..=1024 * 1024;

/// The parameters of a URL, for the error about another one.
const PARAMETERS: &str = "`heartbeat` (seconds), `connection_timeout` (milliseconds), `frame_max` (bytes), \
                          `channel_max` and `auth_mechanism`";

/// Parameters of other clients that are about TLS.
const TLS_PARAMETERS: [&str; 14] = [
    "ssl",
    "tls",
    "sslmode",
    "ssl_options",
    "cacertfile",
    "certfile",
    "keyfile",
    "verify",
    "fail_if_no_peer_cert",
    "password",
    "server_name_indication",
    "depth",
    "verify_peer",
    "insecure",
];

/// Refuses what lapin would ignore or take for something else.
pub(super) fn check(query: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let expected = match name {
            "heartbeat" => fits(value, 1..=u64::from(u16::MAX))
                .then_some(())
                .ok_or("a number of seconds from 1 to 65535"),
            "connection_timeout" => fits(value, 1..=24 * 3600 * 1000)
                .then_some(())
                .ok_or("a number of milliseconds from 1 to 86400000"),
            "frame_max" => {
                let sizes = u64::from(*FRAME_SIZES.start())..=u64::from(*FRAME_SIZES.end());
                fits(value, sizes).then_some(()).ok_or(
                    "a number of bytes from 4096 to 1048576 (RabbitMQ 4.3 takes no less than 8192)",
                )
            }
            "channel_max" => fits(value, 1..=u64::from(u16::MAX))
                .then_some(())
                .ok_or("a number from 1 to 65535"),
            "auth_mechanism" => value
                .parse::<SASLMechanism>()
                .map(drop)
                .map_err(|_| "`plain`, `amqplain`, `external` or `anonymous`"),
            other => return Err(unknown(other)),
        };
        if let Err(expected) = expected {
            return Err(format!("its parameter `{name}` has to be {expected}"));
        }
        if seen.contains(&name) {
            return Err(format!("its parameter `{name}` stands there twice"));
        }
        seen.push(name);
    }
    Ok(())
}

fn fits(value: &str, range: RangeInclusive<u64>) -> bool {
    value.bytes().all(|byte| byte.is_ascii_digit())
        && value.parse().is_ok_and(|number| range.contains(&number))
}

/// The error about a parameter that is not known. Its name is shown only where it looks like one.
fn unknown(name: &str) -> String {
    let is_name = (1..=32).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || byte == b'_' || byte == b'-');
    if !is_name {
        return format!("it has a parameter that is not known; known are {PARAMETERS}");
    }
    if TLS_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()) {
        return format!(
            "its parameter `{name}` is not known; `amqps://` switches TLS on and always verifies, and \
             `Amqp::ca_certificate`, `Amqp::client_certificate` and `Amqp::client_pkcs12` take \
             certificates"
        );
    }
    format!("its parameter `{name}` is not known; known are {PARAMETERS}")
}
