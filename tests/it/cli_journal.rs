//! The journal and the tree from the command line, with a daemon and without.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::cli_support::{Place, tree};

fn both() -> [Place; 2] {
    [Place::new(), Place::with_daemon()]
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_tree_is_changed_and_read_without_a_mount() {
    for place in both() {
        place.good(&["tree", "mkdir", "-p", "/a/b"]);
        let cid = place.feed(&["tree", "write", "/a/b/file"], b"hello").out;
        assert_eq!(
            cid.trim(),
            "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
        );
        let file = place.write("other", " world");
        place.good(&[
            "tree",
            "write",
            "--append",
            "/a/b/file",
            file.to_str().unwrap(),
        ]);
        assert_eq!(place.good(&["tree", "read", "/a/b/file"]), "hello world");
        assert_eq!(
            place.good(&["tree", "read", "-o", "6", "-l", "2", "/a/b/file"]),
            "wo"
        );
        place.good(&["tree", "mv", "/a/b/file", "/moved"]);
        place.good(&["tree", "ln", "moved", "/link"]);
        place.good(&["tree", "chmod", "0600", "/moved"]);
        place.good(&["tree", "rm", "-r", "/a"]);
        let mut names: Vec<_> = place
            .good(&["tree", "ls"])
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        assert_eq!(names, ["link", "moved"]);
        assert!(place.good(&["tree", "ls", "-l"]).contains("-rw-------"));
        assert_eq!(place.run(&["tree", "read", "/absent"]).code, 3);
        assert_eq!(place.run(&["tree", "mkdir", "/moved"]).code, 6);
        let root = place.good(&["tree", "root", "--now"]);
        assert_eq!(place.good(&["tree", "root"]), root);
        assert!(place.good(&["ls", root.trim()]).contains("moved"));
    }
}

#[test]
fn the_log_shows_what_happened() {
    for place in both() {
        place.good(&["tree", "mkdir", "/dir"]);
        place.feed(&["tree", "write", "/dir/file"], b"x");
        let log = place.good(&["journal", "log", "--oldest"]);
        assert!(log.contains("mkdir      /dir\n"), "{log}");
        assert!(log.contains("write      /dir/file"), "{log}");
        let found = json(&place.good(&["--json", "journal", "log", "--operation", "mkdir"]));
        assert_eq!(found["transactions"].as_array().unwrap().len(), 1);
        let id = found["transactions"][0]["entry_id"].to_string();
        assert!(
            place
                .good(&["journal", "show", &id])
                .contains("operation_type mkdir")
        );
        assert_eq!(place.run(&["journal", "show", "999"]).code, 3);
        assert_eq!(
            place.run(&["journal", "log", "--status", "nonsense"]).code,
            2
        );
        assert!(
            place
                .good(&["journal", "verify"])
                .contains("entries are sound")
        );
        place.good(&["journal", "checkpoint"]);
        let status = json(&place.good(&["--json", "journal", "status"]));
        assert_eq!(status["changes"], 0);
        assert!(
            place
                .good(&["journal", "status"])
                .contains("checkpoint  baf")
        );
        let report = json(&place.good(&["--json", "journal", "recover", "--dry-run"]));
        assert_eq!(report["dry_run"], true);
        let lines = place.good(&["journal", "export"]);
        assert!(lines.lines().count() >= 5, "{lines}");
        lines.lines().for_each(|line| drop(json(line)));
        let file = place.path("entries.jsonl");
        place.good(&["journal", "export", "-o", file.to_str().unwrap()]);
        assert_eq!(
            std::fs::read_to_string(file).unwrap().lines().count(),
            lines.lines().count()
        );
        let page = place.run(&["journal", "log", "-n", "1"]);
        assert!(page.err.contains("--cursor"), "{}", page.err);
    }
}

/// Every file of the journal, with its bytes.
fn journal_of(place: &Place) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = crate::store_support::files(&place.repo().join("journal"));
    let read = |path: std::path::PathBuf| (path.clone(), std::fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

#[test]
fn looking_at_a_torn_journal_changes_nothing() {
    let place = Place::new();
    place.feed(&["tree", "write", "/file"], b"x");
    place.good(&["tree", "mkdir", "/dir"]);
    let mut files = journal_of(&place);
    files.retain(|(path, bytes)| path.extension().is_some_and(|e| e == "seg") && !bytes.is_empty());
    let (segment, mut bytes) = files.pop().unwrap();
    bytes.extend([7; 50]);
    std::fs::write(segment, bytes).unwrap();
    // Nor is it made.
    std::fs::remove_file(place.repo().join("journal/ahead.ring")).unwrap();
    let before = journal_of(&place);
    for look in [
        &["journal", "recover", "--dry-run"][..],
        &["journal", "verify"],
        &["journal", "log"],
        &["journal", "status"],
        &["journal", "show", "1"],
        &["journal", "export"],
        &["snapshot", "ls"],
        &["pin", "ls"],
        &["verify"],
        &["fsck"],
    ] {
        place.good(look);
        assert!(journal_of(&place) == before, "{look:?} changed the journal");
    }
    let dry = ["--json", "journal", "recover", "--dry-run"];
    assert_eq!(json(&place.good(&dry))["torn_bytes"], 50);
    let status = json(&place.good(&["--json", "journal", "status"]));
    assert_eq!(status["stopped"], Value::Null);
    assert_eq!(place.good(&["tree", "ls"]).lines().count(), 2);
    assert_eq!(
        json(&place.good(&dry))["torn_bytes"],
        0,
        "now it is cut off"
    );
}

#[test]
fn a_journal_that_is_lost_is_told_and_nothing_goes_until_it_is_begun_anew() {
    let lost = |how: &str, segment: &std::path::Path| match how {
        "all" => std::fs::remove_dir_all(segment.parent().unwrap()).unwrap(),
        "empty" => std::fs::write(segment, "").unwrap(),
        "cut" => std::fs::write(segment, &std::fs::read(segment).unwrap()[..100]).unwrap(),
        _ => unreachable!(),
    };
    for how in ["all", "empty", "cut"] {
        let place = Place::new();
        place.feed(&["tree", "write", "/file"], b"hello");
        place.good(&["tree", "mkdir", "/dir"]);
        let mut segments = journal_of(&place);
        segments.retain(|(path, bytes)| {
            path.extension().is_some_and(|e| e == "seg") && !bytes.is_empty()
        });
        lost(how, &segments[0].0);
        assert_eq!(place.good(&["tree", "read", "/file"]), "hello", "{how}");
        let refused = place.run(&["tree", "mkdir", "/new"]);
        assert!(
            refused.err.contains("journal is lost"),
            "{how}: {}",
            refused.err
        );
        assert_eq!(place.run(&["gc"]).code, 7, "{how}");
        let found = place.run(&["fsck"]);
        assert_eq!(found.code, 5, "{how}: {}", found.out);
        let mended = place.run(&["fsck", "--repair"]);
        assert_eq!(mended.code, 1, "{how}: {} {}", mended.out, mended.err);
        place.good(&["tree", "mkdir", "/new"]);
        place.good(&["fsck"]);
        assert_eq!(place.good(&["tree", "ls"]).lines().count(), 3, "{how}");
        assert_eq!(place.good(&["tree", "read", "/file"]), "hello");
    }
}

#[test]
fn a_check_takes_a_directory_of_the_journal_that_is_gone_for_a_lost_journal() {
    let place = Place::new();
    place.feed(&["tree", "write", "/file"], b"hello");
    std::fs::remove_dir_all(place.repo().join("journal")).unwrap();
    let found = place.run(&["fsck"]);
    assert_eq!(found.code, 5, "{} {}", found.out, found.err);
    assert!(found.out.contains("journal is lost"), "{}", found.out);
    let mended = place.run(&["fsck", "--repair"]);
    assert_eq!(mended.code, 1, "{} {}", mended.out, mended.err);
    assert_eq!(place.good(&["tree", "read", "/file"]), "hello");
    place.good(&["tree", "mkdir", "/new"]);
    place.good(&["fsck"]);
}

#[test]
fn following_ends_where_nothing_that_comes_can_be_wanted() {
    for place in both() {
        for name in ["/a", "/b", "/c", "/d"] {
            place.good(&["tree", "mkdir", name]);
        }
        let log = json(&place.good(&["--json", "journal", "log", "--operation", "mkdir"]));
        let third = log["transactions"][1]["entry_id"].to_string();
        let entries = |more: &[&str]| {
            let command = ["journal", "follow", "--since", "0", "--operation", "mkdir"];
            let told = place.good(&[&command, more].concat());
            told.lines().count()
        };
        assert_eq!(entries(&["--before", &third]), 2);
        assert_eq!(entries(&["--until", "2020-01-01"]), 0);
        let last = ["journal", "log", "--follow", "-n", "1", "--before", &third];
        assert_eq!(place.good(&last).lines().count(), 1);
    }
}

#[test]
fn a_long_listing_tells_types_and_targets() {
    let place = Place::new();
    place.feed(&["tree", "write", "-m", "4755", "/b"], b"x");
    place.good(&["tree", "mkdir", "-m", "1777", "/a"]);
    place.good(&["tree", "ln", "to/there", "/c"]);
    let lines = place.good(&["tree", "ls", "-l"]);
    let told: Vec<_> = lines
        .lines()
        .map(|line| {
            let mode = line.split(' ').next().unwrap();
            let name = line.split("Z ").nth(1).unwrap();
            (mode, name)
        })
        .collect();
    let wanted = [
        ("drwxr-xr-t", "a/"),
        ("-rwsr-xr-x", "b"),
        ("lrwxrwxrwx", "c -> to/there"),
    ];
    assert_eq!(told, wanted);
}

#[test]
fn what_is_not_there_is_removed_by_force_and_what_cannot_be_is_not() {
    for place in both() {
        place.feed(&["tree", "write", "/file"], b"x");
        assert_eq!(place.run(&["tree", "rm", "/nope"]).code, 3);
        place.good(&["tree", "rm", "-f", "/nope", "/file", "/file/below"]);
        assert_eq!(place.good(&["tree", "ls"]), "");
        place.good(&["tree", "mkdir", "-p", "/dir/full"]);
        assert_eq!(place.run(&["tree", "rm", "-f", "/dir"]).code, 6);
    }
}

#[test]
fn thresholds_of_the_monitor_are_given_on_the_command_line() {
    for place in both() {
        place.good(&["tree", "mkdir", "/dir"]);
        place.good(&["journal", "monitor", "--disk-free-min", "1kB"]);
        let low = ["journal", "monitor", "--disk-free-min", "900TiB"];
        let told = place.run(&low);
        assert_eq!(told.code, 1, "{}", told.err);
        assert!(told.out.contains("bad  disk_free_bytes"), "{}", told.out);
        let limits = [
            "changes-max",
            "unsynced-ms-max",
            "transactions-max",
            "push-failures-max",
        ];
        for limit in limits {
            place.good(&[
                "journal",
                "monitor",
                "--disk-free-min=0",
                &format!("--{limit}=9999999"),
            ]);
        }
        let wrong = place.run(&["journal", "monitor", "--disk-free-min", "much"]);
        assert_eq!(wrong.code, 2);
    }
}

#[test]
fn a_damaged_block_is_told_of_once_in_a_run() {
    let place = Place::new();
    place.feed(&["tree", "write", "/file"], b"the bytes of this file");
    place.good(&["journal", "checkpoint"]);
    let packs = place.repo().join("packs/own");
    for pack in std::fs::read_dir(packs).unwrap() {
        let pack = pack.unwrap().path();
        let mut bytes = std::fs::read(&pack).unwrap();
        let wanted = b"the bytes of this file";
        if let Some(at) = bytes.windows(wanted.len()).position(|some| some == wanted) {
            bytes[at] ^= 1;
            std::fs::write(&pack, bytes).unwrap();
        }
    }
    let found = place.run(&["fsck", "--repair"]);
    assert_eq!(found.code, 5, "{}", found.out);
    assert_eq!(
        found.err.matches("is damaged in").count(),
        1,
        "{}",
        found.err
    );
}

#[test]
fn who_exports_is_told_of_his_file_and_of_what_is_not_in_it() {
    let place = Place::new();
    place.feed(&["tree", "write", "/file"], b"x");
    for command in [&["journal", "export"][..], &["export", "/mfs/file"]] {
        let nowhere = place.run(&[command, &["-o", "/nope/x"]].concat());
        assert!(nowhere.err.contains("/nope/x: "), "{}", nowhere.err);
    }
    let told = place.run(&["export", "/mfs/file", "-o", "x.car"]);
    assert!(
        told.err.contains("not in a CAR file: owners"),
        "{}",
        told.err
    );
    let cid = json(&place.good(&["--json", "tree", "stat", "/file"]))["cid"].clone();
    let told = place.run(&["export", cid.as_str().unwrap(), "-o", "y.car"]);
    assert_eq!((told.code, told.err.contains("not in")), (0, false));
}

#[test]
fn what_is_lost_by_an_unmount_is_told_with_the_option_that_loses_it() {
    let place = Place::new();
    let cid = place.good(&["add", "-Q", place.write("one", "1").to_str().unwrap()]);
    place.good(&["tree", "mount", cid.trim(), "/mounted"]);
    place.feed(&["tree", "write", "--append", "/mounted"], b"2");
    let told = place.run(&["tree", "unmount", "/mounted"]);
    assert_eq!(told.code, 6, "{}", told.err);
    assert!(told.err.contains("try: `--force`"), "{}", told.err);
    place.good(&["tree", "unmount", "--force", "/mounted"]);
}

#[test]
fn an_empty_input_is_an_empty_file() {
    for place in both() {
        place.feed(&["tree", "write", "/file"], b"hello");
        let written = place.feed(&["tree", "write", "/file"], b"");
        assert_eq!(written.code, 0, "{}", written.err);
        assert_eq!(place.good(&["tree", "read", "/file"]), "");
    }
}

#[test]
fn snapshots_are_listed_compared_and_restored() {
    for place in both() {
        place.feed(&["tree", "write", "/file"], b"first");
        place.good(&["journal", "checkpoint"]);
        let kept = json(&place.good(&["--json", "snapshot", "ls"]));
        let first = kept["snapshots"][0]["sequence"].to_string();
        place.feed(&["tree", "write", "/file"], b"second");
        place.good(&["tree", "mkdir", "/new"]);
        let diff = place.good(&["snapshot", "diff", &first]);
        assert_eq!(diff, "M /file\n+ /new\n");
        assert_eq!(place.run(&["snapshot", "restore", &first, "/file"]).code, 6);
        place.good(&["snapshot", "restore", "--replace", &first, "/file"]);
        assert_eq!(place.good(&["tree", "read", "/file"]), "first");
        assert_eq!(place.run(&["snapshot", "restore", "99", "/file"]).code, 3);
    }
}

#[test]
fn snapshots_that_are_let_go_stay_away_and_free_what_only_they_had() {
    let place = Place::new();
    let large = vec![0x5a; 3 << 20];
    for number in 0..5_u8 {
        let bytes: Vec<u8> = large.iter().map(|byte| byte ^ number).collect();
        place.feed(&["tree", "write", "/file"], &bytes);
    }
    let sequences = || -> Vec<String> {
        let kept = json(&place.good(&["--json", "snapshot", "ls"]));
        let kept = kept["snapshots"].as_array().unwrap().iter();
        kept.map(|one| one["sequence"].to_string()).collect()
    };
    let before = sequences();
    assert_eq!(before.len(), 5);
    assert_eq!(
        place.run(&["snapshot", "rm", &before[0]]).code,
        2,
        "the newest"
    );
    assert_eq!(place.run(&["snapshot", "rm", "99999"]).code, 3);
    place.good(&["snapshot", "rm", &before[2]]);
    let left = sequences();
    let expected = [0, 1, 3, 4].map(|at: usize| before[at].clone());
    assert_eq!(left, expected);
    place.good(&["snapshot", "restore", &before[3], "/file", "/older"]);
    place.good(&["tree", "rm", "/older"]);
    place.good(&["snapshot", "rm", "--keep", "1"]);
    assert_eq!(sequences().len(), 1);
    let freed = json(&place.good(&["--json", "gc"]));
    assert!(freed["freed_bytes"].as_u64().unwrap() >= 4 << 20, "{freed}");
    assert_eq!(sequences().len(), 1, "also after a start");
    place.good(&["fsck"]);
    assert_eq!(
        place.feed(&["tree", "read", "/file"], b"").out.len(),
        3 << 20
    );
}

#[test]
fn what_is_added_can_go_into_the_tree() {
    for place in both() {
        let dir = tree(&place);
        let dir = dir.to_str().unwrap();
        let cid = place.good(&["add", "-rQ", "--to-files=/added", dir]);
        assert_eq!(place.good(&["tree", "read", "/added/a.txt"]), "hello world");
        let stat = json(&place.good(&["--json", "tree", "stat", "/added"]));
        assert_eq!(stat["cid"], cid.trim());
        let file = place.write("one", "1");
        place.good(&["add", "--to-files", file.to_str().unwrap()]);
        assert_eq!(place.good(&["tree", "read", "/one"]), "1");
        place.good(&["tree", "mount", cid.trim(), "/mounted"]);
        assert_eq!(
            place.good(&["tree", "read", "/mounted/sub/big"]).len(),
            3 << 20
        );
        place.good(&["tree", "unmount", "/mounted"]);
        place.good(&["gc"]);
        assert_eq!(
            place.good(&["tree", "read", "/added/sub/big"]).len(),
            3 << 20
        );
    }
}

#[test]
fn a_transaction_lives_in_the_daemon() {
    let place = Place::new();
    place.good(&["tree", "mkdir", "/made"]);
    assert_eq!(place.run(&["tree", "begin"]).code, 4, "no daemon");
    let place = Place::with_daemon();
    let tx = place.good(&["tree", "begin"]).trim().to_owned();
    place.good(&["tree", "--transaction", &tx, "mkdir", "/dir"]);
    assert_eq!(place.good(&["tree", "ls"]), "");
    place.good(&["tree", "commit", &tx]);
    assert_eq!(place.good(&["tree", "ls"]), "dir/\n");
    let tx = place.good(&["tree", "begin"]).trim().to_owned();
    place.good(&["tree", "--transaction", &tx, "mkdir", "/dir"]);
    let refused = place.run(&["tree", "commit", &tx]);
    assert_eq!(refused.code, 8, "{}", refused.err);
    assert!(refused.err.contains("mkdir /dir"), "{}", refused.err);
}

#[test]
fn who_follows_sees_the_next_change_also_without_a_daemon() {
    for place in both() {
        place.good(&["tree", "mkdir", "/first"]);
        place.good(&["tree", "mkdir", "/second"]);
        let mut following = place.command();
        let flags = ["journal", "log", "-f", "-n", "1", "--operation", "mkdir"];
        let mut following = following
            .arg("--json")
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap());
        let mut next = || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            json(&line)["path"].as_str().unwrap().to_owned()
        };
        assert_eq!(next(), "/second", "what was there comes first");
        for path in ["/third", "/fourth"] {
            place.good(&["tree", "mkdir", path]);
            assert_eq!(next(), path);
        }
        following.kill().unwrap();
        following.wait().unwrap();
    }
}

#[test]
fn damage_is_found_explained_and_set_aside() {
    let place = Place::new();
    place.feed(&["tree", "write", "/kept"], b"kept");
    place.good(&["journal", "checkpoint"]);
    place.good(&["fsck"]);
    // A daemon that is killed leaves changes after the checkpoint.
    {
        let killed = Place::with_daemon();
        for path in ["/one", "/victim", "/three"] {
            killed.good(&["tree", "mkdir", path]);
        }
        // A sync by time, and then one more that knows of it.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        killed.good(&["tree", "mkdir", "/last"]);
        let kept = place.path("killed");
        let copied = std::process::Command::new("cp")
            .arg("-r")
            .arg(killed.repo())
            .arg(&kept)
            .status()
            .unwrap();
        assert!(copied.success());
    }
    let repo = place.path("killed");
    drop(std::fs::remove_file(repo.join("control.sock")));
    let segment = std::fs::read_dir(repo.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0'))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes
        .windows(7)
        .position(|window| window == b"/victim")
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let repo = repo.to_str().unwrap();
    let found = place.run(&["--repo", repo, "fsck"]);
    assert_eq!(found.code, 5, "{}{}", found.out, found.err);
    assert!(
        found.out.contains("damage: journal:") && found.out.contains("lost:"),
        "{}",
        found.out
    );
    let shown: Vec<_> = (1..9)
        .map(|id| place.run(&["--repo", repo, "journal", "show", &id.to_string()]))
        .filter(|done| done.code != 0)
        .collect();
    assert_eq!(
        shown.first().map(|done| done.code),
        Some(5),
        "the damaged one"
    );
    assert_ne!(
        place.run(&["--repo", repo, "tree", "mkdir", "/new"]).code,
        0,
        "read-only"
    );
    let mended = place.run(&["--repo", repo, "--json", "fsck", "--repair"]);
    assert_eq!(mended.code, 1, "{}{}", mended.out, mended.err);
    assert_eq!(
        json(&mended.out)["after"]["problems"],
        Value::Array(Vec::new())
    );
    place.good(&["--repo", repo, "fsck"]);
    place.good(&["--repo", repo, "tree", "mkdir", "/new"]);
    let mut names: Vec<_> = place
        .good(&["--repo", repo, "tree", "ls"])
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    assert_eq!(names, ["new/", "one/"]);
}
