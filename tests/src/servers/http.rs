//! As much HTTP as the management API needs: one request, one answer, connection closed.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::{Error, Result};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer: its status and its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// Sends one request to `host:port`; `login` is `user:password`.
///
/// HTTP/1.0, so that the answer ends where the connection does.
pub(super) fn request(
    address: &str,
    login: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        base64(login.as_bytes()),
        body.len(),
    );
    let fetched = exchange(address, &format!("{head}{body}"));
    let text = fetched.map_err(|cause| {
        Error::new(
            format!("{method} http://{address}{path}: {cause}"),
            "check that RabbitMQ runs and has the plugin rabbitmq_management",
        )
    })?;
    parse(&text).ok_or_else(|| {
        Error::new(
            format!("{method} http://{address}{path} was not answered in HTTP: {text:?}"),
            "check that the address is that of RabbitMQ's management API",
        )
    })
}

fn exchange(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: body.into(),
    })
}

/// A path segment or a login as it may stand in a URL.
pub(super) fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |chunk: &[u8]| {
        let at = |index: usize| chunk.get(index).copied().map_or(0, u32::from);
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        (0..4)
            .map(|place| match place <= chunk.len() {
                true => char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]),
                false => '=',
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_to_four() {
        assert_eq!(base64(b"guest:guest"), "Z3Vlc3Q6Z3Vlc3Q=");
        assert_eq!(base64(b"a:bc"), "YTpiYw==");
        assert_eq!(base64(b"abc"), "YWJj");
    }

    #[test]
    fn a_vhost_named_slash_is_escaped() {
        assert_eq!(escape("/"), "%2F");
        assert_eq!(escape("order.placed-1"), "order.placed-1");
    }
}
