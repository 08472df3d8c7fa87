//! The stream over TLS.

use final_capture::source::mysql::MySqlSource;
use final_tests::servers::{Authority, MariaDb, Setup};

use super::shop::{Shop, args, server};

#[tokio::test]
async fn the_stream_is_protected_as_the_url_says() {
    let (authority, other) = (
        Authority::new().expect("one"),
        Authority::new().expect("another"),
    );
    let dir = final_tests::WorkDir::new("authorities").expect("a folder");
    dir.write("right.pem", &authority.certificate())
        .expect("a file");
    dir.write("wrong.pem", &other.certificate())
        .expect("a file");
    let setup = Setup {
        args: args(&["--require-secure-transport=ON"]),
        tls: Some(authority.for_server().expect("files")),
        ..Setup::default()
    };
    let server = MariaDb::start_with(setup).await.expect("MariaDB");
    let mut shop = Shop::on(&server.url()).await;
    shop.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let url = |host: &str, query: &str| {
        let url = server.url().replace("127.0.0.1", host);
        format!("{url}?{query}").replace("DIR", &format!("{}/", dir.path().display()))
    };
    for (number, (right, query)) in [
        ("localhost", "ssl-mode=verify_identity&ssl-ca=DIRright.pem"),
        ("localhost", "ssl-ca=DIRright.pem"),
        (
            "127.0.0.1",
            "ssl-mode=VERIFY_IDENTITY&ssl-ca=DIRright.pem&ssl-hostname=localhost",
        ),
        ("127.0.0.1", "ssl-mode=required"),
        ("127.0.0.1", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let source = MySqlSource::new(&url(right, query)).expect("a source");
        let mut stream = shop.stream_of(&source).await;
        shop.run(&format!("INSERT INTO t VALUES ({number})")).await;
        assert_eq!(
            stream.bundle().await.short(),
            [format!("insert t {number}")]
        );
    }
    for (host, query) in [
        ("127.0.0.1", "ssl-mode=verify_identity&ssl-ca=DIRright.pem"),
        ("localhost", "ssl-mode=verify_identity&ssl-ca=DIRwrong.pem"),
        ("localhost", "ssl-mode=verify_ca&ssl-ca=DIRwrong.pem"),
        ("localhost", "ssl-mode=verify_identity"),
        ("localhost", "ssl-mode=disabled"),
    ] {
        use final_capture::source::Source as _;
        let source = MySqlSource::new(&url(host, query)).expect("a source");
        let opened = source.open(&shop.all(), None).await;
        assert!(opened.is_err(), "{host} {query}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_it_is_required() {
    use final_capture::source::Source as _;
    // Since 11.4 a server has TLS unless it is told otherwise.
    let server = server(&["--skip-ssl"]).await;
    let shop = Shop::on(&server.url()).await;
    let url = format!("{}?ssl-mode=required", shop.url);
    let source = MySqlSource::new(&url).expect("a source");
    let error = source.open(&shop.all(), None).await.expect_err("no stream");
    assert!(error.to_string().contains("SSL"), "{error}");
}
