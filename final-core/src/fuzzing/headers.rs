//! Headers: from the table's JSON, and there and back.

use super::check_error;
use crate::{Headers, names::check_header};

/// Bytes are read as the JSON of a row, and as names and values between `\xff`.
pub fn headers(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        match Headers::from_json(Some(text)) {
            Ok(headers) => comes_back(&headers),
            Err(error) => check_error(&error.to_string(), 256),
        }
    }
    let mut total = 0;
    let parts: Vec<_> = bytes
        .split(|byte| *byte == 0xff)
        .map(String::from_utf8_lossy)
        .collect();
    let headers: Headers = parts
        .chunks_exact(2)
        .map(|pair| (pair[0].as_ref(), pair[1].as_ref()))
        .inspect(|(name, value)| total += name.len() + value.len())
        .collect();
    assert!(headers.bytes() <= total);
    comes_back(&headers);
    for (name, _) in headers.iter() {
        match check_header(name, headers.bytes()) {
            Ok(()) => assert!((1..=255).contains(&name.len()) && headers.bytes() <= 64 * 1024),
            // The name is shown, as nobody could find the header otherwise; at most 64 characters, each
            // of which an escape can make ten bytes.
            Err(error) => assert!(error.to_string().len() < 1024),
        }
    }
}

fn comes_back(headers: &Headers) {
    let json = headers.to_json();
    assert_eq!(json.is_none(), headers.is_empty());
    let back = Headers::from_json(json.as_deref()).expect("reads what it wrote");
    assert_eq!(&back, headers);
}
