//! Transactions of clients: all or nothing, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use cidfs::control::ErrorKind;
use cidfs::tree::mfs::{Change, Origin, Watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::control_journal::Journal;
use crate::mfs_support::dump;

async fn begin(journal: &Journal) -> Value {
    journal.good("begin", json!({})).await["transaction"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_staged_is_done_at_once_by_the_commit() {
    let journal = Journal::new().await;
    journal.write("/old", "old").await;
    let tx = begin(&journal).await;
    let stage = async |name: &str, mut params: Value| {
        params["transaction"] = tx.clone();
        journal.good(name, params).await
    };
    let before = dump(&journal.world.mfs).await;
    stage("mkdir", json!({"path": "/d/e", "parents": true})).await;
    stage("write", json!({"path": "/d/e/f", "text": "first"})).await;
    stage(
        "write",
        json!({"path": "/d/e/f", "text": "IR", "offset": 1}),
    )
    .await;
    stage("move", json!({"from": "/old", "to": "/d/moved"})).await;
    stage("symlink", json!({"path": "/d/l", "target": "moved"})).await;
    stage("metadata", json!({"path": "/d/e/f", "mode": "0640"})).await;
    let told = stage("remove", json!({"path": "/d/l"})).await;
    assert_eq!(told["staged"], 7);
    assert_eq!(
        dump(&journal.world.mfs).await,
        before,
        "nothing before the commit"
    );
    let pending = journal.entries(json!({"status": "pending"})).await;
    assert_eq!(pending.len(), 1);
    assert_eq!(
        (&pending[0]["operation_type"], &pending[0]["entry_id"]),
        (&json!("begin"), &tx)
    );
    let open = journal.good("status", json!({})).await["open_transactions"].clone();
    assert_eq!(
        (open[0]["transaction"].clone(), open[0]["staged"].clone()),
        (tx.clone(), json!(7))
    );
    journal.good("commit", json!({"transaction": tx})).await;
    assert_eq!(journal.read("/d/e/f").await, "fIRst");
    assert_eq!(journal.read("/d/moved").await, "old");
    let after = dump(&journal.world.mfs).await;
    let mine = journal
        .entries(json!({"transaction": tx, "order": "oldest"}))
        .await;
    assert!(
        mine.iter().all(|entry| entry["status"] == "completed"),
        "{mine:#?}"
    );
    let kinds: Vec<_> = mine
        .iter()
        .map(|one| one["operation_type"].as_str().unwrap())
        .collect();
    let wanted = [
        "begin", "mkdir", "mkdir", "create", "write", "write", "rename", "symlink", "metadata",
        "unlink", "commit",
    ];
    assert_eq!(kinds, wanted);
    let journal = journal.killed().await;
    assert_eq!(dump(&journal.world.mfs).await, after, "after a kill");
    let journal = journal.reopen().await;
    assert_eq!(dump(&journal.world.mfs).await, after, "after an end");
    let error = journal
        .call("commit", json!({"transaction": tx}))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_names_the_operation_and_leaves_no_trace() {
    let journal = Journal::new().await;
    journal.write("/dir/inner/file", "bytes").await;
    journal.write("/dir/second", "more").await;
    journal.good("checkpoint", json!({})).await;
    journal.write("/dir/inner/file", "dirty").await;
    let tx = begin(&journal).await;
    let stage = async |name: &str, mut params: Value| {
        params["transaction"] = tx.clone();
        journal.good(name, params).await;
    };
    stage("write", json!({"path": "/dir/new", "text": "x"})).await;
    stage("remove", json!({"path": "/dir", "recursive": true})).await;
    stage("mkdir", json!({"path": "/taken"})).await;
    // The tree moves on.
    journal.good("mkdir", json!({"path": "/taken"})).await;
    let before = dump(&journal.world.mfs).await;
    let error = journal
        .call("commit", json!({"transaction": tx}))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(
        error
            .message
            .contains("operation 2: mkdir /taken: file exists"),
        "{error}"
    );
    assert_eq!(dump(&journal.world.mfs).await, before, "in memory");
    let mine = journal
        .entries(json!({"transaction": tx, "order": "oldest"}))
        .await;
    let told: Vec<_> = mine
        .iter()
        .map(|one| {
            (
                one["operation_type"].as_str().unwrap(),
                one["status"].as_str().unwrap(),
            )
        })
        .collect();
    let wanted = [
        ("begin", "rolled_back"),
        ("mkdir", "failed"),
        ("rollback", "completed"),
    ];
    assert_eq!(told, wanted);
    assert_eq!(mine[1]["path"], "/taken");
    // Neither the checkpoint nor a recovery may know of what was taken back.
    let journal = journal.killed().await;
    assert_eq!(dump(&journal.world.mfs).await, before, "after a kill");
    let journal = journal.reopen().await;
    assert_eq!(dump(&journal.world.mfs).await, before, "after a checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_back_is_in_no_checkpoint() {
    let journal = Journal::new().await;
    journal.write("/dir/sub/file", "bytes").await;
    journal.good("checkpoint", json!({})).await;
    journal
        .write("/dir/sub/dirty", "since the checkpoint")
        .await;
    journal.good("mkdir", json!({"path": "/taken"})).await;
    let tx = begin(&journal).await;
    for (name, mut params) in [
        ("remove", json!({"path": "/dir", "recursive": true})),
        ("mkdir", json!({"path": "/taken"})),
    ] {
        params["transaction"] = tx.clone();
        journal.good(name, params).await;
    }
    let before = dump(&journal.world.mfs).await;
    journal
        .call("commit", json!({"transaction": tx}))
        .await
        .unwrap_err();
    // No kill in between: the checkpoint is of the same memory.
    journal.good("checkpoint", json!({})).await;
    let journal = journal.killed().await;
    assert_eq!(journal.world.mfs.recovery().entries_applied, 0);
    assert_eq!(dump(&journal.world.mfs).await, before);
    assert_eq!(journal.read("/dir/sub/dirty").await, "since the checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_commit_rolls_back() {
    let journal = Journal::new().await;
    let tx = begin(&journal).await;
    journal
        .good("mkdir", json!({"path": "/staged", "transaction": tx}))
        .await;
    let journal = journal.killed().await;
    assert_eq!(journal.world.mfs.recovery().rolled_back, 1);
    let entry = journal.good("entry", json!({"id": tx})).await;
    assert_eq!(
        (&entry["operation_type"], &entry["status"]),
        (&json!("begin"), &json!("rolled_back"))
    );
    assert!(
        journal
            .call("stat", json!({"path": "/staged"}))
            .await
            .is_err()
    );
    let error = journal
        .call("commit", json!({"transaction": tx}))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_ends_by_rollback_deadline_or_the_end_of_the_tree() {
    let journal = Journal::new().await;
    let given_up = begin(&journal).await;
    journal
        .good("rollback", json!({"transaction": given_up}))
        .await;
    let late = journal.good("begin", json!({"deadline_ms": 1})).await["transaction"].clone();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let error = journal
        .call("mkdir", json!({"path": "/x", "transaction": late}))
        .await;
    assert_eq!(error.unwrap_err().kind, ErrorKind::NotFound);
    let left = begin(&journal).await;
    let journal = journal.reopen().await;
    for id in [given_up, late, left] {
        let mine = journal
            .entries(json!({"transaction": id, "order": "oldest"}))
            .await;
        assert_eq!(mine.len(), 2, "{mine:#?}");
        assert_eq!(mine[0]["status"], "rolled_back");
        assert_eq!(mine[1]["operation_type"], "rollback");
    }
    assert_eq!(
        journal.world.mfs.recovery().rolled_back,
        0,
        "their end is in the journal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_limits() {
    let journal = Journal::new().await;
    for bad in [0, 3_600_001] {
        let error = journal
            .call("begin", json!({"deadline_ms": bad}))
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    for _ in 0..64 {
        begin(&journal).await;
    }
    let error = journal.call("begin", json!({})).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
}

/// Notes what it is told.
#[derive(Default)]
struct Noted(Mutex<Vec<Change>>);

impl Watcher for Noted {
    fn changed(&self, _: Origin, changes: &[Change]) {
        self.0.lock().extend_from_slice(changes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_hear_of_a_commit_before_it_returns_and_of_no_refused_one() {
    let journal = Journal::new().await;
    let noted = Arc::new(Noted::default());
    let watcher: Arc<dyn Watcher> = noted.clone();
    journal.world.mfs.watch(Arc::downgrade(&watcher));
    let tx = begin(&journal).await;
    for path in ["/a", "/b"] {
        journal
            .good("mkdir", json!({"path": path, "transaction": tx}))
            .await;
    }
    assert_eq!(noted.0.lock().len(), 0, "staged only");
    journal.good("commit", json!({"transaction": tx})).await;
    let names = |noted: &Noted| {
        let all = std::mem::take(&mut *noted.0.lock());
        let names = all.into_iter().filter_map(|change| match change {
            Change::Entry { name, .. } => Some(String::from_utf8(name.to_vec()).unwrap()),
            Change::Node { .. } => None,
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&noted), ["a", "b"]);
    let tx = begin(&journal).await;
    for path in ["/c", "/a"] {
        journal
            .good("mkdir", json!({"path": path, "transaction": tx}))
            .await;
    }
    journal
        .call("commit", json!({"transaction": tx}))
        .await
        .unwrap_err();
    assert_eq!(names(&noted), Vec::<String>::new());
}
