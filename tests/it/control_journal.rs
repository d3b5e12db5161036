//! The journal through control: entries, filters, pages, export, follow, checks.

use std::sync::Arc;

use cidfs::control::{Call, Context, OperationError, Output, Registry};
use cidfs::tree::mfs::{Mfs, MfsOptions, NodeId, Parts};
use cidfs::unixfs::Reader;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::control_world::{Ended, context_over};
use crate::mfs_support::{self, World};

/// A tree in a repository, with the operations on it.
pub(crate) struct Journal {
    pub(crate) world: World,
    pub(crate) context: Arc<Context>,
    registry: Registry,
}

impl Journal {
    pub(crate) async fn new() -> Self {
        Self::over(World::new().await)
    }

    fn over(world: World) -> Self {
        let reader = Reader::new(world.blocks.clone());
        let (blocks, mfs) = (world.blocks.clone(), world.mfs.clone());
        let repo = world.place.dir.path().to_owned();
        let context = context_over(repo, blocks, mfs, reader, Arc::new(Ended::default()));
        Self {
            world,
            context,
            registry: Registry::standard(),
        }
    }

    /// Opens it again without any end, as after a kill.
    pub(crate) async fn killed(self) -> Self {
        drop(self.context);
        Self::over(self.world.killed().await)
    }

    pub(crate) async fn reopen(self) -> Self {
        drop(self.context);
        Self::over(self.world.reopen().await)
    }

    pub(crate) async fn call(&self, name: &str, params: Value) -> Result<Value, OperationError> {
        self.send(name, Call::with(params)).await
    }

    pub(crate) async fn send(&self, name: &str, call: Call) -> Result<Value, OperationError> {
        let name = format!("fs-journal/{name}");
        match self
            .registry
            .call(self.context.clone(), &name, call)
            .await?
        {
            Output::Json(value) => Ok(value),
            Output::Bytes { mut stream, .. } => {
                let mut all = Vec::new();
                while let Some(piece) = stream.next().await {
                    all.extend_from_slice(&piece?);
                }
                Ok(Value::String(String::from_utf8(all).unwrap()))
            }
        }
    }

    /// What must go well.
    pub(crate) async fn good(&self, name: &str, params: Value) -> Value {
        let told = self.call(name, params.clone()).await;
        told.unwrap_or_else(|error| panic!("{name} {params}: {error}"))
    }

    pub(crate) async fn write(&self, path: &str, text: &str) -> Value {
        self.good(
            "write",
            json!({"path": path, "text": text, "parents": true}),
        )
        .await
    }

    pub(crate) async fn read(&self, path: &str) -> String {
        self.good("read", json!({"path": path}))
            .await
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) async fn entries(&self, params: Value) -> Vec<Value> {
        let found = self.good("transactions", params).await;
        found["transactions"].as_array().unwrap().clone()
    }

    /// The kinds and paths of entries.
    pub(crate) async fn brief(&self, params: Value) -> Vec<String> {
        let entries = self.entries(params).await;
        let path = |entry: &Value| entry["path"].as_str().unwrap_or("-").to_owned();
        let brief = |entry: &Value| {
            format!(
                "{} {}",
                entry["operation_type"].as_str().unwrap(),
                path(entry)
            )
        };
        entries.iter().map(brief).collect()
    }
}

async fn some_history() -> Journal {
    let journal = Journal::new().await;
    journal
        .good("mkdir", json!({"path": "/a/b", "parents": true}))
        .await;
    journal.write("/a/b/file", "hello").await;
    journal
        .good("move", json!({"from": "/a/b/file", "to": "/moved"}))
        .await;
    journal
        .good("symlink", json!({"path": "/link", "target": "moved"}))
        .await;
    journal
        .good("metadata", json!({"path": "/moved", "mode": "0600"}))
        .await;
    journal
        .good("remove", json!({"path": "/a", "recursive": true}))
        .await;
    journal.good("checkpoint", json!({})).await;
    journal
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_say_what_happened_from_either_end() {
    let journal = some_history().await;
    let wanted = [
        "metadata /",
        "mkdir /a",
        "mkdir /a/b",
        "commit -",
        "create /a/b/file",
        "write /a/b/file",
        "commit -",
        "rename /a/b/file",
        "symlink /link",
        "metadata /moved",
        "rmdir /a/b",
        "rmdir /a",
        "commit -",
        "checkpoint /",
    ];
    let oldest = journal.brief(json!({"order": "oldest"})).await;
    assert_eq!(oldest, wanted);
    let mut newest = journal.brief(json!({})).await;
    newest.reverse();
    assert_eq!(newest, wanted);
    let all = journal.entries(json!({"order": "oldest"})).await;
    for (id, entry) in (1..).zip(&all) {
        assert_eq!(entry["entry_id"], id);
        assert_eq!(entry["status"], "completed");
        assert_eq!(&journal.good("entry", json!({"id": id})).await, entry);
    }
    assert_eq!(
        all[4]["transaction_id"], 5,
        "what belongs together is called after its first"
    );
    assert_eq!(all[5]["transaction_id"], 5);
    assert_eq!(all[7]["transaction_id"], 8);
    assert_eq!(all[7]["to"], "/moved");
    assert_eq!(all[5]["data"]["length"], 5);
    assert_eq!(all[8]["data"]["target"], "moved");
    assert_eq!(all[9]["data"], json!({"mode": "0600"}));
    let time = all[0]["timestamp"].as_str().unwrap();
    assert!(time.len() == 30 && time.ends_with('Z'), "{time}");
    let error = journal.call("entry", json!({"id": 999})).await.unwrap_err();
    assert_eq!(error.kind.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_entries() {
    let journal = some_history().await;
    let all = journal.entries(json!({"order": "oldest"})).await;
    let time = all[7]["timestamp"].clone();
    for (filter, wanted) in [
        (
            json!({"operation": ["symlink", "rename"]}),
            vec!["rename /a/b/file", "symlink /link"],
        ),
        (
            json!({"path": "/moved"}),
            vec!["rename /a/b/file", "metadata /moved"],
        ),
        (
            json!({"path": "a/b", "operation": ["mkdir", "rmdir"]}),
            vec!["mkdir /a/b", "rmdir /a/b"],
        ),
        (json!({"since": 8, "before": 10}), vec!["symlink /link"]),
        (
            json!({"transaction": 5}),
            vec!["create /a/b/file", "write /a/b/file", "commit -"],
        ),
        (json!({"transaction": 9}), vec!["symlink /link"]),
        (json!({"status": "failed"}), vec![]),
        (json!({"status": "pending"}), vec![]),
        (
            json!({"until": time, "operation": ["rename", "create"]}),
            vec!["create /a/b/file"],
        ),
        (
            json!({"from": time, "operation": ["rename", "create"]}),
            vec!["rename /a/b/file"],
        ),
        (json!({"from": "2099-01-01"}), vec![]),
    ] {
        for order in ["oldest", "newest"] {
            let mut params = filter.clone();
            params["order"] = order.into();
            let mut found = journal.brief(params).await;
            if order == "newest" {
                found.reverse();
            }
            assert_eq!(found, wanted, "{order} {filter}");
        }
    }
    for bad in [
        json!({"order": "up"}),
        json!({"limit": 0}),
        json!({"status": "x"}),
        json!({"operation": ["x"]}),
        json!({"from": "x"}),
        json!({"unknown": 1}),
    ] {
        let error = journal.call("transactions", bad.clone()).await.unwrap_err();
        assert_eq!(error.kind.status(), 400, "{bad}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_join_without_gaps_or_repeats() {
    let journal = Journal::new().await;
    for number in 0..40 {
        journal
            .good("mkdir", json!({"path": format!("/dir{number}")}))
            .await;
    }
    for (order, filter) in [
        ("newest", json!({})),
        ("oldest", json!({})),
        ("newest", json!({"operation": ["mkdir"]})),
        ("oldest", json!({"operation": ["mkdir"]})),
    ] {
        for limit in [1, 7, 40, 41] {
            let (mut ids, mut cursor) = (Vec::new(), Value::Null);
            loop {
                let mut params = filter.clone();
                params["order"] = order.into();
                params["limit"] = limit.into();
                params["cursor"] = cursor;
                let page = journal.good("transactions", params).await;
                let entries = page["transactions"].as_array().unwrap();
                ids.extend(
                    entries
                        .iter()
                        .map(|entry| entry["entry_id"].as_u64().unwrap()),
                );
                cursor = page["cursor"].clone();
                if cursor.is_null() {
                    break;
                }
            }
            let first = if filter == json!({}) { 1 } else { 2 };
            let mut wanted: Vec<u64> = (first..=41).collect();
            if order == "newest" {
                wanted.reverse();
            }
            assert_eq!(ids, wanted, "{order} {filter} by {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn export_gives_every_entry_as_a_line() {
    let journal = some_history().await;
    let lines = journal.good("export", json!({})).await;
    let exported: Vec<Value> = lines
        .as_str()
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(exported, journal.entries(json!({"order": "oldest"})).await);
    let some = journal
        .good("export", json!({"operation": ["mkdir"], "limit": 1}))
        .await;
    assert_eq!(some.as_str().unwrap().lines().count(), 1);
    assert!(
        !lines.as_str().unwrap().contains("hello"),
        "never the bytes of a file"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_entries_as_they_come() {
    let journal = some_history().await;
    let params = json!({"operation": ["mkdir"]});
    let call = Call::with(params);
    let output = journal
        .registry
        .call(journal.context.clone(), "fs-journal/follow", call)
        .await;
    let Ok(Output::Bytes { mut stream, .. }) = output else {
        panic!("bytes")
    };
    let next = async |stream: &mut cidfs::control::ByteStream| {
        let piece = tokio::time::timeout(std::time::Duration::from_secs(10), stream.next());
        piece.await.expect("in time").map(|piece| piece.unwrap())
    };
    for path in ["/one", "/two"] {
        journal.write("/other", path).await;
        journal.good("mkdir", json!({"path": path})).await;
        let line = next(&mut stream).await.unwrap();
        let entry: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (&entry["operation_type"], &entry["path"]),
            (&json!("mkdir"), &json!(path))
        );
    }
    journal.world.mfs.begin_close();
    assert_eq!(next(&mut stream).await, None, "it ends with the tree");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_empty_page_is_behind_the_last_entry() {
    let journal = some_history().await;
    let all = journal.entries(json!({})).await.len();
    for order in ["oldest", "newest"] {
        let page = json!({"limit": all, "order": order});
        let found = journal.good("transactions", page).await;
        assert_eq!(found["cursor"], Value::Null, "{order}");
        let page = json!({"limit": all - 1, "order": order});
        let found = journal.good("transactions", page).await;
        assert!(found["cursor"].is_u64(), "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_followed_ends_where_nothing_that_comes_can_match() {
    let journal = some_history().await;
    for (params, count) in [
        (json!({"since": 1, "before": 4}), 2),
        (json!({"before": 4}), 0),
        (json!({"since": 0, "until": "1"}), 0),
        (json!({"since": 2, "before": 5, "operation": ["rename"]}), 0),
    ] {
        let told = journal.good("follow", params.clone());
        let told = tokio::time::timeout(std::time::Duration::from_secs(10), told);
        let told = told.await.unwrap_or_else(|_| panic!("{params} goes on"));
        assert_eq!(told.as_str().unwrap().lines().count(), count, "{params}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_monitor_tell_figures() {
    let journal = some_history().await;
    let status = journal.good("status", json!({})).await;
    assert_eq!(status["journal"]["last"], 14);
    assert_eq!(status["checkpoint"]["sequence"], 13);
    assert_eq!(status["changes"], 0);
    assert_eq!(status["stopped"], Value::Null);
    let well = journal.good("monitor", json!({"disk_free_min": 0})).await;
    assert_eq!(well["healthy"], true, "{well}");
    journal.write("/more", "x").await;
    let unwell = journal
        .good("monitor", json!({"changes_max": 1, "disk_free_min": 0}))
        .await;
    assert_eq!(unwell["healthy"], false);
    let bad: Vec<_> = unwell["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["ok"] == false)
        .collect();
    assert_eq!(bad.len(), 1, "{unwell}");
    assert_eq!(bad[0]["name"], "changes");
    let would = journal.good("recover", json!({"dry_run": true})).await;
    assert_eq!(would["checkpoint"], 13);
    assert_eq!(
        (&would["entries_seen"], &would["entries_applied"]),
        (&json!(4), &json!(2))
    );
}

/// What is needed to look at a tree that is not open.
async fn parts(journal: &Journal) -> Parts {
    let disk: Arc<dyn cidfs::disk::Disk> = Arc::new(cidfs::disk::RealDisk);
    Parts {
        journal_dir: journal.world.place.path("journal"),
        disk,
        clock: Arc::new(cidfs::clock::SystemClock),
        blocks: journal.world.blocks.clone(),
        reader: Reader::new(journal.world.blocks.clone()),
    }
}

/// The place of the text in the only segment of the journal.
fn flip(journal: &Journal, text: &[u8]) {
    let segments = crate::store_support::files(&journal.world.place.path("journal"));
    let path = segments.iter().find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('0') && name.ends_with(".seg")
    });
    let path = path.unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_damaged_inside_is_explained_and_set_aside() {
    let journal = Journal::new().await;
    journal.write("/kept", "kept").await;
    journal.good("mkdir", json!({"path": "/lost"})).await;
    journal.good("mkdir", json!({"path": "/behind"})).await;
    journal.world.mfs.sync().unwrap();
    // Frames after the sync say that the ones before survive.
    journal.good("mkdir", json!({"path": "/last"})).await;
    let clean = journal.good("fsck", json!({})).await;
    assert_eq!(clean["problems"], json!([]), "{clean}");
    let parts = parts(&journal).await;
    flip(&journal, b"/lost");
    let journal = journal.killed().await;
    let refused = journal
        .call("mkdir", json!({"path": "/new"}))
        .await
        .unwrap_err();
    assert_eq!(refused.kind.status(), 403, "read-only: {refused}");
    assert_eq!(journal.read("/kept").await, "kept");
    let verified = journal.good("verify", json!({})).await;
    assert_eq!(verified["clean"], false);
    let report = journal.good("fsck", json!({})).await;
    assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report}");
    assert!(
        report["lost"][0].as_str().unwrap().contains("from entry"),
        "{report}"
    );

    // Set aside while it is not open.
    let Journal { world, context, .. } = journal;
    let World {
        place,
        blocks,
        mfs,
        options,
    } = world;
    drop((mfs, context));
    let parts = Parts {
        blocks: blocks.clone(),
        reader: Reader::new(blocks.clone()),
        ..parts
    };
    let mut found = Mfs::inspect_closed(&parts, 16, &|_| ()).await.unwrap();
    Mfs::mend(&parts, &mut found).await.unwrap();
    assert_eq!(found.repaired.len(), 1, "{found:?}");
    let aside = crate::store_support::files(&place.path("journal"));
    assert!(
        aside
            .iter()
            .any(|path| path.to_str().unwrap().contains(".damaged-")),
        "{aside:?}"
    );
    blocks.close();
    drop((blocks, parts));
    let disk = Arc::new(cidfs::disk::RealDisk);
    let (blocks, mfs) = mfs_support::open(&place, &options, disk).await;
    let journal = Journal::over(World {
        place,
        blocks,
        mfs,
        options,
    });
    assert_eq!(journal.read("/kept").await, "kept");
    journal.good("mkdir", json!({"path": "/new"})).await;
    assert_eq!(journal.good("fsck", json!({})).await["problems"], json!([]));
    let journal = journal.killed().await;
    let names = journal.good("ls", json!({})).await;
    let names: Vec<_> = names["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["name"])
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_checkpoint_costs_only_history() {
    let journal = some_history().await;
    journal.good("mkdir", json!({"path": "/after"})).await;
    flip(&journal, b"/a/b/file");
    let journal = journal.killed().await;
    assert_eq!(journal.read("/moved").await, "hello");
    journal.good("mkdir", json!({"path": "/new"})).await;
    let report = journal.good("fsck", json!({})).await;
    assert_eq!(report["problems"], json!([]), "{report}");
    assert_eq!(report["lost"], json!([]), "{report}");
    let notice = report["notices"][0].as_str().unwrap();
    assert!(notice.contains("only the log"), "{report}");
    let listed = journal.good("transactions", json!({})).await;
    assert_eq!(listed["damage"].as_array().unwrap().len(), 1, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_keeps_what_the_tree_and_its_snapshots_have() {
    let journal = Journal::new().await;
    let big = "x".repeat(3 << 20);
    journal.write("/kept", &big).await;
    journal.write("/snapshot", &format!("{big}y")).await;
    journal.good("checkpoint", json!({})).await;
    journal.good("remove", json!({"path": "/snapshot"})).await;
    journal.write("/fresh", &format!("{big}z")).await;
    let call = Call::with(json!({}));
    let collected = journal
        .registry
        .call(journal.context.clone(), "cache/gc", call)
        .await;
    let Ok(Output::Json(report)) = collected else {
        panic!("a report")
    };
    assert_eq!(report["missing_blocks"], 0, "{report}");
    let journal = journal.killed().await;
    assert_eq!(journal.read("/kept").await, big);
    assert_eq!(journal.read("/fresh").await.len(), big.len() + 1);
    let kept = journal.good("snapshots/list", json!({})).await;
    let first = kept["snapshots"].as_array().unwrap().last().unwrap()["sequence"].clone();
    let params = json!({"snapshot": first.to_string(), "path": "/snapshot"});
    journal.good("snapshots/restore", params).await;
    assert_eq!(journal.read("/snapshot").await.len(), big.len() + 1);
    assert_eq!(journal.world.mfs.recovery().errors, Vec::<String>::new());
    assert!(journal.world.mfs.attr(NodeId::ROOT).is_ok());
    let _ = MfsOptions::default();
}
