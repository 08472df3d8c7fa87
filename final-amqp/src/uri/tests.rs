//! What is read of a URL, and what is refused by name.

use proptest::prelude::*;

use super::*;

fn reason(url: &str) -> String {
    parse(url).unwrap_err().to_string()
}

#[test]
fn reads_what_a_url_says() {
    let uri = parse("amqps://mary:s3cret@mq.example:5999/shop").unwrap();

    assert_eq!(address(&uri), "mq.example:5999");
    assert_eq!(uri.vhost, "shop");
    assert_eq!(uri.authority.userinfo.password, "s3cret");
}

#[test]
fn reads_an_ipv6_address() {
    for (url, port) in [
        ("amqp://guest:guest@[::1]:5673/%2f", 5673),
        ("amqp://[::1]", 5672),
    ] {
        let uri = parse(url).unwrap();

        assert_eq!(uri.authority.host, "::1");
        assert_eq!(uri.authority.port, port);
    }
}

/// Go's clients take it for the virtual host `/`, this one and the specification for one without a name.
#[test]
fn a_slash_at_the_end_is_an_error_that_says_what_to_write() {
    for url in [
        "amqp://mary:s3cret@host/",
        "amqp://host:5672/",
        "amqp://host/?heartbeat=5",
    ] {
        assert!(reason(url).contains("`/%2f`"), "{url}");
    }
    for url in [
        "amqp://host",
        "amqp://host/%2f",
        "amqp://host/%2F",
        "amqp://host//",
        "amqp://host?heartbeat=5",
    ] {
        assert_eq!(parse(url).unwrap().vhost, "/", "{url}");
    }
}

#[test]
fn a_virtual_host_is_what_is_written() {
    for (path, vhost) in [
        ("shop", "shop"),
        ("a/b", "a/b"),
        ("a%2fb", "a/b"),
        ("..", ".."),
        ("a/../b", "a/../b"),
        ("%2e", "."),
        ("100%25", "100%"),
        ("%C3%A4", "ä"),
    ] {
        assert_eq!(parse(&format!("amqp://host/{path}")).unwrap().vhost, vhost);
    }
    // lapin panics at a longer one.
    assert!(parse(&format!("amqp://host/{}", "v".repeat(255))).is_ok());
    assert!(reason(&format!("amqp://host/{}", "v".repeat(256))).contains("255 bytes"));
}

#[test]
fn a_parameter_that_would_be_ignored_is_named() {
    for name in ["heartbaet", "Heartbeat", "connectionTimeout", "frameMax"] {
        let reason = reason(&format!("amqp://mary:s3cret@host/%2f?{name}=5"));

        assert!(reason.contains(&format!("`{name}`")), "{reason}");
        assert!(reason.contains("`heartbeat`"), "{reason}");
    }
    for pair in [
        "ssl=true",
        "verify=verify_peer",
        "cacertfile=/etc/ca.pem",
        "SSL",
    ] {
        let reason = reason(&format!("amqp://mary:s3cret@host/%2f?{pair}"));
        let name = pair.split('=').next().unwrap();

        assert!(reason.contains(&format!("`{name}`")), "{reason}");
        assert!(reason.contains("`amqps://`"), "{reason}");
    }
}

#[test]
fn a_value_that_cannot_be_is_an_error_that_names_its_parameter() {
    for (name, values) in [
        (
            "heartbeat",
            &["", "0", "-1", "+5", "65536", "10s", "5%20"][..],
        ),
        ("connection_timeout", &["0", "1e3", "99999999999"]),
        ("frame_max", &["0", "64", "4095", "1048577", "4294967296"]),
        ("channel_max", &["0", "65536"]),
        ("auth_mechanism", &["", "oauth", "s3cret"]),
    ] {
        for value in values {
            let reason = reason(&format!("amqp://host?{name}={value}"));
            assert!(reason.contains(&format!("`{name}`")), "{reason}");
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }
    assert!(reason("amqp://host?heartbeat=5&heartbeat=6").contains("`heartbeat`"));
    let all =
        "heartbeat=5&connection_timeout=3000&frame_max=8192&channel_max=9&auth_mechanism=PLAIN";
    let query = parse(&format!("amqp://host?{all}")).unwrap().query;
    assert_eq!((query.heartbeat, query.frame_max), (Some(5), Some(8192)));
    assert_eq!(query.connection_timeout, Some(3000));
    assert_eq!(query.channel_max, Some(9));
}

#[test]
fn user_and_password_are_what_is_written() {
    for (login, user, password) in [
        ("", "guest", "guest"),
        ("mary:s3cret@", "mary", "s3cret"),
        ("mary:@", "mary", ""),
        (":token@", "", "token"),
        ("m%40ry:%2f%3a%25@", "m@ry", "/:%"),
        ("mary:a:b@", "mary", "a:b"),
        ("mary:a@b@", "mary", "a@b"),
    ] {
        let uri = parse(&format!("amqp://{login}host")).unwrap();
        let userinfo = uri.authority.userinfo;

        assert_eq!((&*userinfo.username, &*userinfo.password), (user, password));
    }
    assert!(reason("amqp://mary@host").contains("no password"));
    assert!(reason("amqp://mary:%00@host").contains("zero byte"));
    assert!(parse("amqps://mary@host?auth_mechanism=external").is_ok());
}

#[test]
fn what_is_missing_or_cannot_be_is_named() {
    for (url, words) in [
        ("amqp://", "no host"),
        ("amqp:///shop", "no host"),
        (r"amqp://mary:0\@mq:7]%:72/shop", "no host name"),
        ("amqp://mary:s3cret@/shop", "no host"),
        ("amqp://mary:s3cret@:5672/shop", "no host"),
        ("amqp://host:0", "port"),
        ("amqp://host:65536", "port"),
        ("amqp://host:http", "port"),
        ("amqp://a:5672,b:5672/shop", "more than one host"),
        ("amqp://mary:100%@host", "`%25`"),
        ("amqp://mary:50%of@host", "`%25`"),
        ("amqp://host/50%", "`%25`"),
        ("amqp://mary:%ff%fe@host", "UTF-8"),
        ("amqp://host/shop#part", "`%23`"),
        ("amqp://host/shop ", "white space"),
        ("amqp://host/shop\n", "control character"),
        ("rabbitmq://host", "amqp://"),
    ] {
        let reason = reason(url);

        assert!(reason.contains(words), "{url}: {reason}");
        assert!(!reason.contains("s3cret"), "{url}: {reason}");
    }
}

#[test]
fn errors_repeat_nothing_of_the_url() {
    for url in [
        "s3cret",
        "s3cret://guest:guest@host",
        "amqp://guest:s3cret@host:port/",
        "amqp://guest:s3cret@host:99999/",
        "amqp://guest:s3cret@host/?heartbeat=s3cret",
        "amqp:s3cret",
        "",
        // The parser accepts each of these, as host `guest` and port 12.
        "amqp://guest:12/s3cret@host/%2f",
        "amqp://guest:12?s3cret@host/%2f",
        "amqp://guest:12#s3cret@host/%2f",
        "amqp://[::1\t]/s3cret",
        "amqp://ho%0ast/s3cret",
        "amqp://guest:12?s3cret",
        "amqp://guest:12?s3cret=1",
        "amqp://guest:12#s3cret",
    ] {
        let error = parse(url).unwrap_err();

        assert_eq!(error.kind(), BrokerErrorKind::Invalid);
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{url}");
    }
}

/// Everything but letters and digits, as a careful caller does it.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02x}"),
        })
        .collect()
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(
        user in "[^\0]{0,20}",
        password in "[^\0]{0,20}",
        vhost in "\\PC{1,20}",
        port in 1..=u16::MAX,
    ) {
        let (u, p, v) = (encoded(&user), encoded(&password), encoded(&vhost));
        let uri = parse(&format!("amqp://{u}:{p}@mq.example:{port}/{v}")).unwrap();

        prop_assert_eq!(uri.authority.userinfo.username, user);
        prop_assert_eq!(uri.authority.userinfo.password, password);
        prop_assert_eq!(uri.vhost, vhost);
        prop_assert_eq!(uri.authority.port, port);
    }

    #[test]
    fn no_url_panics_and_no_error_is_long(
        url in "(amqps?://)?[a-z0-9:@/?#%&=\\[\\]., \\PC]{0,60}"
    ) {
        if let Err(error) = parse(&url) {
            prop_assert!(error.to_string().len() < 600, "{}", error);
        }
    }
}
