//! Signatures, checked by programs that are not ours.

use std::process::Stdio;

use tokio::{io::AsyncWriteExt, process::Command};

use super::{server::*, *};
use crate::{SIGNATURE_HEADER, SigningSecret, verify};

const PAGE: &str = include_str!("../../../../docs/webhooks.md");

const SECRET: &str = "a secret that is shared";

fn secret(text: &str) -> SigningSecret {
    SigningSecret::new(text).unwrap()
}

/// The call as the endpoint got it: the header, and the body.
async fn received(endpoint: impl Fn(Endpoint) -> Endpoint) -> (String, Vec<u8>) {
    let server = Server::answering(OK).await;
    let body = "{\"umlaut\":\"ä\", \"line\":\"\\n\"}\r\n\0";
    let call = Call::new(body, "application/json", "k").unwrap();
    let endpoint = endpoint(local(&server.url()));
    let outcome = caller().build().unwrap().call(&endpoint, &call).await;
    assert_eq!(outcome, CallOutcome::Done(200));
    let request = server.requests().remove(0);
    (
        request.header(SIGNATURE_HEADER).unwrap().to_owned(),
        request.body,
    )
}

/// The output of a program that gets `input`.
async fn output(program: &str, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    child.stdin.take().unwrap().write_all(input).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{program} has failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The example of a language in the page.
fn example(language: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn openssl_computes_the_same_signature() {
    let (header, body) = received(|endpoint| endpoint.secret(secret(SECRET))).await;
    let (moment, signature) = header.split_once(",v1=").unwrap();
    let signed = [moment.strip_prefix("t=").unwrap().as_bytes(), b".", &body].concat();

    let digest = output(
        "openssl",
        &["dgst", "-sha256", "-hmac", SECRET, "-hex"],
        &signed,
    )
    .await;
    assert_eq!(digest.rsplit(' ').next().unwrap(), signature);
}

/// The judgements of a script that has the function of the page: of the call as it came, of another body, of an old
/// call, of another secret, and of the call while the secret is replaced.
async fn judgements(program: &str, flag: &str, script: &str) -> Vec<String> {
    let (header, body) = received(|endpoint| endpoint.secret(secret(SECRET))).await;
    let both = |endpoint: Endpoint| {
        endpoint
            .secret(secret("the secret that was before"))
            .secret(secret(SECRET))
    };
    let (two, same) = received(both).await;
    assert_eq!(body, same);
    let old = crate::sign(
        &[secret(SECRET)],
        &body,
        SystemTime::now() - Duration::from_secs(400),
    );
    let changed = [&body[..], b"x"].concat();
    let mut judgements = Vec::new();
    for (header, body, secret) in [
        (&header, &body, SECRET),
        (&two, &body, SECRET),
        (&header, &changed, SECRET),
        (&old, &body, SECRET),
        (&header, &body, "the secret of somebody else"),
        (&header.replace("t=", "t=9999999999,t="), &body, SECRET),
    ] {
        let said = output(program, &[flag, script, header, secret], body).await;
        judgements.push(said.to_lowercase());
    }
    judgements
}

#[tokio::test]
async fn the_example_in_python_tells_genuine_calls() {
    let example = example("python");
    let script = format!(
        "{example}\nimport sys\nprint(is_genuine(sys.argv[1], sys.stdin.buffer.read(), sys.argv[2].encode()))"
    );
    let judgements = judgements("python3", "-c", &script).await;
    assert_eq!(
        judgements,
        ["true", "true", "false", "false", "false", "false"]
    );
}

#[tokio::test]
async fn the_example_in_node_tells_genuine_calls() {
    let example = example("js");
    let script = format!(
        "{example}\nconst body = require('node:fs').readFileSync(0);\n\
         console.log(isGenuine(process.argv[1], body, process.argv[2]));"
    );
    let judgements = judgements("node", "-e", &script).await;
    assert_eq!(
        judgements,
        ["true", "true", "false", "false", "false", "false"]
    );
}

#[tokio::test]
async fn a_repeat_has_the_same_key_and_a_signature_of_its_own_moment() {
    let server = Server::answering("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
    let clock = Standing::new();
    let caller = caller().clock(clock.clone()).build().unwrap();
    let endpoint = local(&server.url()).secret(secret(SECRET));
    let call = call("order-7");
    for _ in 0..2 {
        caller.call(&endpoint, &call).await;
        clock.advance(Duration::from_secs(3600));
    }

    let [first, second] = &server.requests()[..] else {
        panic!()
    };
    assert_eq!(first.header("idempotency-key"), Some("order-7"));
    assert_eq!(second.header("idempotency-key"), Some("order-7"));
    assert_eq!(first.body, second.body);
    let now = clock.wall() - Duration::from_secs(3600);
    let judge = |request: &Received| {
        let header = request.header(SIGNATURE_HEADER).unwrap();
        verify(
            header,
            &request.body,
            &[secret(SECRET)],
            Duration::from_secs(60),
            now,
        )
    };
    assert!(judge(first).is_err());
    assert_eq!(judge(second), Ok(()));
}
