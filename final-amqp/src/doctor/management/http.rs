//! As much HTTP as the management API needs: one question, one answer, connection closed.
//!
//! Input: the address of the API, and a path. Output: the status and the body, both bounded in time and size. TLS is
//! that of the broker's connections, with the same authorities.

use std::{io, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::{tcp::AMQPUriTcpExt, uri::AMQPUri};
use tokio::time::timeout;

use crate::options::Settings;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The longest answer. That about one queue has some kilobytes, and that about its bindings some for each topic.
const MOST: u64 = 16 * 1024 * 1024;

/// Asks for a path. The error repeats neither the login nor the answer.
pub(super) async fn get(
    settings: &Settings,
    api: &AMQPUri,
    path: &str,
) -> io::Result<(u16, Vec<u8>)> {
    timeout(PATIENCE, exchange(settings, api, path))
        .await
        .unwrap_or_else(|_| {
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {PATIENCE:?}"),
            ))
        })
}

async fn exchange(settings: &Settings, api: &AMQPUri, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let mut stream = api
        .connect_with_config_async(settings.tls.as_ref(), &runtime)
        .await?;
    let login = &api.authority.userinfo;
    let login = base64(format!("{}:{}", login.username, login.password).as_bytes());
    let host = &api.authority.host;
    // The answer ends with the connection.
    let question = format!(
        "GET {path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Basic {login}\r\nAccept: application/json\r\n\r\n"
    );
    stream.write_all(question.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    let read = stream.take(MOST).read_to_end(&mut answer).await;
    // Some servers hang up without a goodbye of TLS.
    if let Err(error) = read
        && (error.kind() != io::ErrorKind::UnexpectedEof || answer.is_empty())
    {
        return Err(error);
    }
    parse(&answer).ok_or_else(|| {
        io::Error::other("the answer is no HTTP: is this the port of the management API?")
    })
}

fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let end = answer.windows(END.len()).position(|bytes| bytes == END)?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?;
    let status = status.split("\r\n").next()?.parse().ok()?;
    Some((status, answer[end + END.len()..].to_vec()))
}

/// A name as a part of a path.
pub(super) fn escape(name: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte))
            }
            other => {
                // Writing into a text cannot fail.
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |place: usize| usize::from(three.get(place).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = DIGITS.get(bits >> (18 - 6 * place) & 63).copied();
            text.push(match digit {
                Some(digit) if place <= three.len() => char::from(digit),
                _ => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of RFC 4648.
    #[test]
    fn a_login_is_written_as_base64() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn an_answer_is_taken_apart_and_nonsense_is_not() {
        let answer = b"HTTP/1.1 404 Object Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, b"{}".to_vec())));
        assert_eq!(parse(b"HTTP/1.0 200\r\n\r\n"), Some((200, Vec::new())));
        for nonsense in [
            &b"AMQP\x00\x00\x09\x01"[..],
            b"HTTP/1.1 ok\r\n\r\n",
            b"",
            b"HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(parse(nonsense), None);
        }
    }

    #[test]
    fn names_cannot_leave_their_part_of_a_path() {
        assert_eq!(escape("/"), "%2F");
        assert_eq!(escape("a b/../é?"), "a%20b%2F..%2F%C3%A9%3F");
    }
}
