//! A full disk: no order is stored, the answers say so, and the service is not ready. The service recovers by itself
//! when there is room again. The embedded store gets a limit on the length of its files, and Postgres a trigger that
//! raises the error of a full disk.

use std::path::Path;

use tempfile::TempDir;
use tokio::process::Command;

use crate::clients::USER;
use crate::clients::answers::{create, problem};
use crate::clients::http::{Answer, Client};
use crate::harness::app::TestApp;
use crate::harness::child::{Child, command};
use crate::harness::wait::{until, within};

/// The longest file while the disk is full, in bytes.
const FULL: usize = 2 << 20;

/// An order of about that many bytes.
fn large(bytes: usize) -> String {
    format!(r#"{{"user_id":"{USER}","payload":{{"amount":1,"text":"{}"}}}}"#, "x".repeat(bytes))
}

/// Starts the program with a limit of [`FULL`] on the length of its files. A write beyond the limit fails in the
/// middle, as on a full disk; setting and raising the limit needs no privileges.
async fn on_a_small_disk(folder: &Path) -> Child {
    let mut command = command("bash", folder);
    let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$0\" up", FULL / 1024);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_orderstream")]);
    Child::start(command).await
}

async fn make_room(child: &Child) {
    let pid = child.id().to_string();
    let made = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().await;
    assert!(made.expect("prlimit is installed").success());
}

/// Writes until the disk is full, and returns the first failed answer.
async fn fill(client: &Client) -> Answer {
    for _ in 0..100 {
        let answer = client.post("/orders", large(200 << 10)).await;
        if answer.status != 201 {
            return answer;
        }
    }
    panic!("the disk is never full");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stores_nothing_and_the_service_recovers_when_there_is_room() {
    let folder = TempDir::new().unwrap();
    let child = on_a_small_disk(folder.path()).await;
    let client = Client::new(child.address());
    let id = create(&client, r#"{"id":"before","amount":1}"#).await;
    problem(&fill(&client).await, "store_unavailable");
    until("a service that is not ready", async || {
        (client.get("/health/ready").await.status == 503).then_some(())
    })
    .await;
    // The service stays unready: a small order may fit, which does not show that a large one does.
    problem(&client.post("/orders", large(900 << 10)).await, "store_unavailable");
    let ready = client.get("/health/ready").await;
    assert_eq!((ready.status, ready.json()["store"].as_str()), (503, Some("not available")));
    assert_eq!(client.get("/health/live").await.status, 200);
    assert_eq!(client.get(&format!("/orders/{id}")).await.status, 200);
    make_room(&child).await;
    // No client writes meanwhile.
    until("a service that is ready", async || {
        (client.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(client.post("/orders", large(900 << 10)).await.status, 201);
    child.stop().await;
    let mut checker = command(env!("CARGO_BIN_EXE_orderstream"), folder.path());
    let checked = within("the checker", checker.args(["verify", "--idle"]).output()).await.unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}

#[tokio::test]
async fn a_postgres_with_a_full_disk_stores_nothing_and_recovers() {
    let app = TestApp::embedded().start_on_postgres().await;
    let id = create(&app.client, r#"{"amount":1}"#).await;
    app.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
         CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION full_disk()",
    )
    .await;
    problem(&app.client.post("/orders", large(10)).await, "store_unavailable");
    let update = format!(r#"{{"order_id":"{id}","payload":[1]}}"#);
    problem(&app.client.post("/orders", update).await, "store_unavailable");
    app.execute("DROP TRIGGER full_disk ON orders").await;
    until("a service that is ready", async || {
        (app.client.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
    create(&app.client, r#"{"amount":1}"#).await;
    app.finish().await;
}
