//! What commands accept, refuse and say beside what they are for.

use std::fs::File;
use std::process::Stdio;

use serde_json::Value;

use crate::cli_support::Place;

/// A repository with a little in its tree.
fn place() -> Place {
    let place = Place::new();
    place.good(&["tree", "mkdir", "-p", "/dir/sub"]);
    place.feed(&["tree", "write", "/file"], b"x");
    place
}

#[test]
fn a_dash_is_standard_output() {
    let place = place();
    let root = place.good(&["tree", "root", "--now"]);
    let entries = place.good(&["journal", "export", "-o", "-"]);
    assert!(entries.lines().count() > 2, "{entries}");
    let car = place
        .command()
        .args(["export", "-o", "-", root.trim()])
        .output()
        .unwrap();
    assert!(car.status.success() && car.stdout.len() > 50, "{car:?}");
    assert!(!place.path("-").exists());
}

#[test]
fn log_lines_have_colours_on_terminals_only() {
    let place = place();
    let mut daemon = place.command();
    daemon.args(["daemon", "-v"]).stdout(Stdio::null());
    let log = File::create(place.path("log")).unwrap();
    let mut daemon = daemon.stderr(log).spawn().unwrap();
    let read = || std::fs::read_to_string(place.path("log")).unwrap();
    while !read().contains("ready") {
        assert!(daemon.try_wait().unwrap().is_none(), "{}", read());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    place.good(&["shutdown"]);
    daemon.wait().unwrap();
    assert!(!read().contains('\u{1b}'), "{:?}", read());
}

#[test]
fn a_transaction_is_taken_only_where_it_stages_something() {
    let place = place();
    for reading in [
        &["tree", "ls", "--transaction", "5"][..],
        &["tree", "--transaction", "5", "ls"],
        &["tree", "root", "--transaction", "5"],
        &["tree", "--transaction", "5", "stat", "/file"],
        &["tree", "begin", "--transaction", "5"],
    ] {
        assert_eq!(place.run(reading).code, 2, "{reading:?}");
    }
    let staged = place.run(&["tree", "mkdir", "--transaction", "5", "/x"]);
    assert_eq!(staged.code, 3, "{}", staged.err);
    assert!(staged.err.contains("cidfs journal log"), "{}", staged.err);
}

#[test]
fn moving_to_a_directory_moves_into_it() {
    let place = place();
    place.good(&["tree", "mv", "/file", "/dir"]);
    assert_eq!(place.good(&["tree", "read", "/dir/file"]), "x");
    place.good(&["tree", "mv", "/dir/sub", "/new"]);
    assert_eq!(place.good(&["tree", "ls", "/new"]), "");
    let refused = place.run(&["tree", "mv", "-T", "/dir/file", "/new"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("/dir/file to /new: is a directory"),
        "{}",
        refused.err
    );
    let refused = place.run(&["tree", "mv", "/new", "/new"]);
    assert!(refused.err.contains("into itself"), "{}", refused.err);
    let absent = place.run(&["tree", "mv", "/absent", "/new"]);
    assert_eq!(absent.code, 3);
    // A directory of the same transaction too.
    let place = Place::with_daemon();
    place.feed(&["tree", "write", "/file"], b"x");
    let tx = place.good(&["tree", "begin"]).trim().to_owned();
    place.good(&["tree", "mkdir", "--transaction", &tx, "/late"]);
    place.good(&["tree", "mv", "--transaction", &tx, "/file", "/late"]);
    place.good(&["tree", "commit", &tx]);
    assert_eq!(place.good(&["tree", "ls", "/late"]), "file\n");
}

#[test]
fn removing_goes_on_behind_what_cannot_be_removed() {
    let place = place();
    let done = place.run(&["tree", "rm", "/absent", "/file", "/dir"]);
    assert_eq!(done.code, 3, "the first failure counts");
    assert!(done.err.contains("/absent: no such"), "{}", done.err);
    assert!(
        done.err.contains("/dir: directory not empty"),
        "{}",
        done.err
    );
    assert_eq!(place.good(&["tree", "ls"]), "dir/\n");
}

#[test]
fn refusals_name_the_path_and_what_to_do() {
    let place = place();
    place.good(&["journal", "checkpoint"]);
    let kept: Value = serde_json::from_str(&place.good(&["--json", "snapshot", "ls"])).unwrap();
    let first = kept["snapshots"][0]["sequence"].to_string();
    for (arguments, code, words) in [
        (
            &["snapshot", "restore", &first, "/dir"][..],
            6,
            &["/dir: file exists", "--replace"][..],
        ),
        (
            &["snapshot", "restore", &first, "/nope"],
            3,
            &["/nope: no such file"],
        ),
        (
            &["snapshot", "restore", &first, "/dir", "/file"],
            6,
            &["/file: file exists"],
        ),
        (
            &["tree", "write", "/x", "/usr"],
            2,
            &["/usr is a directory", "cidfs add -r"],
        ),
        (&["journal", "show", "999999"], 3, &["cidfs journal status"]),
        (
            &[
                "journal",
                "log",
                "--from",
                "2026-01-02",
                "--until",
                "2026-01-01",
            ],
            2,
            &["from", "until"],
        ),
        (
            &["journal", "log", "--since", "5", "--before", "6"],
            2,
            &["since", "before"],
        ),
        (
            &["journal", "log", "--path", "/mfs/dir"],
            2,
            &["leave /mfs out"],
        ),
        (&["journal", "log", "--path", "/dir/../dir"], 2, &[".."]),
        (&["journal", "log", "--path", "/mfsx"], 0, &[]),
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.err);
        for word in words {
            assert!(done.err.contains(word), "{arguments:?}: {}", done.err);
        }
    }
    // A tree may have that name.
    place.good(&["tree", "mkdir", "/mfs"]);
    place.good(&["journal", "log", "--path", "/mfs"]);
    let daemon = Place::with_daemon();
    for seconds in ["0", "3601"] {
        let refused = daemon.run(&["tree", "begin", "--deadline", seconds]);
        assert_eq!(refused.code, 2);
        assert!(refused.err.contains("to 3600 s"), "{}", refused.err);
    }
}

#[test]
fn a_full_disk_is_the_one_that_the_output_goes_to() {
    let place = place();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let done = place
        .command()
        .args(["journal", "export"])
        .stdout(full)
        .output()
        .unwrap();
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(
        error.contains("where the output goes") && !error.contains("gc"),
        "{error}"
    );
}

#[test]
fn reading_makes_no_repository() {
    let place = Place::new();
    for arguments in [
        &["journal", "status"][..],
        &["tree", "ls"],
        &["snapshot", "ls"],
        &["fsck"],
        &["gc"],
        &["pin", "ls"],
        &["sources"],
        &["cat", "bafkqaaa"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, 3, "{arguments:?}: {}", done.err);
        assert!(done.err.contains("no repository is in"), "{}", done.err);
        assert!(!place.repo().exists(), "{arguments:?}");
    }
    place.good(&["status"]);
    place.good(&["tree", "mkdir", "/a"]);
    place.good(&["journal", "status"]);
}

#[test]
fn help_is_a_command_too() {
    let place = Place::new();
    assert!(place.good(&["help"]).contains("Commands:"));
    assert!(place.good(&["help", "tree"]).contains("mkdir"));
}

#[test]
fn the_status_is_for_people() {
    let place = Place::with_daemon();
    place.good(&["tree", "mkdir", "/a"]);
    let root = place.good(&["tree", "root", "--now"]);
    place.good(&["tree", "mkdir", "/b"]);
    let status = place.good(&["status"]);
    assert!(!status.contains(['{', '"']), "{status}");
    assert!(
        status.contains(&format!("tree     {} after entry", root.trim())),
        "{status}"
    );
    assert!(status.contains("; 1 change since\n"), "{status}");
    assert!(!status.contains("warning"), "{status}");
}

#[test]
fn the_status_of_the_journal_tells_what_a_start_has_cut_off() {
    let place = place();
    let name = "00000000000000000003-0000.torn";
    place.write(&format!("repo/journal/{name}"), "what was cut off");
    let status = place.good(&["journal", "status"]);
    assert!(
        status.contains(&format!("set aside   journal/{name}: ")),
        "{status}"
    );
}
