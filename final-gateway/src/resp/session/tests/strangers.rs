use super::*;
use crate::rights::Denied;

#[tokio::test]
async fn before_the_login_libraries_are_answered_and_everything_else_waits_for_it() {
    let mut caller = Caller::new(&Fake::new());
    for (said, answer) in [
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("echo hello", "$5\r\nhello\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("command", "*0\r\n"),
        ("COMMAND COUNT", ":0\r\n"),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n"),
        ("client setname me", "+OK\r\n"),
        ("client getname", "$2\r\nme\r\n"),
        (
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none",
            "+OK\r\n",
        ),
        ("select 0", "+OK\r\n"),
        ("select 1", "-ERR DB index is out of range\r\n"),
        ("RESET", "+RESET\r\n"),
        ("SET k v", "-NOAUTH Authentication required.\r\n"),
        ("mget", "-NOAUTH Authentication required.\r\n"),
        ("FLUSHALL", "-NOAUTH Authentication required.\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        (
            "AUTH",
            "-ERR wrong number of arguments for 'auth' command\r\n",
        ),
        ("PING", "+PONG\r\n"),
    ] {
        caller.says(said, answer).await;
    }
    caller.send("INFO\r\nQUIT\r\n").await;
    let heard = caller.hears_to_the_end().await;
    assert!(
        heard.contains("\r\nloading:0\r\n") && heard.ends_with("+OK\r\n"),
        "{heard}"
    );
}

#[tokio::test]
async fn the_dsn_may_stand_wherever_a_library_puts_a_password() {
    let fake = Fake::new();
    for login in [
        "AUTH k:s@g/topic=t&role=pub",
        "auth default k:s@g/topic=t&role=pub",
        "HELLO 3 AUTH default k:s@g/topic=t&role=pub SETNAME me",
        "hello 2 setname me auth k k:s@g/topic=t&role=pub",
    ] {
        let mut caller = Caller::new(&fake);
        caller.send(format!("{login}\r\nSET k 1\r\nQUIT\r\n")).await;
        let heard = caller.hears_to_the_end().await;
        assert!(heard.ends_with("+OK\r\n+OK\r\n"), "{login}: {heard}");
        let is_map = heard.starts_with("%7\r\n$6\r\nserver\r\n");
        assert_eq!(is_map, login.starts_with("HELLO 3"), "{login}: {heard}");
    }
    assert_eq!(fake.submitted().len(), 4);
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn a_login_that_is_wrong_is_told_why_in_databus_s_words_and_closed() {
    for (login, answer) in [
        ("AUTH nobody:s@g/topic=t&role=pub", "-error key\r\n"),
        ("AUTH k:wrong@g/topic=t&role=pub", "-error secret\r\n"),
        ("AUTH k:s@other/topic=t&role=pub", "-error group\r\n"),
        ("AUTH k:s@g/topic=other&role=sub", "-error topic\r\n"),
        ("AUTH k:s@g/topic=&role=sub", "-error topic\r\n"),
        ("AUTH k:s@g/role=sub", "-error topic\r\n"),
        (
            "AUTH k:s@g/topic=t&role=pub&color=~eu",
            "-ERR the colour \"~eu\" cannot be used: it has a character outside `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`\r\n",
        ),
        ("AUTH k:s@g/topic=t&role=both", "-command not support\r\n"),
        ("AUTH hunter2", "-invalid dsn params\r\n"),
        (
            "AUTH away:s@g/topic=t&role=pub",
            "-ERR rights unknown: the database is away\r\n",
        ),
        (
            "HELLO 3 AUTH default k:wrong@g/topic=t&role=pub",
            "-error secret\r\n",
        ),
    ] {
        let mut caller = Caller::new(&Fake::new());
        caller.send(format!("{login}\r\nPING\r\n")).await;
        assert_eq!(caller.hears_to_the_end().await, answer, "{login}");
    }
    for (role, answer) in [
        ("pub", "-no publish permission\r\n"),
        ("sub", "-no subscribe permission\r\n"),
    ] {
        let fake = Fake::new();
        fake.rights(Some(Denied::Operation));
        let mut caller = Caller::new(&fake);
        caller
            .send(format!("AUTH k:s@g/topic=t&role={role}\r\n"))
            .await;
        assert_eq!(caller.hears_to_the_end().await, answer);
        assert_eq!(fake.connections(), 0);
    }
}

#[tokio::test]
async fn an_unknown_command_is_told_in_the_form_that_clients_know_and_stays() {
    let mut caller = Caller::logged_in(&Fake::new(), PUB).await;
    caller
        .says(
            "Config GET save",
            "-ERR unknown command 'Config', with args beginning with: 'GET' 'save' \r\n",
        )
        .await;
    caller
        .says(
            "foo",
            "-ERR unknown command 'foo', with args beginning with: \r\n",
        )
        .await;
    caller
        .says(
            "MGET",
            "-ERR this connection publishes; MGET needs a login with role=sub\r\n",
        )
        .await;
    caller.says("PING", "+PONG\r\n").await;
}

#[tokio::test]
async fn a_client_may_log_in_again_as_something_else() {
    let fake = Fake::new();
    let mut caller = Caller::logged_in(&fake, SUB).await;
    assert_eq!((fake.connections(), fake.holders()), (1, 1));
    caller.says(PUB, "+OK\r\n").await;
    assert_eq!((fake.connections(), fake.holders()), (1, 0));
    caller.says("SET k 1", "+OK\r\n").await;
    caller.says("RESET", "+RESET\r\n").await;
    caller
        .says("SET k 1", "-NOAUTH Authentication required.\r\n")
        .await;
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn bytes_that_are_no_request_are_told_and_closed() {
    for (bytes, answer) in [
        (
            &b"*1\r\n*1\r\n$4\r\nPING\r\n"[..],
            "-ERR Protocol error: expected '$', got '*'\r\n",
        ),
        (
            b"*-1\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n$-1\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*2147483648\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n$1000000\r\n",
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (b"*1\n$4\nPING\n", "-ERR Protocol error: expected CRLF\r\n"),
        (
            b"set \"k\r\n",
            "-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
    ] {
        let mut caller = Caller::new(&Fake::new());
        caller.send(bytes).await;
        assert_eq!(caller.hears_to_the_end().await, answer);
    }
}

#[tokio::test]
async fn a_browser_that_was_led_here_is_closed_before_its_body_is_read() {
    let fake = Fake::new();
    let mut caller = Caller::new(&fake);
    let body = "POST / HTTP/1.1\r\nHost: x\r\n\r\nAUTH k:s@g/topic=t&role=pub\r\nSET k 1\r\n";
    caller.send(body).await;
    assert_eq!(caller.hears_to_the_end().await, "");
    assert!(fake.submitted().is_empty());
}
