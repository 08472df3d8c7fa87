//! Payloads that another producer has compressed.
//!
//! Input: a message that may name compressions, and how its plain payload is decoded. Output: what was decoded, or
//! the reason why not.
//!
//! A payload that is decoded as it came stays readable whatever the encoding says: many producers write a
//! charset there, or an encoding that they do not use. So the payload itself is the last thing that is tried.

#[cfg(feature = "compression")]
mod inflate;
#[cfg(feature = "compression")]
#[cfg(test)]
mod tests;

use super::rejection::without_value;
use crate::Message;

/// How many bytes a payload may have when it is no longer compressed.
#[cfg(feature = "compression")]
const MAX_BYTES: usize = 64 << 20;

/// How many encodings one payload may have.
const MAX_CODINGS: usize = 4;

/// A way to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The compressions that a message names, in their order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Named<'a> {
    codings: Vec<Coding>,
    /// The first name that is unknown.
    unknown: Option<&'a str>,
}

/// Where Kombu names the compression, and Celery with it: `application/x-gzip`. Its content encoding is a charset.
const KOMBUS_HEADER: &str = "compression";

impl<'a> Named<'a> {
    /// Reads the content encoding, and Kombu's header where the content encoding names no compression.
    fn of(message: &'a Message) -> Self {
        let encoding = message.content_encoding().map(Self::read);
        match (encoding, message.headers().get(KOMBUS_HEADER)) {
            (Some(named), None) => named,
            (Some(named), _) if named != Self::default() => named,
            (_, Some(kind)) => Self::read(kind.strip_prefix("application/").unwrap_or(kind)),
            (None, None) => Self::default(),
        }
    }

    /// Reads `gzip`, `gzip, deflate`, and `gzip:UTF-8` as Spring writes it.
    fn read(encoding: &'a str) -> Self {
        let mut named = Self::default();
        let names = encoding.split([',', ':', ';', ' ', '\t']);
        for name in names.filter(|name| !name.is_empty()) {
            let coding = match name.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" | "x-deflate" | "zlib" => Coding::Deflate,
                "zstd" | "x-zstd" => Coding::Zstd,
                // Kombu and Spring write the charset here, and Kombu writes `binary` for bytes.
                "identity" | "utf-8" | "utf8" | "utf-16" | "utf-16le" | "utf-16be" | "us-ascii"
                | "ascii" | "binary" | "7bit" | "8bit" => continue,
                _ => {
                    named.unknown = named.unknown.or(Some(name));
                    continue;
                }
            };
            if named.codings.len() == MAX_CODINGS {
                named.unknown = Some(name);
                break;
            }
            named.codings.push(coding);
        }
        named
    }
}

/// Decodes the payload, without the compressions that the message names.
pub(super) fn decoded<T>(
    message: &Message,
    decode: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let payload = message.payload();
    let named = Named::of(message);
    if let Some(unknown) = named.unknown {
        return decode(payload).map_err(|reason| {
            let unknown: String = unknown.chars().take(32).collect();
            let reason = without_value(&reason);
            format!("its encoding {unknown:?} is not gzip, deflate or zstd; as it is: {reason}")
        });
    }
    if named.codings.is_empty() {
        return decode(payload);
    }
    match undo(payload, &named.codings) {
        Ok(bytes) => decode(&bytes),
        Err(reason) => decode(payload).map_err(|_| reason),
    }
}

/// Undoes the codings, the last one first, as HTTP means them. Spring lists them in the other order.
#[cfg(feature = "compression")]
fn undo(payload: &[u8], codings: &[Coding]) -> Result<Vec<u8>, String> {
    in_order(payload, codings.iter().rev()).or_else(|reason| match codings {
        [_] => Err(reason),
        _ => in_order(payload, codings.iter()).map_err(|_| reason),
    })
}

#[cfg(feature = "compression")]
fn in_order<'a>(
    payload: &[u8],
    codings: impl Iterator<Item = &'a Coding>,
) -> Result<Vec<u8>, String> {
    let mut content = None;
    for coding in codings {
        let bytes = content.as_deref().unwrap_or(payload);
        content = Some(inflate::undo(bytes, *coding, MAX_BYTES)?);
    }
    Ok(content.unwrap_or_default())
}

#[cfg(not(feature = "compression"))]
fn undo(_: &[u8], codings: &[Coding]) -> Result<Vec<u8>, String> {
    Err(format!(
        "it is compressed ({codings:?}), and final-core was built without its feature `compression`"
    ))
}

#[cfg(test)]
mod name_tests {
    use super::*;

    #[test]
    fn names_are_read_as_producers_write_them() {
        #[track_caller]
        fn check(encoding: &str, codings: &[Coding], unknown: Option<&str>) {
            let named = Named::read(encoding);
            assert_eq!((&*named.codings, named.unknown), (codings, unknown));
        }

        check("gzip", &[Coding::Gzip], None);
        check("X-GZip", &[Coding::Gzip], None);
        check(" deflate ", &[Coding::Deflate], None);
        check("zstd", &[Coding::Zstd], None);
        check("gzip, deflate", &[Coding::Gzip, Coding::Deflate], None);
        check("gzip:UTF-8", &[Coding::Gzip], None);
        check("UTF-8", &[], None);
        check("identity", &[], None);
        check("binary", &[], None);
        check("", &[], None);
        check("br", &[], Some("br"));
        check("gzip, BR", &[Coding::Gzip], Some("BR"));
        check("gzip,gzip,gzip,gzip,zstd", &[Coding::Gzip; 4], Some("zstd"));
    }

    #[test]
    fn a_payload_that_is_readable_as_it_is_needs_no_true_encoding() {
        for encoding in [
            "br",
            "gzip",
            "deflate",
            "zstd",
            "gzip, deflate",
            "utf-8",
            "json",
        ] {
            let message = Message::new("t", "plain").with_content_encoding(encoding);

            let plain = decoded(&message, |bytes| match bytes {
                b"plain" => Ok(()),
                _ => Err("not plain".to_owned()),
            });

            assert_eq!(plain, Ok(()), "{encoding}");
        }
    }

    #[test]
    fn kombus_header_counts_where_the_content_encoding_names_no_compression() {
        #[track_caller]
        fn check(encoding: Option<&str>, header: &str, codings: &[Coding], unknown: Option<&str>) {
            let mut message = Message::new("t", "").with_header("compression", header);
            if let Some(encoding) = encoding {
                message = message.with_content_encoding(encoding);
            }
            let named = Named::of(&message);
            assert_eq!((&*named.codings, named.unknown), (codings, unknown));
        }

        check(Some("utf-8"), "application/x-gzip", &[Coding::Gzip], None);
        check(Some("binary"), "application/x-gzip", &[Coding::Gzip], None);
        check(None, "application/zstd", &[Coding::Zstd], None);
        check(Some("utf-8"), "application/x-bz2", &[], Some("x-bz2"));
        check(Some("deflate"), "gzip", &[Coding::Deflate], None);
        check(Some("br"), "gzip", &[], Some("br"));
    }

    #[test]
    fn an_unknown_encoding_is_named_and_no_value_is() {
        let message = Message::new("t", "").with_content_encoding("br");

        let reason = decoded(&message, |_| {
            Err::<(), _>("invalid type: string \"4111\", expected u8".to_owned())
        })
        .unwrap_err();

        assert!(
            reason.contains("\"br\"") && reason.ends_with("expected u8"),
            "{reason}"
        );
        assert!(!reason.contains("4111"), "{reason}");
    }

    #[cfg(not(feature = "compression"))]
    #[test]
    fn without_the_feature_the_reason_names_it() {
        let message = Message::new("t", "").with_content_encoding("gzip");

        let reason = decoded(&message, |_| Err::<(), _>("no".to_owned())).unwrap_err();

        assert!(reason.contains("`compression`"), "{reason}");
    }
}
