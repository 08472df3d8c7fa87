//! `final migrate`.

use crate::{
    database::{Database, Place},
    everywhere,
};

everywhere!(tables_are_checked_made_and_brought_to_this_release);

async fn tables_are_checked_made_and_brought_to_this_release<DB: Database>(at: Place<DB>) {
    at.run(["migrate"]).await.ends_with(4);
    let check = ["migrate", "--service", "shop", "--log", "--check", "--json"];
    let missing = at.run(check).await.ends_with(3).json();
    assert_eq!(
        (&missing[0]["service"], &missing[0]["state"]),
        (&"shop".into(), &"missing".into())
    );
    assert_eq!(
        (&missing[1]["service"], &missing[1]["state"]),
        (&serde_json::Value::Null, &"missing".into())
    );
    at.run(["migrate", "--service", "shop", "--log"])
        .await
        .ends_with(0);
    at.run(check).await.ends_with(0);
    at.run(["migrate", "--check"]).await.ends_with(0);

    at.sql("UPDATE final_migrations SET version = 1 WHERE table_name = 'final_shop_outbox'")
        .await;
    let older = at
        .run(["migrate", "--check", "--json"])
        .await
        .ends_with(3)
        .json();
    let shop = older
        .iter()
        .find(|line| line["service"] == "shop")
        .expect("the service");
    assert_eq!(
        (&shop["state"], &shop["found"]),
        (&"older".into(), &1.into())
    );
    at.run(["migrate"]).await.ends_with(0);
    at.run(["migrate", "--check"]).await.ends_with(0);

    // The statements are shown without a connection.
    let mut program = crate::program::program();
    let nowhere = at
        .url
        .rsplit_once('@')
        .map_or("sqlite:/no/such/file", |_| match &at.url[..1] {
            "p" => "postgres://u@127.0.0.1:1/d",
            _ => "mysql://u@127.0.0.1:1/d",
        });
    program.env("DATABASE_URL", nowhere);
    let sql = crate::program::run(
        &mut program,
        ["migrate", "--sql", "--service", "shop", "--log"],
    )
    .await;
    let sql = sql.ends_with(0);
    assert!(
        sql.out.contains("final_shop_outbox") && sql.out.contains("final_log"),
        "{sql:#?}"
    );
}
