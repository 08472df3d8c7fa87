//! `final gateway apps`: apps and rights, and those of databus.

use final_gateway::rights::{Operation, Rights};
use serde_json::{Value, json};
use sqlx::MySql;

use crate::{
    database::{Database, Place},
    everywhere,
    program::{Ran, run},
};

everywhere!(
    an_app_is_created_allowed_rotated_disabled_and_removed,
    rights_of_databus_are_taken_over_from_mariadb_once,
);

async fn apps<DB: Database>(at: &Place<DB>, words: &[&str]) -> Ran {
    at.run(["gateway", "apps"].iter().chain(words)).await
}

async fn list<DB: Database>(at: &Place<DB>) -> Vec<Value> {
    apps(at, &["list", "--json"]).await.ends_with(0).json()
}

/// Whether the gateway lets somebody in.
async fn knows<DB: Database>(at: &Place<DB>, key: &str, secret: &str) -> bool {
    let rights = Rights::tables(at.pool.clone());
    rights.read().await.expect("read");
    rights
        .authenticate(None, key, secret.as_bytes())
        .await
        .is_ok()
}

async fn an_app_is_created_allowed_rotated_disabled_and_removed<DB: Database>(at: Place<DB>) {
    apps(&at, &["list"]).await.ends_with(4);
    let missing = apps(&at, &["disable", "billing"]).await.ends_with(1);
    assert!(
        missing.err.contains("final gateway apps create"),
        "{missing:#?}"
    );

    // The secret alone, for a script.
    let created = apps(&at, &["create", "billing", "--connections", "7"])
        .await
        .ends_with(0);
    let secret = created.out.strip_suffix('\n').expect("a line");
    assert_eq!(secret.len(), 43, "{created:#?}");
    assert!(!created.err.contains(secret) && knows(&at, "billing", secret).await);
    apps(&at, &["create", "billing"]).await.ends_with(2);
    apps(&at, &["create", "a:b"]).await.ends_with(2);

    let right = ["--group", "billing", "--topic", "order.*"];
    let allow = ["allow", "billing"].iter().chain(&right).copied();
    let allow: Vec<&str> = allow.chain(["--subscribe", "--batch", "50"]).collect();
    apps(&at, &allow).await.ends_with(0);
    let publish = [
        "allow",
        "billing",
        "--topic",
        "*",
        "--publish",
        "--publishes-per-second",
        "9",
    ];
    apps(&at, &publish).await.ends_with(0);
    for wrong in [
        ["allow", "nobody", "--topic", "t", "--publish"],
        ["allow", "billing", "--topic", "a*b", "--publish"],
        ["revoke", "billing", "--topic", "order.placed", "--publish"],
    ] {
        apps(&at, &wrong).await.ends_with(2);
    }
    // A right to consume in every group has to be meant.
    for operations in [&[][..], &["--subscribe"], &["--publish", "--subscribe"]] {
        let allow = [&["allow", "billing", "--topic", "t"], operations].concat();
        let refused = apps(&at, &allow).await.ends_with(2);
        assert!(refused.err.contains("--group"), "{refused:#?}");
        let meant = [&allow[..], &["--group", "*"]].concat();
        apps(&at, &meant).await.ends_with(0);
        let revoke = ["revoke", "billing", "--topic", "t"];
        apps(&at, &revoke).await.ends_with(0);
    }

    let [app] = &list(&at).await[..] else {
        panic!("one app")
    };
    assert_eq!(
        (&app["kind"], &app["app"]),
        (&json!("app"), &json!("billing"))
    );
    assert_eq!(
        (&app["enabled"], &app["connections"]),
        (&json!(true), &json!(7))
    );
    assert_eq!(app["secret_kind"], "sha256");
    let of = |group: &str, topic: &str, publish: bool, batch: Option<u32>, limit: Option<u32>| {
        json!({
            "group": group, "topic": topic, "publish": publish, "subscribe": !publish, "batch": batch,
            "publishes_per_second": limit, "deliveries_per_second": null,
        })
    };
    assert_eq!(
        app["rights"],
        json!([
            of("*", "*", true, None, Some(9)),
            of("billing", "order.*", false, Some(50), None)
        ])
    );
    let person = apps(&at, &["list", "billing"]).await.ends_with(0).out;
    assert!(
        person.contains("order.*") && person.contains("subscribe"),
        "{person}"
    );
    apps(&at, &["list", "nobody"]).await.ends_with(4);

    apps(&at, &["revoke", "billing", "--topic", "*", "--publish"])
        .await
        .ends_with(0);
    assert_eq!(
        list(&at).await[0]["rights"].as_array().map(Vec::len),
        Some(1)
    );
    let limited = [
        "limit",
        "billing",
        "--deliveries-per-second",
        "3",
        "--open-pairs",
        "9",
        "--json",
    ];
    let limited = apps(&at, &limited).await.ends_with(0).json();
    assert_eq!(
        (
            &limited[0]["connections"],
            &limited[0]["deliveries_per_second"],
            &limited[0]["open_pairs"]
        ),
        (&Value::Null, &json!(3), &json!(9))
    );

    let rotated = apps(&at, &["rotate", "billing", "--overlap", "1h", "--json"]).await;
    let rotated = rotated.ends_with(0).json();
    assert_eq!(rotated[0]["kind"], "app_secret");
    let second = rotated[0]["secret"].as_str().expect("a secret");
    assert!(knows(&at, "billing", secret).await && knows(&at, "billing", second).await);
    assert!(list(&at).await[0]["old_secret_until"].is_string());
    let third = apps(&at, &["rotate", "billing", "--overlap", "0s"])
        .await
        .ends_with(0);
    assert!(knows(&at, "billing", third.out.trim()).await && !knows(&at, "billing", second).await);

    apps(&at, &["disable", "billing"]).await.ends_with(0);
    assert_eq!(list(&at).await[0]["enabled"], false);
    assert!(!knows(&at, "billing", third.out.trim()).await);
    apps(&at, &["enable", "billing"]).await.ends_with(0);
    assert!(knows(&at, "billing", third.out.trim()).await);
    apps(&at, &["remove", "billing"]).await.ends_with(5);
    apps(&at, &["remove", "billing", "--yes"])
        .await
        .ends_with(0);
    apps(&at, &["list"]).await.ends_with(4);
}

async fn rights_of_databus_are_taken_over_from_mariadb_once<DB: Database>(at: Place<DB>) {
    const SECRET: &str = "app_secret1";
    let databus = Place::<MySql>::fresh().await;
    for statement in [
        "CREATE TABLE app_tb (id INT NOT NULL AUTO_INCREMENT, app_key VARCHAR(45) NOT NULL, app_secret VARCHAR(64) \
         NOT NULL, cluster VARCHAR(45) NOT NULL, created_at BIGINT(20) NULL, deleted_at BIGINT(20) NULL, updated_at \
         BIGINT(20) NULL, PRIMARY KEY (id))",
        "CREATE TABLE auth_tb (id INT NOT NULL AUTO_INCREMENT, app_id INT(11) NOT NULL, group_name VARCHAR(45) NULL, \
         operation TINYINT(4) DEFAULT 0, topic VARCHAR(45) NOT NULL, created_at BIGINT(20) NULL, deleted_at \
         BIGINT(20) NULL, updated_at BIGINT(20) NULL, PRIMARY KEY (id))",
        "INSERT INTO app_tb (id, app_key, app_secret, cluster, deleted_at) VALUES (1, 'app_key1', 'app_secret1', 'c', \
         NULL), (2, 'gone', 'gone_secret', 'c', 1600000000)",
        "INSERT INTO auth_tb (app_id, group_name, operation, topic, deleted_at) VALUES (1, 'group_name1', 3, \
         'test156', NULL), (1, 'group_name1', 3, 'removed', 1600000000), (2, 'group_name1', 3, 'test156', NULL)",
    ] {
        databus.sql(statement).await;
    }
    let import = async |words: &[&str]| {
        let mut program = at.program();
        program.env("DATABUS_DATABASE_URL", &databus.url);
        let all = ["gateway", "apps", "import-databus"].iter().chain(words);
        let ran = run(&mut program, all).await;
        assert!(!ran.all().contains("_secret"), "{ran:#?}");
        ran
    };

    let plan = import(&["--dry-run", "--json"]).await.ends_with(0).json();
    let kinds: Vec<&str> = plan
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    let [step, skipped, end] = ["databus_step", "databus_skipped", "databus_import"];
    assert_eq!(kinds, [step, step, skipped, skipped, end]);
    assert_eq!(
        (&plan[4]["apps"], &plan[4]["rights"], &plan[4]["done"]),
        (&json!(1), &json!(1), &json!(false))
    );
    apps(&at, &["list"]).await.ends_with(4);
    import(&[]).await.ends_with(5);

    let done = import(&["--yes"]).await.ends_with(0);
    assert!(
        done.out.contains("1 app(s) and 1 right(s) taken over"),
        "{done:#?}"
    );
    assert!(knows(&at, "app_key1", SECRET).await && !knows(&at, "gone", "gone_secret").await);
    let rights = Rights::tables(at.pool.clone());
    rights.read().await.expect("read");
    let app = rights
        .authenticate(None, "app_key1", SECRET.as_bytes())
        .await
        .expect("let in");
    assert_eq!(
        app.may(Operation::Publish, Some("group_name1"), "test156"),
        Ok(())
    );
    app.may(Operation::Publish, Some("group_name1"), "removed")
        .expect_err("deleted");

    let again = import(&["--yes"]).await.ends_with(4);
    assert!(again.out.contains("2 here already"), "{again:#?}");
    assert_eq!(list(&at).await.len(), 1);
    // Where there is nothing of databus it says so.
    let none = apps(&at, &["import-databus", "--yes"]).await.ends_with(2);
    assert!(none.err.contains("app_tb"), "{none:#?}");
    let nobody = apps(&at, &["import-databus", "--redis", "127.0.0.1:1"])
        .await
        .ends_with(1);
    assert!(nobody.err.contains("127.0.0.1:1"), "{nobody:#?}");
}
