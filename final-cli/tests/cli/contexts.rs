//! Which database is meant.

use final_tests::WorkDir;

use crate::program::{program, run};

struct Files {
    dir: WorkDir,
}

impl Files {
    /// Three SQLite files that are not there, and contexts for two of them.
    fn new() -> Self {
        let dir = WorkDir::new("contexts").expect("a folder");
        let path = |name| dir.join(name).display().to_string();
        dir.write("url", &format!("sqlite://{}\n", path("by-file.db")))
            .expect("a file");
        let contexts = format!(
            "[one]\ndatabase_url = \"sqlite://{}\"\n[two]\ndatabase_url_file = \"{}\"\n[none]\n",
            path("by-context.db"),
            path("url")
        );
        dir.write("contexts.toml", &contexts).expect("a file");
        Self { dir }
    }

    /// Runs `status` with `DATABASE_URL` and this; it fails, and its error names the file that it looked for.
    async fn looks_for(&self, context: Option<&str>, args: &[&str], name: &str) {
        let mut program = program();
        program.env(
            "DATABASE_URL",
            format!("sqlite://{}", self.dir.join("by-environment.db").display()),
        );
        program.env("FINAL_CONTEXTS", self.dir.join("contexts.toml"));
        if let Some(context) = context {
            program.env("FINAL_CONTEXT", context);
        }
        let ran = run(&mut program, ["status"].iter().chain(args))
            .await
            .ends_with(1);
        assert!(ran.err.contains(name), "{ran:#?}");
    }
}

#[tokio::test]
async fn the_command_line_goes_before_the_context_and_that_before_the_environment() {
    let files = Files::new();
    let argument = format!("sqlite://{}", files.dir.join("by-argument.db").display());
    files.looks_for(None, &[], "by-environment.db").await;
    files.looks_for(Some("one"), &[], "by-context.db").await;
    files
        .looks_for(Some("one"), &["--context", "two"], "by-file.db")
        .await;
    files
        .looks_for(
            Some("one"),
            &["--database-url", &argument],
            "by-argument.db",
        )
        .await;
}

#[tokio::test]
async fn a_database_that_is_not_named_is_a_mistake_of_the_command_line() {
    let files = Files::new();
    let ran = run(&mut program(), ["status"]).await.ends_with(2);
    assert!(
        ran.err.contains("--database-url") && ran.err.contains("DATABASE_URL"),
        "{ran:#?}"
    );
    let contexts = files.dir.join("contexts.toml");
    let ran = run(
        program().env("FINAL_CONTEXTS", &contexts),
        ["status", "--context", "three"],
    )
    .await;
    assert!(ran.ends_with(2).err.contains("it has: none, one, two"));
    let ran = run(
        program().env("FINAL_CONTEXTS", &contexts),
        ["status", "--context", "none"],
    )
    .await;
    assert!(ran.ends_with(2).err.contains("`database_url`"));
    let ran = run(
        program().env("FINAL_CONTEXTS", "/no/such/file"),
        ["status", "--context", "one"],
    )
    .await;
    assert!(ran.ends_with(2).err.contains("/no/such/file"));
}
