//! `SET key value` and `HSET key header value` of a publisher.
//!
//! Input: a request. Output: a message for the next transaction, and an answer that is known after its COMMIT. Requests
//! of one pipeline are submitted one after the other without waiting, so they share a transaction.

use std::time::Duration;

use bytes::Bytes;
use final_core::Message;

use super::{
    Session,
    answers::{Answer, Answers},
    backend::{Backend, Client},
    commands::Verb,
    login::{Login, refusal},
};
use crate::{
    resp::databus::{COLOR, headers, is_json},
    rights::Operation,
};

/// How long to wait for room in front of the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// A shorter value gets memory of its own, because it would keep the block alive that it came in.
const OWN: usize = 8 * 1024;

impl<B: Backend> Session<B> {
    pub(super) async fn publisher(&mut self, verb: Verb, words: &[Bytes], answers: &Answers) {
        let Some(login) = &self.login else { return };
        let parts = match (verb, words) {
            (Verb::Set, [key, value]) => (key, None, value),
            (Verb::Hset, [key, header, value]) => (key, Some(header), value),
            (Verb::Set | Verb::Hset, _) => {
                return answers.push(Answer::Fixed(b"-pub params error\r\n")).await;
            }
            _ => {
                let text = "ERR this connection publishes; MGET needs a login with role=sub";
                return self.push(answers, |writer| writer.error(text)).await;
            }
        };
        let answer = match self.publish(login, parts).await {
            Ok(later) => later,
            Err(text) => {
                return self.push(answers, |writer| writer.error(&text)).await;
            }
        };
        answers.push(answer).await;
    }

    async fn publish(
        &self,
        login: &Login<B>,
        (key, header, value): (&Bytes, Option<&Bytes>, &Bytes),
    ) -> Result<Answer, String> {
        let (group, topic) = (&login.group, login.pair.topic());
        let operation = Operation::Publish;
        login.may().map_err(|denied| refusal(&denied, operation))?;
        let message = self.message(login, key, header, value)?;
        let spent = login.app.spend(operation, group, topic, 1);
        spent.map_err(|denied| refusal(&denied, operation))?;
        match self.backend.submit(message, PATIENCE).await {
            Ok(later) => Ok(Answer::Later(later)),
            Err(error) => Err(format!("ERR {error}")),
        }
    }

    fn message(
        &self,
        login: &Login<B>,
        key: &Bytes,
        header: Option<&Bytes>,
        value: &Bytes,
    ) -> Result<Message, String> {
        let most = self.limits.max_message_bytes;
        if value.len() > most {
            let bytes = value.len();
            return Err(format!(
                "ERR the value has {bytes} bytes; {most} are allowed"
            ));
        }
        let key = std::str::from_utf8(key)
            .map_err(|_| "ERR the key is not UTF-8; nothing was published".to_owned())?;
        let payload = match value.len() < OWN {
            true => Bytes::copy_from_slice(value),
            false => value.clone(),
        };
        let content_type = match is_json(&payload) {
            true => "application/json",
            false => "application/octet-stream",
        };
        let mut message =
            Message::new(login.pair.shared_topic(), payload).with_content_type(content_type);
        if let Some(header) = header {
            let headers = headers(header).ok_or_else(|| {
                "ERR the header is no protobuf map of texts; nothing was published".to_owned()
            })?;
            message = message.with_headers(headers);
        }
        if !key.is_empty() {
            message = message.with_key(key);
        }
        if !login.color.is_empty() {
            message = message.with_header(COLOR, &*login.color);
        }
        Ok(message)
    }
}
