//! The writable tree by path through control, and its snapshots.

use std::sync::Arc;

use cidfs::control::{Call, ErrorKind};
use cidfs::tree::mfs::{New, NodeId, SetAttr, XattrMode};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::control_journal::Journal;
use crate::mfs_support::{ME, dump};

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_read_and_listed() {
    let journal = Journal::new().await;
    let told = journal.write("/a/file", "hello").await;
    // As `ipfs add` of these bytes under the profile.
    let cid = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq";
    assert_eq!((&told["size"], &told["cid"]), (&json!(5), &json!(cid)));
    assert_eq!(
        journal.good("stat", json!({"path": "/a/file"})).await["cid"],
        cid
    );
    journal
        .good(
            "write",
            json!({"path": "/a/file", "text": " world", "append": true}),
        )
        .await;
    assert_eq!(journal.read("/a/file").await, "hello world");
    let part = journal
        .good("read", json!({"path": "/a/file", "offset": 6, "length": 3}))
        .await;
    assert_eq!(part, "wor");
    journal.write("/a/file", "short").await;
    assert_eq!(
        journal.read("/a/file").await,
        "short",
        "replaced as a whole"
    );
    journal.write("/a/file", "").await;
    assert_eq!(journal.read("/a/file").await, "");
    let pieces = [vec![b'x'; 700_000], vec![b'y'; 700_000]];
    let pieces = pieces.map(|piece| Ok(bytes::Bytes::from(piece)));
    let call = Call {
        body: Some(stream::iter(pieces).boxed()),
        ..Call::with(json!({"path": "/a/big", "mode": "0600"}))
    };
    journal.send("write", call).await.unwrap();
    assert_eq!(journal.read("/a/big").await.len(), 1_400_000);
    let listed = journal.good("ls", json!({"path": "/a"})).await;
    let mut entries: Vec<_> = listed["entries"].as_array().unwrap().clone();
    entries.sort_by_key(|entry| entry["name"].as_str().unwrap().to_owned());
    assert_eq!(
        (&entries[0]["name"], &entries[0]["mode"]),
        (&json!("big"), &json!("0600"))
    );
    assert_eq!(
        (&entries[1]["name"], &entries[1]["mode"]),
        (&json!("file"), &json!("0644"))
    );
    let after = dump(&journal.world.mfs).await;
    let journal = journal.killed().await;
    assert_eq!(dump(&journal.world.mfs).await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_go_page_by_page() {
    let journal = Journal::new().await;
    for number in 0..25 {
        journal
            .good("mkdir", json!({"path": format!("/d{number}")}))
            .await;
    }
    let (mut names, mut cursor) = (Vec::new(), json!(0));
    while !cursor.is_null() {
        let page = journal
            .good("ls", json!({"limit": 10, "cursor": cursor}))
            .await;
        let entries = page["entries"].as_array().unwrap();
        names.extend(
            entries
                .iter()
                .map(|entry| entry["name"].as_str().unwrap().to_owned()),
        );
        cursor = page["cursor"].clone();
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_sorted_names_links_targets_and_is_the_last_where_nothing_follows() {
    let journal = Journal::new().await;
    for name in ["b", "d", "a", "c"] {
        journal
            .good("mkdir", json!({"path": format!("/{name}")}))
            .await;
    }
    let link = json!({"path": "/link", "target": "to/there"});
    journal.good("symlink", link).await;
    let page = journal.good("ls", json!({"limit": 5})).await;
    let entries = page["entries"].as_array().unwrap();
    let names: Vec<_> = entries.iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["a", "b", "c", "d", "link"]);
    assert_eq!(entries[4]["target"], "to/there");
    assert_eq!(
        page["cursor"],
        Value::Null,
        "there is no empty page behind it"
    );
    let page = journal.good("ls", json!({"limit": 4})).await;
    assert!(page["cursor"].is_string());
    let alone = journal.good("ls", json!({"path": "/link"})).await;
    assert_eq!(alone["entries"][0]["target"], "to/there");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_kinds() {
    let journal = Journal::new().await;
    journal.write("/file", "x").await;
    journal.write("/dir/file", "x").await;
    for (name, params, kind) in [
        ("mkdir", json!({"path": "/file"}), ErrorKind::Busy),
        ("mkdir", json!({"path": "/x/y"}), ErrorKind::NotFound),
        ("mkdir", json!({"path": "/"}), ErrorKind::Busy),
        ("mkdir", json!({"path": "/../x"}), ErrorKind::Invalid),
        (
            "mkdir",
            json!({"path": "/file/x", "parents": true}),
            ErrorKind::NotFound,
        ),
        (
            "mkdir",
            json!({"path": "/x", "mode": "9"}),
            ErrorKind::Invalid,
        ),
        (
            "write",
            json!({"path": "/dir", "text": ""}),
            ErrorKind::Invalid,
        ),
        ("write", json!({"path": "/", "text": ""}), ErrorKind::Busy),
        ("read", json!({"path": "/dir"}), ErrorKind::Invalid),
        ("read", json!({"path": "/absent"}), ErrorKind::NotFound),
        ("remove", json!({"path": "/dir"}), ErrorKind::Busy),
        (
            "remove",
            json!({"path": "/", "recursive": true}),
            ErrorKind::Busy,
        ),
        (
            "move",
            json!({"from": "/dir", "to": "/dir/below"}),
            ErrorKind::Invalid,
        ),
        (
            "move",
            json!({"from": "/file", "to": "/dir/file", "no_replace": true}),
            ErrorKind::Busy,
        ),
        ("unmount", json!({"path": "/dir"}), ErrorKind::Invalid),
        (
            "mount",
            json!({"path": "/x", "cid": "nonsense"}),
            ErrorKind::Invalid,
        ),
        ("metadata", json!({"path": "/file"}), ErrorKind::Invalid),
        (
            "write",
            json!({"path": "/x", "transaction": 99, "text": ""}),
            ErrorKind::NotFound,
        ),
    ] {
        let error = journal.call(name, params.clone()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{name} {params}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_mounted_and_unmounted() {
    let journal = Journal::new().await;
    journal.write("/dir/a", "first").await;
    journal.write("/dir/sub/b", "second").await;
    let cid = journal.good("stat", json!({"path": "/dir"})).await["cid"].clone();
    journal
        .good("mount", json!({"path": "/again", "cid": cid}))
        .await;
    assert_eq!(journal.read("/again/sub/b").await, "second");
    journal.write("/again/sub/b", "changed").await;
    assert_eq!(
        journal.read("/dir/sub/b").await,
        "second",
        "only what changes is copied"
    );
    let kept = journal.call("unmount", json!({"path": "/again"})).await;
    assert_eq!(kept.unwrap_err().kind, ErrorKind::Busy, "it was changed");
    let force = json!({"path": "/again", "force": true});
    journal.good("unmount", force).await;
    assert!(
        journal
            .call("stat", json!({"path": "/again"}))
            .await
            .is_err()
    );
    // As a whole and within a transaction.
    let tx = journal.good("begin", json!({})).await["transaction"].clone();
    journal
        .good(
            "mount",
            json!({"path": "/m", "cid": cid, "transaction": tx}),
        )
        .await;
    journal
        .good("move", json!({"from": "/m", "to": "/n", "transaction": tx}))
        .await;
    journal.good("commit", json!({"transaction": tx})).await;
    assert_eq!(journal.read("/n/a").await, "first");
    journal
        .good("remove", json!({"path": "/n", "recursive": true}))
        .await;
    let last = journal.brief(json!({"limit": 1})).await;
    assert_eq!(last, ["unmount /n"], "one entry, whatever its size");
}

/// Has what UnixFS cannot say.
async fn rich(journal: &Journal) {
    let (world, mfs) = (&journal.world, &journal.world.mfs);
    let dir = world.dir(NodeId::ROOT, "dir").await;
    let file = world.file(dir, "file", b"hello").await;
    world.file(dir, "big", &vec![7; 3 << 20]).await;
    world
        .make(dir, "link", New::Symlink("file".into()), 0)
        .await;
    world.make(dir, "fifo", New::Fifo, 0o600).await;
    let sub = world.dir(dir, "sub").await;
    mfs.link(ME, file, sub, b"hard", false).await.unwrap();
    mfs.set_xattr(ME, file, b"user.color", b"blue", XattrMode::Set)
        .await
        .unwrap();
    let set = SetAttr {
        mode: Some(0o4711),
        uid: Some(5),
        ..SetAttr::default()
    };
    mfs.set_attr(ME, sub, set).await.unwrap();
}

/// What a tree is, but for the numbers of nodes and the times of changes.
async fn told(journal: &Journal) -> Vec<(String, String)> {
    let all = dump(&journal.world.mfs).await;
    let plain = |line: &str| {
        let mut line = line.to_owned();
        for (from, to) in [("node: NodeId(", ")"), ("ctime: Time {", "}")] {
            let at = line.find(from).unwrap();
            let end = at + line[at..].find(to).unwrap();
            line.replace_range(at..end, "");
        }
        line
    };
    all.iter()
        .filter(|(path, _)| *path != "/")
        .map(|(p, line)| (p.clone(), plain(line)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_back_with_all_that_it_has() {
    let journal = Journal::new().await;
    rich(&journal).await;
    let before = told(&journal).await;
    let made = journal.good("checkpoint", json!({})).await;
    let snapshot = made["sequence"].to_string();
    journal
        .good("remove", json!({"path": "/dir/sub", "recursive": true}))
        .await;
    journal.write("/dir/file", "overwritten").await;
    journal.write("/other", "new").await;
    let params = json!({"snapshot": snapshot, "path": "/dir"});
    let error = journal
        .call("snapshots/restore", params.clone())
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy, "it is there");
    let mut replace = params;
    replace["replace"] = true.into();
    journal.good("snapshots/restore", replace).await;
    let (mut after, other) = (told(&journal).await, "/other".to_owned());
    after.retain(|(path, _)| *path != other);
    assert_eq!(after, before);
    // Everything, by commit, and after a restart.
    journal
        .good("remove", json!({"path": "/dir/sub", "recursive": true}))
        .await;
    let all = json!({"snapshot": made["commit"], "path": "/", "replace": true});
    journal.good("snapshots/restore", all).await;
    assert_eq!(told(&journal).await, before);
    let journal = journal.killed().await;
    assert_eq!(told(&journal).await, before, "after a kill");
    let journal = journal.reopen().await;
    assert_eq!(told(&journal).await, before, "after an end");
    assert_eq!(journal.world.mfs.recovery().errors, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_alone_comes_back_at_once() {
    let journal = Journal::new().await;
    rich(&journal).await;
    let made = journal.good("checkpoint", json!({})).await;
    let params = json!({
        "snapshot": made["root"], "path": "/dir", "to": "/copy", "content_only": true,
    });
    let done = journal.good("snapshots/restore", params).await;
    assert_eq!(done["changes"], 1);
    assert_eq!(journal.read("/copy/sub/hard").await, "hello");
    let stat = journal.good("stat", json!({"path": "/copy"})).await;
    assert_eq!(
        stat["cid"],
        journal.good("stat", json!({"path": "/dir"})).await["cid"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_checkpoints_are_compared() {
    let journal = Journal::new().await;
    rich(&journal).await;
    let first = journal.good("checkpoint", json!({})).await["sequence"].to_string();
    journal.write("/dir/file", "other").await;
    journal.write("/dir/new/deep", "x").await;
    journal.good("remove", json!({"path": "/dir/big"})).await;
    journal
        .good("metadata", json!({"path": "/dir/sub", "mode": "0700"}))
        .await;
    journal.good("remove", json!({"path": "/dir/fifo"})).await;
    let changes = async |params: Value| {
        let found = journal.good("snapshots/diff", params).await;
        let each = found["differences"].as_array().unwrap().iter();
        each.map(|one| {
            format!(
                "{} {}",
                one["change"].as_str().unwrap(),
                one["path"].as_str().unwrap()
            )
        })
        .collect::<Vec<_>>()
    };
    let wanted = [
        "removed /dir/big",
        "removed /dir/fifo",
        "changed /dir/file",
        "added /dir/new",
        "metadata /dir/sub",
        "changed /dir/sub/hard",
    ];
    assert_eq!(changes(json!({"from": first})).await, wanted);
    assert_eq!(
        changes(json!({"from": first, "path": "/dir/sub"})).await,
        wanted[4..]
    );
    assert_eq!(
        changes(json!({"from": first, "to": first})).await,
        Vec::<String>::new()
    );
    let cut = journal
        .good("snapshots/diff", json!({"from": first, "limit": 2}))
        .await;
    assert_eq!(cut["truncated"], true);
    let error = journal
        .call("snapshots/diff", json!({"from": "77"}))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_differs_after_a_restore_and_then_only_what_does() {
    let journal = Journal::new().await;
    rich(&journal).await;
    let first = journal.good("checkpoint", json!({})).await["sequence"].to_string();
    let changes = async || {
        let found = journal.good("snapshots/diff", json!({"from": first})).await;
        assert_eq!(found["truncated"], false);
        let each = found["differences"].as_array().unwrap().iter();
        each.map(|one| (one["change"].to_string(), one["path"].to_string()))
            .collect::<Vec<_>>()
    };
    let restore = json!({"snapshot": first, "path": "/dir", "replace": true});
    journal.good("remove", json!({"path": "/dir/file"})).await;
    journal.good("snapshots/restore", restore.clone()).await;
    assert_eq!(changes().await, vec![]);
    let aside = json!({"from": "/dir", "to": "/aside"});
    journal.good("move", aside).await;
    journal.good("snapshots/restore", restore).await;
    let added = ("\"added\"".to_owned(), "\"/aside\"".to_owned());
    assert_eq!(changes().await, vec![added.clone()]);
    let mode = json!({"path": "/dir/fifo", "mode": "0611"});
    journal.good("metadata", mode).await;
    let metadata = ("\"metadata\"".to_owned(), "\"/dir/fifo\"".to_owned());
    assert_eq!(changes().await, vec![added, metadata]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_a_file_tells_what_was_written_and_what_the_file_is() {
    let journal = Journal::new().await;
    let whole = journal.write("/file", "hello").await;
    assert_eq!((&whole["written"], &whole["size"]), (&json!(5), &json!(5)));
    for (more, size) in [
        (json!({"append": true}), 6),
        (json!({"offset": 100}), 101),
        (json!({"offset": 0}), 101),
    ] {
        let mut params = json!({"path": "/file", "text": "x"});
        let fields = more.as_object().unwrap().clone();
        params.as_object_mut().unwrap().extend(fields);
        let told = journal.good("write", params.clone()).await;
        assert_eq!(
            (&told["written"], &told["size"]),
            (&json!(1), &json!(size)),
            "{params}"
        );
        let stat = journal.good("stat", json!({"path": "/file"})).await;
        assert_eq!(told["cid"], stat["cid"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn to_let_go_of_snapshots_without_saying_which_is_refused() {
    let journal = Journal::new().await;
    let refused = journal.call("snapshots/remove", json!({})).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Invalid);
    journal.good("snapshots/remove", json!({"keep": 1})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_at_the_same_time_lose_nothing() {
    let journal = Arc::new(Journal::new().await);
    let appends = (0..20).map(|number| {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let text = format!("{number:04}\n");
            let params = json!({"path": "/log", "text": text, "append": true});
            journal.good("write", params).await;
        })
    });
    for append in appends.collect::<Vec<_>>() {
        append.await.unwrap();
    }
    let log = journal.read("/log").await;
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    let all: Vec<_> = (0..20).map(|number| format!("{number:04}")).collect();
    assert_eq!(lines, all);
}
