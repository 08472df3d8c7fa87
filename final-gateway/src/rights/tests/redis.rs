//! Rights of databus in Redis, as its code writes them there.

use std::sync::{Arc, Mutex};

use final_tests::{Redis, clients::redis_tool};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    task::JoinHandle,
};

use crate::rights::databus::{DatabusRight, RedisError, RedisPlace, read_redis};

/// A Redis that has hashes, gives them out two fields at a time, and wants a password.
struct FakeRedis {
    address: String,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
    task: JoinHandle<()>,
}

type Hash = (&'static str, Vec<(&'static str, &'static str)>);

impl FakeRedis {
    async fn with(hashes: Vec<Hash>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::<Mutex<Vec<Vec<String>>>>::default();
        let log = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                let mut stream = BufReader::new(stream);
                while let Some(command) = command(&mut stream).await {
                    let answer = answer(&hashes, &command);
                    log.lock().unwrap().push(command);
                    stream
                        .get_mut()
                        .write_all(answer.as_bytes())
                        .await
                        .expect("written");
                }
            }
        });
        Self {
            address,
            asked,
            task,
        }
    }

    fn place(&self, password: Option<&str>) -> RedisPlace {
        RedisPlace {
            address: self.address.clone(),
            database: 3,
            password: password.map(str::to_owned),
        }
    }
}

impl Drop for FakeRedis {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn command(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<Vec<String>> {
    let mut line = String::new();
    stream
        .read_line(&mut line)
        .await
        .ok()
        .filter(|read| *read > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut bytes = vec![0; length + 2];
        stream.read_exact(&mut bytes).await.ok()?;
        words.push(String::from_utf8(bytes[..length].to_vec()).ok()?);
    }
    Some(words)
}

fn answer(hashes: &[Hash], command: &[String]) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["AUTH", "p"] | ["SELECT", "3"] => "+OK\r\n".to_owned(),
        ["AUTH", _] => "-WRONGPASS invalid password\r\n".to_owned(),
        ["HSCAN", hash, cursor, ..] => {
            let found = hashes.iter().find(|(name, _)| *name == hash);
            let fields = found
                .map(|(_, fields)| fields.as_slice())
                .unwrap_or_default();
            let at: usize = cursor.parse().expect("a cursor");
            let page = &fields[at..fields.len().min(at + 2)];
            let next = match at + 2 < fields.len() {
                true => at + 2,
                false => 0,
            };
            let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            let texts: String = page
                .iter()
                .map(|(field, value)| bulk(field) + &bulk(value))
                .collect();
            format!(
                "*2\r\n{}*{}\r\n{texts}",
                bulk(&next.to_string()),
                page.len() * 2
            )
        }
        _ => "-ERR unknown command\r\n".to_owned(),
    }
}

#[tokio::test]
async fn hashes_of_both_names_are_read_page_by_page() {
    let redis = FakeRedis::with(vec![
        (
            "tb:apptb",
            vec![
                ("autoincr_last_id", "7"),
                ("7_Id", "7"),
                ("7_AppKey", "app_key1"),
                ("7_AppSecret", "it's ü"),
                ("7_Cluster", "c"),
                ("7_CreatedAt", "1600000000"),
            ],
        ),
        (
            "tb:authtb",
            vec![
                ("1_Id", "1"),
                ("1_AppId", "7"),
                ("1_Group", "group_name1"),
                ("1_Operation", "3"),
                ("1_Topic", "test_156"),
                ("12_AppId", "8"),
                ("12_Group", "nobody's"),
            ],
        ),
        (
            "tb:app_tb",
            vec![("1_app_key", "second"), ("1_app_secret", "s")],
        ),
        (
            "tb:auth_tb",
            vec![
                ("4_app_id", "1"),
                ("4_group_name", "g"),
                ("4_topic", "t"),
                ("4_operation", "x"),
                ("4_deleted_at", "1600000000"),
            ],
        ),
    ])
    .await;
    let found = read_redis(&redis.place(Some("p"))).await.expect("read");
    let keys: Vec<_> = found
        .iter()
        .map(|app| (app.key.as_str(), app.secret.as_str()))
        .collect();
    assert_eq!(keys, [("app_key1", "it's ü"), ("", ""), ("second", "s")]);
    let right = |group: &str, topic: &str, operation, is_deleted| DatabusRight {
        group: group.to_owned(),
        topic: topic.to_owned(),
        operation,
        batch: 0,
        is_deleted,
    };
    assert_eq!(
        found[0].rights,
        [right("group_name1", "test_156", 3, false)]
    );
    assert_eq!(found[2].rights, [right("g", "t", 0, true)]);
    let asked = redis.asked.lock().unwrap();
    assert!(asked.iter().filter(|command| command[0] == "HSCAN").count() > 8);
}

#[tokio::test]
async fn what_redis_refuses_is_told_without_the_password() {
    let redis = FakeRedis::with(Vec::new()).await;
    assert_eq!(read_redis(&redis.place(Some("p"))).await.expect("read"), []);
    let refused = read_redis(&redis.place(Some("hunter2")))
        .await
        .expect_err("refused");
    assert!(matches!(
        refused,
        RedisError::Refused {
            command: "AUTH",
            ..
        }
    ));
    let shown = format!("{refused} {refused:?} {:?}", redis.place(Some("hunter2")));
    assert!(!shown.contains("hunter2"), "{shown}");
    let mut nobody = redis.place(None);
    nobody.address = "127.0.0.1:1".to_owned();
    let error = read_redis(&nobody).await.expect_err("nobody listens");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_too_large_or_none_of_redis_is_an_error() {
    for answer in [
        "$99999999999\r\n",
        "*2\r\n$1\r\n0\r\n*99999999999\r\n",
        "*2\r\n$1\r\n0\r\n*-1\r\n",
        "*2\r\n$-1\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "*-1\r\n",
        "\r\n",
        "ü\r\n",
        "",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let place = RedisPlace {
            address: listener.local_addr().expect("an address").to_string(),
            database: 0,
            password: None,
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.write_all(answer.as_bytes()).await.expect("written");
            // The client may have gone already.
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        };
        let (read, ()) = tokio::join!(read_redis(&place), serve);
        read.expect_err(answer);
    }
}

/// More fields than one answer of Redis has, so that it is asked several times.
#[tokio::test]
async fn a_real_redis_gives_all_fields_and_says_what_it_refuses() {
    const RIGHTS: usize = 3_000;
    let start = || {
        let locked = Redis::start(&["--requirepass", "p"]);
        (locked.expect("Redis"), Redis::start(&[]).expect("Redis"))
    };
    let started = tokio::task::spawn_blocking(start).await;
    let (locked, open) = started.expect("no panic");
    let port = locked.address().port().to_string();
    // One argument of a program is 128 KiB at most.
    for part in (0..RIGHTS).collect::<Vec<_>>().chunks(1_000) {
        let mut commands =
            "auth p\nselect 3\nhset tb:apptb 7_AppKey shop 7_AppSecret s\n".to_owned();
        for number in part {
            commands.push_str(&format!(
                "hset tb:authtb {number}_AppId 7 {number}_Group g {number}_Operation 3 {number}_Topic t{number}\n"
            ));
        }
        let port = port.clone();
        let fill = move || redis_tool("redis-cli", &["-p", &port], &commands);
        let filled = tokio::task::spawn_blocking(fill).await.expect("no panic");
        filled.expect("filled");
    }
    let place = |redis: &Redis, password: Option<&str>| RedisPlace {
        address: redis.address().to_string(),
        database: 3,
        password: password.map(str::to_owned),
    };

    let found = read_redis(&place(&locked, Some("p"))).await.expect("read");
    assert_eq!((found.len(), &*found[0].key), (1, "shop"));
    let topics: std::collections::BTreeSet<_> =
        found[0].rights.iter().map(|right| &right.topic).collect();
    assert_eq!((found[0].rights.len(), topics.len()), (RIGHTS, RIGHTS));
    let nothing = read_redis(&place(&open, None)).await.expect("read");
    assert_eq!(nothing, []);
    for (redis, password, refused) in [
        (&locked, Some("wrong"), "AUTH"),
        (&locked, None, "SELECT"),
        (&open, Some("p"), "AUTH"),
    ] {
        let error = read_redis(&place(redis, password))
            .await
            .expect_err("refused");
        assert!(
            matches!(error, RedisError::Refused { command, .. } if command == refused),
            "{error}"
        );
    }
}
