//! What passes the guard unchanged, what is mended, and what is left out.

use std::pin::pin;

use futures::{FutureExt, io::AsyncReadExt};
use lapin::{
    BasicProperties,
    protocol::basic::{gen_properties, parse_properties},
    types::{AMQPValue, FieldTable, LongString},
};
use proptest::{collection::vec, prelude::*};

use super::{Guarded, LEFT_OUT, mend, shrink::shrink};

/// A content header frame with these flags and properties.
fn content_header(flags: u16, properties: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(flags.to_be_bytes());
    payload.extend(properties);
    frame(2, &payload)
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, 1], &length[..], payload, &[0xce]].concat()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// A table with one entry, under which tables or arrays lie this deep.
fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let name: &[u8] = if kind == b'F' { &[1, b'n'] } else { &[] };
    let mut inside = Vec::new();
    for _ in 0..depth {
        inside = [name, &[kind], &counted(&inside)].concat();
    }
    let outermost: &[u8] = if kind == b'F' { &[] } else { &[1, b'n'] };
    counted(&[outermost, &inside].concat())
}

/// What comes out of a guard when the bytes come in pieces of these sizes.
fn through(bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    struct Pieces<'a>(&'a [u8], std::iter::Cycle<std::slice::Iter<'a, usize>>);

    impl futures::io::AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let size = *self.1.next().unwrap();
            let count = size.min(buf.len()).min(self.0.len());
            let (now, later) = self.0.split_at(count);
            buf[..count].copy_from_slice(now);
            self.0 = later;
            std::task::Poll::Ready(Ok(count))
        }
    }

    let mut out = Vec::new();
    let guarded = Guarded::new(Pieces(bytes, sizes.iter().cycle()));
    let mut guarded = pin!(guarded);
    let read = guarded.read_to_end(&mut out).now_or_never();
    read.expect("the stream never waits").expect("no error");
    out
}

fn parsed(frame: &[u8]) -> BasicProperties {
    let properties = &frame[7 + 12..frame.len() - 1];
    let (rest, properties) = parse_properties(properties).expect("lapin reads it");
    assert!(rest.is_empty());
    properties
}

#[test]
fn tables_and_arrays_nested_as_deep_as_a_frame_allows_are_read_without_overflowing_the_stack() {
    for kind in [b'F', b'A'] {
        // The stack of lapin's thread.
        let builder = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let thread = builder.spawn(move || {
            for depth in [1, 31, 32, 33, 500, 18_000] {
                let sent = content_header(0x2000, &nested(kind, depth));
                let got = through(&sent, &[1_000]);
                assert_eq!(got.len(), sent.len());
                assert_eq!(got == sent, depth < 32, "depth {depth}");
                let headers = parsed(&got).headers().clone().unwrap();
                assert!(headers.inner().contains_key("n"));
            }
        });
        thread.unwrap().join().unwrap();
    }
}

#[test]
fn texts_that_are_no_utf8_become_readable() {
    let table = counted(b"\x04n\xffmeS\x00\x00\x00\x02\xff\xfe");
    // Content type, headers, message id.
    let properties = [&b"\x02\xc3("[..], &table, b"\x05id-\xe2\x82"].concat();
    let got = parsed(&through(&content_header(0xa080, &properties), &[7]));

    assert_eq!(got.content_type().as_ref().unwrap().as_str(), "\x1a(");
    assert_eq!(got.message_id().as_ref().unwrap().as_str(), "id-\x1a\x1a");
    let headers = got.headers().as_ref().unwrap().inner();
    let value = AMQPValue::LongString(LongString::from(vec![0xff, 0xfe]));
    assert_eq!(headers["n\x1ame"], value, "long strings may be any bytes");
}

#[test]
fn every_text_among_the_properties_becomes_readable() {
    // All but the headers, delivery mode, priority and timestamp.
    for property in [0, 1, 5, 6, 7, 8, 10, 11, 12, 13] {
        let sent = content_header(0x8000 >> property, b"\x03a\xffz");
        let mended = content_header(0x8000 >> property, b"\x03a\x1az");

        assert_eq!(through(&sent, &[40]), mended, "property {property}");
    }
}

/// No broker writes such a table, so it is not known where it ends.
#[test]
fn what_lies_behind_a_table_that_cannot_be_walked_is_left_as_it_is() {
    let unknown_kind = counted(b"\x01nZ");
    let value_longer_than_the_table = [&counted(b"\x01nl")[..], &[0; 8]].concat();
    let inner_longer_than_the_frame = counted(b"\x01nF\x00\xff\x00\x00");
    for table in [
        unknown_kind,
        value_longer_than_the_table,
        inner_longer_than_the_frame,
    ] {
        // Headers and message id.
        let sent = content_header(0x2080, &[&table[..], b"\x02\xff\xff"].concat());

        assert_eq!(through(&sent, &[40]), sent, "{table:?}");
    }
}

#[test]
fn the_room_of_a_large_frame_is_given_back() {
    let sent = content_header(0x2000, &nested(b'F', 10_000));
    let mut guarded = Guarded::new(&sent[..]);
    let mut frame = vec![0; sent.len()];
    let read = guarded.read_exact(&mut frame).now_or_never();
    read.expect("the stream never waits").expect("no error");
    assert!(guarded.buffer.len() > super::CHUNK);

    let read = guarded.read(&mut frame).now_or_never();
    assert_eq!(read.unwrap().unwrap(), 0);
    assert_eq!(guarded.buffer.len(), super::CHUNK);
}

#[test]
fn names_in_method_frames_become_readable() {
    let deliver = b"\x00\x3c\x00\x3c\x03tag\0\0\0\0\0\0\0\x07\x00\x02\xffe\x02k\xff";
    let close = b"\x00\x14\x00\x28\x01\x94\x03no\xc3\x00\x3c\x00\x28";
    let close_all = b"\x00\x0a\x00\x32\x01\x94\x03no\xc3\x00\x3c\x00\x28";
    let sent = [deliver as &[u8], close, close_all].map(|payload| frame(1, payload));
    let got = through(&sent.concat(), &[5, 1, 90]);

    let mended = b"\x00\x3c\x00\x3c\x03tag\0\0\0\0\0\0\0\x07\x00\x02\x1ae\x02k\x1a";
    let cut = b"\x00\x14\x00\x28\x01\x94\x03no\x1a\x00\x3c\x00\x28";
    let all_cut = b"\x00\x0a\x00\x32\x01\x94\x03no\x1a\x00\x3c\x00\x28";
    let expected = [mended as &[u8], cut, all_cut].map(|payload| frame(1, payload));
    assert_eq!(got, expected.concat());
}

#[test]
fn a_frame_larger_than_any_is_an_error_before_it_is_kept() {
    let mut guarded = Guarded::new(&[2, 0, 1, 0xff, 0xff, 0xff, 0xff, 0][..]);
    let read = guarded.read(&mut [0; 10]).now_or_never().unwrap();

    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::OutOfMemory);
}

#[test]
fn payloads_pass_however_large() {
    let body = frame(3, &vec![0xff; 300_000]);
    let header = content_header(0x2000, &nested(b'F', 2));
    let all = [&body[..], &header, &body, &frame(8, b"")].concat();

    assert_eq!(through(&all, &[64 * 1024, 3]), all);
}

/// A method frame `connection.tune` with this frame size.
fn tune(frame_max: u32) -> Vec<u8> {
    let payload = [
        &[0, 10, 0, 30, 0, 0][..],
        &frame_max.to_be_bytes(),
        &[0, 60],
    ];
    frame(1, &payload.concat())
}

/// A content header frame with these headers and a message id.
fn with_headers(entries: Vec<(String, AMQPValue)>) -> Vec<u8> {
    let properties = BasicProperties::default()
        .with_content_type("a/b".into())
        .with_headers(table(entries))
        .with_message_id("id-1".into());
    let mut payload = vec![0; 12];
    payload.extend(lapin_bytes(&properties));
    frame(2, &payload)
}

fn text(length: usize) -> AMQPValue {
    AMQPValue::LongString("x".repeat(length).into())
}

fn entry(name: &str, value: AMQPValue) -> (String, AMQPValue) {
    (name.to_owned(), value)
}

#[test]
fn a_header_frame_larger_than_agreed_on_is_made_smaller_and_what_follows_passes() {
    let (large, body) = (entry("n", text(5_000)), frame(3, &[7; 3_000]));
    let sent = [tune(4_096), with_headers(vec![large]), body.clone()].concat();
    for sizes in [&[50_000_usize][..], &[1, 90, 4_000]] {
        let got = through(&sent, sizes);

        let (ahead, header) = got.split_at(tune(0).len());
        assert_eq!(ahead, tune(4_096));
        let header = header.strip_suffix(&body[..]).unwrap();
        assert!(header.len() <= 4_096);
        assert_eq!(
            parsed(header).message_id().as_ref().unwrap().as_str(),
            "id-1"
        );
    }
}

#[test]
fn the_smaller_of_both_sides_frame_sizes_counts_and_none_is_no_limit() {
    let header = with_headers(vec![entry("n", text(20_000))]);
    for (ours, theirs, is_whole) in [
        (0, 0, true),
        (0, 8_192, false),
        (8_192, 0, false),
        (8_192, 100_000, false),
        (100_000, 8_192, false),
        (100_000, 100_000, true),
        (0, 20_000 + 100, true),
    ] {
        let sent = [tune(theirs), header.clone()].concat();
        let mut guarded = Guarded::new(&sent[..]).limited_to(ours);
        let mut got = Vec::new();
        let read = guarded.read_to_end(&mut got).now_or_never();
        read.expect("the stream never waits").expect("no error");

        assert_eq!(got == sent, is_whole, "{ours} and {theirs}");
    }
}

#[test]
fn the_brokers_own_headers_go_first_and_silently() {
    let users = entry("n", text(900));
    let header = with_headers(vec![
        entry("X-Death", text(500)),
        entry("x-delivery-count", AMQPValue::LongLongInt(3)),
        entry("x-acquired-count", AMQPValue::LongLongInt(7)),
        entry("x-first-death-queue", text(20)),
        entry("x-last-death-queue", text(20)),
        users.clone(),
    ]);
    let expected = with_headers(vec![users]);
    let mut payload = header[7..header.len() - 1].to_vec();
    let shrunk = shrink(&mut payload, expected.len() - 8).unwrap();

    assert_eq!(shrunk, expected[7..expected.len() - 1]);
}

#[test]
fn what_cannot_be_made_smaller_is_left_as_it_is() {
    let no_headers = content_header(0x8000, b"\x03a/b");
    let broken = content_header(0x2000, &counted(b"\x01nl"));
    for frame in [no_headers, broken] {
        assert_eq!(shrink(&mut frame[7..frame.len() - 1].to_vec(), 10), None);
    }
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i16>().prop_map(AMQPValue::ShortInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        vec(any::<u8>(), 0..9).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| AMQPValue::FieldArray(all.into())),
            vec((".{0,4}", inner), 0..4).prop_map(|all| AMQPValue::FieldTable(table(all))),
        ]
    })
}

fn table(entries: Vec<(String, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.as_str().into(), value);
    }
    table
}

proptest! {
    #[test]
    fn what_lapin_writes_passes_unchanged(
        entries in vec((".{0,9}", value()), 0..5),
        id in ".{0,40}",
        sizes in vec(1_usize..40, 1..5),
    ) {
        let properties = BasicProperties::default()
            .with_headers(table(entries))
            .with_message_id(id.as_str().into())
            .with_priority(3)
            .with_timestamp(7);
        let mut payload = vec![0; 12];
        payload.extend(lapin_bytes(&properties));
        let sent = frame(2, &payload);

        prop_assert_eq!(through(&sent, &sizes), sent);
    }

    #[test]
    fn a_smaller_header_fits_keeps_the_smallest_and_names_what_is_left_out(
        sizes in vec(0_usize..2_000, 1..12),
        limit in 700_usize..9_000,
    ) {
        let named = |(n, size): (usize, &usize)| entry(&format!("h{n}"), text(*size));
        let mut sent: Vec<_> = sizes.iter().enumerate().map(named).collect();
        sent.push(entry("x-final-msg-topic", text(30)));
        let header = with_headers(sent.clone());
        let mut payload = header[7..header.len() - 1].to_vec();
        prop_assume!(payload.len() > limit);
        let shrunk = shrink(&mut payload, limit).unwrap();

        prop_assert!(shrunk.len() <= limit);
        let properties = parsed(&frame(2, &shrunk));
        prop_assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id-1");
        let kept = properties.headers().clone().unwrap();
        prop_assert!(kept.contains_key(LEFT_OUT));
        let is_kept = |name: &str| kept.contains_key(name);
        prop_assert!(is_kept("x-final-msg-topic"));
        let left_out = sizes.iter().enumerate().filter(|(n, _)| !is_kept(&format!("h{n}")));
        let smallest = left_out.map(|(_, size)| *size).min().unwrap();
        for (n, size) in sizes.iter().enumerate() {
            let name = format!("h{n}");
            prop_assert!(*size <= smallest || !is_kept(&name));
        }
        for (name, value) in kept.inner().iter().filter(|(name, _)| name.as_str() != LEFT_OUT) {
            prop_assert!(sent.contains(&(name.to_string(), value.clone())));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_change_their_number(bytes in vec(any::<u8>(), 0..200)) {
        for mend in [mend::method, mend::content_header] {
            let mut mended = bytes.clone();
            mend(&mut mended);
            prop_assert_eq!(mended.len(), bytes.len());
        }
        for limit in [0, 50, 4_088] {
            let shrunk = shrink(&mut bytes.clone(), limit);
            prop_assert!(shrunk.is_none_or(|shrunk| shrunk.len() <= limit));
        }
    }

    #[test]
    fn half_broken_properties_make_it_neither_panic_nor_hang(
        mut bytes in Just(content_header(0xffff, &nested(b'F', 40))),
        broken in vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
    ) {
        for (at, byte) in broken {
            let at = 7 + at.index(bytes.len() - 8);
            bytes[at] = byte;
        }
        prop_assert_eq!(through(&bytes, &[50]).len(), bytes.len());
    }
}

fn lapin_bytes(properties: &BasicProperties) -> Vec<u8> {
    let mut buffer = vec![0; 64 * 1024];
    let cursor = std::io::Cursor::new(&mut buffer[..]);
    let end = gen_properties(properties)(cursor.into()).unwrap().position;
    buffer.truncate(usize::try_from(end).unwrap());
    buffer
}
