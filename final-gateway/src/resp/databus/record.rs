//! A message as `MGET` gives it.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use final_core::Message;

use super::{COLOR, json, protobuf};
use crate::{groups::Taken, http::json::check};

/// How a client wants its messages: the arguments of `MGET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    /// As protobuf, and not as JSON.
    pub(crate) is_protobuf: bool,
    /// With the message's id, and its number in the log.
    pub(crate) has_id: bool,
}

/// A message that was given out.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    taken: &'a Taken,
}

impl Form {
    /// Reads the arguments of `MGET`: `pb` and `id`, in any order. Everything else means JSON, as it does for databus,
    /// whose client for Go sends an empty argument.
    pub(crate) fn of<'a>(words: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut form = Self::default();
        for word in words {
            form.is_protobuf |= word.eq_ignore_ascii_case(b"pb");
            form.has_id |= word.eq_ignore_ascii_case(b"id");
        }
        form
    }
}

impl<'a> Record<'a> {
    pub(crate) fn new(taken: &'a Taken) -> Self {
        Self { taken }
    }

    /// Whether a consumer of this colour gets the message: a message has the colour of its producer, or none.
    pub(crate) fn is_for(&self, color: &str) -> bool {
        let own = self.taken.message.headers().get(COLOR);
        own.unwrap_or_default() == color
    }

    /// The message in the form that the client has asked for.
    pub(crate) fn encode(&self, form: Form) -> Vec<u8> {
        let payload = self.taken.message.payload().len();
        let mut out = Vec::with_capacity(payload + 256);
        match form.is_protobuf {
            true => self.protobuf(form, &mut out),
            false => self.json(form, &mut out),
        }
        out
    }

    fn json(&self, form: Form, out: &mut Vec<u8>) {
        let message = &self.taken.message;
        let mut metadata = self.metadata();
        out.extend_from_slice(b"{\"key\":");
        json::text(message.key().unwrap_or_default(), out);
        out.extend_from_slice(b",\"value\":");
        if says_json(message) && check(message.payload()).is_ok() {
            json::compact(message.payload(), out);
        } else {
            json::text(&STANDARD.encode(message.payload()), out);
            metadata.insert("final-encoding", "base64");
            metadata.insert("final-content-type", message.content_type());
        }
        out.extend_from_slice(b",\"topic\":");
        json::text(message.topic(), out);
        let (partition, offset) = (self.taken.partition, self.taken.offset);
        let timestamp = self.timestamp();
        let numbers = format!(
            ",\"partition\":{partition},\"offset\":{offset},\"timestamp\":{timestamp},\"metadata\":"
        );
        out.extend_from_slice(numbers.as_bytes());
        if metadata.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            for (at, (name, value)) in metadata.iter().enumerate() {
                out.push(if at == 0 { b'{' } else { b',' });
                json::text(name, out);
                out.push(b':');
                json::text(value, out);
            }
            out.push(b'}');
        }
        if form.has_id {
            out.extend_from_slice(b",\"id\":");
            json::text(&message.id().to_string(), out);
            if let Some(seq) = self.taken.seq {
                out.extend_from_slice(format!(",\"seq\":{seq}").as_bytes());
            }
        }
        out.push(b'}');
    }

    fn protobuf(&self, form: Form, out: &mut Vec<u8>) {
        let message = &self.taken.message;
        protobuf::bytes(1, message.key().unwrap_or_default().as_bytes(), out);
        protobuf::bytes(2, message.payload(), out);
        protobuf::bytes(3, message.topic().as_bytes(), out);
        protobuf::integer(4, i64::from(self.taken.partition), out);
        protobuf::integer(5, self.taken.offset, out);
        protobuf::integer(6, self.timestamp(), out);
        for (name, value) in self.metadata() {
            let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
            protobuf::entry(1, name.as_bytes(), &mut pair);
            protobuf::entry(2, value.as_bytes(), &mut pair);
            protobuf::entry(7, &pair, out);
        }
        if form.has_id {
            protobuf::bytes(8, message.id().to_string().as_bytes(), out);
            protobuf::integer(9, self.taken.seq.unwrap_or_default(), out);
        }
    }

    /// The producer's headers, sorted. The colour is no metadata: databus keeps it in a header of its own.
    fn metadata(&self) -> BTreeMap<&'a str, &'a str> {
        let headers = self.taken.message.headers().iter();
        headers.filter(|(name, _)| *name != COLOR).collect()
    }

    /// When the message was made, in seconds since 1970: as its id has it, or its producer, or now.
    fn timestamp(&self) -> i64 {
        let message = &self.taken.message;
        let of_id = message.id().0.get_timestamp();
        let of_id = of_id.filter(|_| message.id().0.get_version_num() == 7);
        if let Some(time) = of_id {
            return i64::try_from(time.to_unix().0).unwrap_or_default();
        }
        let made = message.received().timestamp;
        let since = made
            .unwrap_or_else(SystemTime::now)
            .duration_since(UNIX_EPOCH);
        i64::try_from(since.unwrap_or(Duration::ZERO).as_secs()).unwrap_or_default()
    }
}

/// Whether the producer says that the payload is JSON. By its bytes alone, an integer of msgpack would be one too.
fn says_json(message: &Message) -> bool {
    let kind = message
        .content_type()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    let is_json = kind.eq_ignore_ascii_case("application/json")
        || kind.eq_ignore_ascii_case("text/json")
        || kind.len() > 5 && kind.as_bytes()[kind.len() - 5..].eq_ignore_ascii_case(b"+json");
    is_json && message.content_encoding().is_none()
}

#[cfg(test)]
mod tests {
    use final_core::MessageId;

    use super::*;

    /// The id has the second 1,700,000,000.
    fn taken(payload: &'static [u8], content_type: &str) -> Taken {
        let id: MessageId = "018bcfe5-6800-7000-8000-000000000001".parse().unwrap();
        let message = Message::identified(id, "test156", payload)
            .with_content_type(content_type)
            .with_key("k<1>");
        Taken {
            message,
            partition: 3,
            offset: (7 << 24) + 2,
            seq: Some(99),
            attempt: 1,
        }
    }

    fn json(taken: &Taken) -> String {
        String::from_utf8(Record::new(taken).encode(Form::default())).unwrap()
    }

    #[test]
    fn json_is_databus_s_to_the_byte() {
        let mut taken = taken(b"{\"id\": 1, \"name\": \"a&b\"}", "application/json");
        assert_eq!(
            json(&taken),
            r#"{"key":"k\u003c1\u003e","value":{"id":1,"name":"a\u0026b"},"topic":"test156","partition":3,"offset":117440514,"timestamp":1700000000,"metadata":null}"#
        );
        taken.message = taken
            .message
            .with_header("b", "2")
            .with_header("a", "1")
            .with_header("color", "red");
        assert!(json(&taken).ends_with(r#""timestamp":1700000000,"metadata":{"a":"1","b":"2"}}"#));
    }

    #[test]
    fn protobuf_is_databus_s_to_the_byte() {
        let mut taken = taken(b"\xff\x00", "application/octet-stream");
        let form = Form {
            is_protobuf: true,
            has_id: false,
        };
        let expected = b"\x0a\x04k<1>\x12\x02\xff\x00\x1a\x07test156\x20\x03\x28\x82\x80\x80\x38\x30\x80\xe2\xcf\xaa\x06";
        assert_eq!(Record::new(&taken).encode(form), expected);
        taken.message = taken.message.with_header("a", "");
        let with_metadata = [&expected[..], b"\x3a\x05\x0a\x01a\x12\x00"].concat();
        assert_eq!(Record::new(&taken).encode(form), with_metadata);
    }

    #[test]
    fn bytes_that_are_no_json_come_as_a_text_with_a_flag() {
        // The integer 49 in msgpack has the byte of the digit 1.
        for (payload, kind) in [
            (&b"1"[..], "application/msgpack"),
            (b"1 2", "application/json"),
            // Half a character, at which many readers stop.
            (br#""\ud800""#, "application/json"),
        ] {
            let shown: serde_json::Value =
                serde_json::from_str(&json(&taken(payload, kind))).unwrap();
            assert_eq!(shown["value"], STANDARD.encode(payload));
            assert_eq!(shown["metadata"]["final-encoding"], "base64");
            assert_eq!(shown["metadata"]["final-content-type"], kind);
        }
    }

    #[test]
    fn the_id_and_the_number_of_the_log_come_if_asked_for() {
        let taken = taken(b"1", "application/json");
        let form = Form::of([&b"ID"[..]]);
        let shown = Record::new(&taken).encode(form);
        assert!(shown.ends_with(
            br#""metadata":null,"id":"018bcfe5-6800-7000-8000-000000000001","seq":99}"#
        ));
    }

    #[test]
    fn a_consumer_gets_the_messages_of_its_colour() {
        let mut taken = taken(b"1", "application/json");
        assert!(Record::new(&taken).is_for("") && !Record::new(&taken).is_for("red"));
        taken.message = taken.message.with_header("color", "red");
        assert!(!Record::new(&taken).is_for("") && Record::new(&taken).is_for("red"));
    }
}
