//! Names that are not UTF-8, and numbers that are too long for JSON, through control.

use cidfs::testing::dag::Dag;
use serde_json::{Value, json};

use crate::cli_support::Place;
use crate::control_world::World;

const TREE: &str = "/api/v0/mcp/fs-journal";

async fn names(world: &World) -> Vec<Value> {
    let (status, listed) = world.get(&format!("{TREE}/ls?path=/")).await;
    assert_eq!(status, 200, "{listed}");
    let name = |entry: &Value| match &entry["name_bytes"] {
        Value::Null => entry["name"].clone(),
        bytes => bytes.clone(),
    };
    let mut all: Vec<_> = listed["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(name)
        .collect();
    all.sort_by_key(ToString::to_string);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn percent_encoded_names_are_the_bytes_that_they_say() {
    let world = World::new(Dag::default());
    for name in ["caf%e9", "caf%ef%bf%bd", "caf%C3%A9", "a+b%2Bc"] {
        let (status, answer) = world.post(&format!("{TREE}/mkdir?path=/{name}"), "").await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    let all = [
        json!("a b+c"),
        json!("café"),
        json!("caf\u{fffd}"),
        json!("f636166e9"),
    ];
    assert_eq!(names(&world).await, all);
    let (status, answer) = world.post(&format!("{TREE}/remove?path=/caf%e8"), "").await;
    assert_eq!(status, 404, "{answer}");
    assert_eq!(names(&world).await, all, "another file is not removed");
    // The same name as JSON, and what tells about it.
    let odd = r#"{"path": {"bytes": "f2f636166e9"}}"#;
    let (_, told) = world.post(&format!("{TREE}/stat"), odd).await;
    assert_eq!(told["path_bytes"], "f2f636166e9", "{told}");
    let (status, _) = world.post(&format!("{TREE}/remove"), odd).await;
    assert_eq!(status, 200);
    assert_eq!(names(&world).await, all[..3]);
    // Where text is wanted nothing is put in the place of such bytes.
    for query in [
        "ipfs/stat?path=%e9",
        "fs-journal/transactions?operation=%e9",
    ] {
        let (status, answer) = world.get(&format!("/api/v0/mcp/{query}")).await;
        assert_eq!((status, &answer["error"]["kind"]), (400, &json!("invalid")));
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("UTF-8"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_listing_goes_on_is_text_that_no_program_rounds() {
    let world = World::new(Dag::default());
    for number in 0..5 {
        world
            .post(&format!("{TREE}/mkdir?path=/d{number}"), "")
            .await;
    }
    let (_, page) = world.get(&format!("{TREE}/ls?limit=2")).await;
    let cursor = page["cursor"].as_str().expect("a cursor is text");
    let number: u64 = cursor.parse().unwrap();
    let (_, by_query) = world
        .get(&format!("{TREE}/ls?limit=2&cursor={cursor}"))
        .await;
    for params in [
        json!({"limit": 2, "cursor": cursor}),
        json!({"limit": 2, "cursor": number}),
    ] {
        let (_, next) = world.post(&format!("{TREE}/ls"), &params.to_string()).await;
        assert_eq!(next["entries"], by_query["entries"], "{params}");
        assert_ne!(next["entries"], page["entries"]);
        assert_eq!(next["entries"].as_array().unwrap().len(), 2);
    }
    let (status, _) = world.get(&format!("{TREE}/ls?cursor=x")).await;
    assert_eq!(status, 400);
}

#[test]
fn commands_take_names_that_are_not_utf_8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for place in [Place::new(), Place::with_daemon()] {
        let run = |before: &[&str], names: &[&[u8]]| {
            let names = names.iter().map(|name| OsStr::from_bytes(name));
            let output = place.command().args(before).args(names).output().unwrap();
            assert!(output.status.success(), "{before:?}: {output:?}");
            output.stdout
        };
        run(&["tree", "mkdir"], &[b"/caf\xe9"]);
        // With bytes as the body the names go in the query string.
        run(&["tree", "write"], &[b"/caf\xe9/\xff &=+%", b"/dev/null"]);
        run(&["tree", "ln"], &[b"\xfe", b"/link"]);
        assert_eq!(run(&["tree", "read"], &[b"/caf\xe9/\xff &=+%"]), b"");
        let told: Value =
            serde_json::from_slice(&run(&["--json", "tree", "stat", "/link"], &[])).unwrap();
        assert_eq!(told["target_bytes"], "ffe");
        place.good(&["journal", "checkpoint"]);
        let kept: Value = serde_json::from_str(&place.good(&["--json", "snapshot", "ls"])).unwrap();
        let first = kept["snapshots"][0]["sequence"].to_string();
        run(&["tree", "rm", "-r"], &[b"/caf\xe9"]);
        run(&["snapshot", "restore", &first], &[b"/caf\xe9", b"/\xe8"]);
        run(&["tree", "ls"], &[b"/\xe8"]);
        let log = run(&["--json", "journal", "log", "--path"], &[b"/caf\xe9"]);
        let log: Value = serde_json::from_slice(&log).unwrap();
        assert!(log["transactions"].as_array().unwrap().len() >= 3, "{log}");
    }
}
