//! Writing answers, in RESP2 or RESP3.

/// Which form of answers a client has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The older form, which every client begins with.
    #[default]
    Resp2,
    /// The form with maps and nulls, after `HELLO 3`.
    Resp3,
}

/// Bytes of answers.
#[derive(Debug)]
pub(crate) struct Writer {
    protocol: Protocol,
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// `+text`.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text);
    }

    /// `-text`. Clients show it to their users.
    pub(crate) fn error(&mut self, text: &str) {
        self.line(b'-', text);
    }

    /// `:number`.
    pub(crate) fn integer(&mut self, number: i64) {
        self.line(b':', &number.to_string());
    }

    /// Bytes of any kind.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.bytes.reserve(bytes.len() + 16);
        self.line(b'$', &bytes.len().to_string());
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Nothing.
    pub(crate) fn null(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.bytes.extend_from_slice(null);
    }

    /// The beginning of an array; so many values follow.
    pub(crate) fn array(&mut self, length: usize) {
        self.line(b'*', &length.to_string());
    }

    /// The beginning of a map; so many pairs follow. A flat array in RESP2.
    pub(crate) fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.array(pairs * 2),
            Protocol::Resp3 => self.line(b'%', &pairs.to_string()),
        }
    }

    /// A line. An end of line inside the text would begin another answer, so it becomes a blank.
    fn line(&mut self, kind: u8, text: &str) {
        self.bytes.push(kind);
        let of_line = |byte| match byte {
            b'\r' | b'\n' => b' ',
            other => other,
        };
        self.bytes.extend(text.bytes().map(of_line));
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol) -> String {
        let mut writer = Writer::new(protocol);
        writer.simple("OK");
        writer.error("ERR one\r\ntwo");
        writer.integer(-7);
        writer.bulk(b"a\r\nb");
        writer.map(1);
        writer.null();
        writer.array(0);
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    #[test]
    fn answers_have_the_form_that_the_client_chose() {
        assert_eq!(
            written(Protocol::Resp2),
            "+OK\r\n-ERR one  two\r\n:-7\r\n$4\r\na\r\nb\r\n*2\r\n$-1\r\n*0\r\n"
        );
        assert_eq!(
            written(Protocol::Resp3),
            "+OK\r\n-ERR one  two\r\n:-7\r\n$4\r\na\r\nb\r\n%1\r\n_\r\n*0\r\n"
        );
    }
}
