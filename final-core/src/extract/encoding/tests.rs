//! Streams of other programs, streams that are broken, and streams without end.

use std::io::Write;

use flate2::{Compression, write};
use futures::FutureExt;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde::Deserialize;

use super::*;
use crate::{FromMessage, HandlerError, Json, Payload};

#[derive(Debug, PartialEq, Deserialize)]
struct Order {
    id: i64,
}

fn json(encoding: &str, bytes: impl AsRef<[u8]>) -> Result<Json<Order>, HandlerError> {
    let message = Message::new("t", bytes.as_ref().to_vec()).with_content_encoding(encoding);
    let taken = Json::from_message(&message, &()).now_or_never();
    taken.expect("decoding waits for nothing")
}

fn reason(encoding: &str, bytes: impl AsRef<[u8]>) -> String {
    let error = json(encoding, bytes).unwrap_err();
    assert!(error.is_permanent());
    error.to_string()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress_to_vec(bytes, CompressionLevel::Fastest)
}

/// `{"id":7}`, by Python's gzip and zlib, and by the program zstd with and without a checksum.
const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xabV\xcaLQ\xb22\xaf\x05\0C_\x07\x12\x08\0\0\0";
const ZLIB: &[u8] = b"\x78\x9c\xabV\xcaLQ\xb22\xaf\x05\0\x0bY\x02{";
const RAW: &[u8] = b"\xabV\xcaLQ\xb22\xaf\x05\0";
const ZSTD: &[u8] = b"(\xb5/\xfd\x04XA\0\0{\"id\":7}\x93\xec\xb9W";
const ZSTD_BARE: &[u8] = b"(\xb5/\xfd\0XA\0\0{\"id\":7}";

#[test]
fn what_other_programs_compress_is_read() {
    for (encoding, stream) in [
        ("gzip", GZIP),
        ("x-gzip", GZIP),
        ("GZIP", GZIP),
        ("gzip:UTF-8", GZIP),
        ("gzip, utf-8", GZIP),
        ("identity, gzip", GZIP),
        // So names Kombu a zlib stream.
        ("gzip", ZLIB),
        ("deflate", ZLIB),
        ("deflate", RAW),
        ("deflate", GZIP),
        ("zstd", ZSTD),
        ("zstd", ZSTD_BARE),
    ] {
        assert_eq!(
            json(encoding, stream).unwrap(),
            Json(Order { id: 7 }),
            "{encoding}"
        );
    }
}

/// Kombu's content encoding is the charset.
#[test]
fn what_kombu_compresses_is_read() {
    let message = Message::new("t", ZLIB)
        .with_content_encoding("utf-8")
        .with_header("compression", "application/x-gzip");

    let taken = Json::from_message(&message, &()).now_or_never();

    assert_eq!(taken.unwrap().unwrap(), Json(Order { id: 7 }));
}

#[test]
fn msgpack_is_read_as_well_and_bytes_are_as_they_were_sent() {
    let message = Message::new("t", gzip(b"\x81\xa2id\x07")).with_content_encoding("gzip");

    let order = Payload::<Order>::from_message(&message, &()).now_or_never();
    let bytes = crate::Bytes::from_message(&message, &()).now_or_never();

    assert_eq!(order.unwrap().unwrap(), Payload(Order { id: 7 }));
    assert_eq!(bytes.unwrap().unwrap(), message.payload());
}

#[test]
fn several_encodings_are_undone_in_either_order() {
    let inner = gzip(b"{\"id\":7}");
    for (encoding, stream) in [
        ("gzip, deflate", zlib(&inner)),
        ("deflate, gzip", zlib(&inner)),
        ("gzip, zstd", zstd(&inner)),
        ("zstd:gzip", zstd(&inner)),
        ("gzip, gzip", gzip(&inner)),
    ] {
        assert_eq!(
            json(encoding, stream).unwrap(),
            Json(Order { id: 7 }),
            "{encoding}"
        );
    }
}

#[test]
fn a_stream_of_several_parts_is_read_whole() {
    let parts = [&b"{\"id\""[..], b":7", b"}"];
    let skipped = b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec();
    let mut frames: Vec<_> = parts.map(zstd).to_vec();
    frames.insert(1, skipped);

    assert_eq!(
        json("gzip", parts.map(gzip).concat()).unwrap(),
        Json(Order { id: 7 })
    );
    assert_eq!(
        json("zstd", frames.concat()).unwrap(),
        Json(Order { id: 7 })
    );
}

#[test]
fn a_broken_stream_is_refused_and_the_reason_names_the_encoding() {
    for (encoding, stream) in [
        ("gzip", GZIP),
        ("deflate", ZLIB),
        ("deflate", RAW),
        ("zstd", ZSTD),
        ("zstd", ZSTD_BARE),
    ] {
        for cut in 0..stream.len() {
            let told = reason(encoding, &stream[..cut]);
            assert!(
                told.contains("content encoding"),
                "{encoding} {cut}: {told}"
            );
        }
        let longer = [stream, b"xx"].concat();
        let told = reason(encoding, longer);
        assert!(told.contains("content encoding"), "{encoding}: {told}");
    }
    for (encoding, stream) in [("gzip", GZIP), ("deflate", ZLIB), ("zstd", ZSTD)] {
        let mut stream = stream.to_vec();
        *stream.last_mut().unwrap() ^= 1;
        let told = reason(encoding, stream);
        assert!(
            told.contains("content encoding"),
            "the checksum of {encoding}: {told}"
        );
    }
}

#[test]
fn what_is_something_else_is_named() {
    let told = reason("gzip", b"\x7b\x00");
    assert!(told.contains("does not begin as gzip"), "{told}");
    let told = reason("br", b"\x0b\x02\x80");
    assert!(told.contains("\"br\"") && told.contains("zstd"), "{told}");
    let told = reason("gzip", gzip(b"{\"id\":\"4111111111111111\"}"));
    assert!(
        told.contains("expected i64") && !told.contains("4111"),
        "{told}"
    );
}

/// A few kilobytes that would fill the memory.
#[test]
fn a_bomb_is_refused_and_the_reason_says_so() {
    const LIMIT: usize = 1 << 20;
    let zeros = vec![0; LIMIT + 1];
    for (coding, bomb) in [
        (Coding::Gzip, gzip(&zeros)),
        (Coding::Deflate, zlib(&zeros)),
        (Coding::Deflate, raw(&zeros)),
        (Coding::Zstd, zstd(&zeros)),
        // Each part may be small.
        (Coding::Gzip, gzip(&zeros[..LIMIT / 4]).repeat(5)),
        (Coding::Zstd, zstd(&zeros[..LIMIT / 4]).repeat(5)),
    ] {
        assert!(bomb.len() < LIMIT / 50);
        let told = inflate::undo(&bomb, coding, LIMIT).unwrap_err();
        assert!(told.contains("larger than 1 MiB"), "{coding:?}: {told}");
        let content = inflate::undo(&bomb, coding, 2 * LIMIT);
        assert!(content.is_ok_and(|content| content.len() > LIMIT));
    }
    // A window that would take terabytes.
    let told = reason("zstd", b"(\xb5/\xfd\0\xff\x01\0\0");
    assert!(told.contains("content encoding"), "{told}");
}

#[test]
fn a_mark_of_the_byte_order_is_no_harm_and_so_is_utf_16() {
    let text = "{\"id\":7}";
    let utf_16 = |convert: fn(u16) -> [u8; 2]| -> Vec<u8> {
        text.encode_utf16().flat_map(convert).collect()
    };
    let (little, big) = (utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes));
    let marked = |mark: &[u8], bytes: &[u8]| [mark, bytes].concat();
    for payload in [
        marked(b"\xef\xbb\xbf", text.as_bytes()),
        marked(b"\xff\xfe", &little),
        marked(b"\xfe\xff", &big),
        little,
        big,
    ] {
        assert_eq!(json("utf-8", &payload).unwrap(), Json(Order { id: 7 }));
        assert_eq!(json("gzip", gzip(&payload)).unwrap(), Json(Order { id: 7 }));
    }
    for broken in [
        &b"\xef\xbb\xbf"[..],
        b"\xff\xfe\x7b",
        b"\xff\xfe\x00\xd8",
        b"\xff\xfe\0\0",
    ] {
        assert!(json("utf-8", broken).unwrap_err().is_permanent());
    }
}

proptest! {
    #[test]
    fn what_is_compressed_comes_back(bytes: Vec<u8>) {
        for (coding, stream) in [
            (Coding::Gzip, gzip(&bytes)),
            (Coding::Deflate, zlib(&bytes)),
            (Coding::Deflate, raw(&bytes)),
            (Coding::Zstd, zstd(&bytes)),
        ] {
            prop_assert_eq!(undo(&stream, &[coding]).unwrap(), &bytes[..]);
        }
    }

    #[test]
    fn whatever_comes_is_an_answer_and_no_panic(
        start in prop_oneof![Just(GZIP), Just(ZLIB), Just(RAW), Just(ZSTD)],
        keep in 0_usize..30,
        end: Vec<u8>,
    ) {
        let bytes = [&start[..keep.min(start.len())], &end].concat();
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let _ = undo(&bytes, &[coding]);
        }
    }
}
