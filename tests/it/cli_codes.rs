//! Exit codes, messages, and the daemon's commands that need no mount.

use std::process::Stdio;

use serde_json::Value;

use crate::cli_support::Place;

#[test]
fn failures_have_the_documented_exit_codes_and_say_what_to_do() {
    let place = Place::new();
    place.good(&["tree", "mkdir", "/a"]);
    let absent = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
    for (arguments, code) in [
        (&["nonsense"][..], 2),
        (&["cat"], 2),
        (&["cat", "no path"], 2),
        (&["cat", absent], 4),
        (&["get", absent], 4),
        (&["pin", "rm", absent], 3),
        (&["sources", "rm", "none"], 3),
        (&["sources", "add", "nonsense"], 2),
        (&["shutdown"], 4),
        (&["tree", "begin"], 4),
        (&["umount", "/"], 3),
        (&["mount", "/nonexistent/dir"], 3),
        (&["mount", "relative/path", "/"], 2),
        (&["import", "/nonexistent.car"], 3),
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, code, "{arguments:?}: {}", done.err);
        assert!(!done.err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn errors_are_json_if_that_was_asked_for() {
    let place = Place::new();
    let done = place.run(&["--json", "pin", "rm", "bafkqaaa"]);
    let error: Value = serde_json::from_str(&done.err).unwrap();
    assert_eq!(
        (done.code, &error["error"]["kind"]),
        (3, &Value::from("not_found"))
    );
}

#[test]
fn arguments_that_make_no_sense_are_an_error_in_json_too() {
    let place = Place::new();
    for arguments in [
        &["--json", "nonsense"][..],
        &["cat", "--json"],
        &["ls", "--json", "--colour", "x"],
        &["--json"],
    ] {
        let done = place.run(arguments);
        let error: Value = serde_json::from_str(&done.err).unwrap();
        assert_eq!((done.code, &error["success"]), (2, &Value::from(false)));
        assert_eq!(error["error"]["kind"], "invalid", "{arguments:?}");
        assert!(
            error["error"]["message"].as_str().unwrap().len() > 10,
            "{error}"
        );
    }
    let plain = place.run(&["cat", "--", "--json"]);
    assert!(plain.err.starts_with("cidfs: "), "{}", plain.err);
    let help = place.run(&["--json", "--help"]);
    assert_eq!((help.code, help.out.contains("Exit codes")), (0, true));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let place = Place::new();
    let file = place.write("f", vec![b'x'; 4 << 20]);
    let root = place.good(&["add", "-Q", file.to_str().unwrap()]);
    let mut command = place.command();
    command
        .args(["cat", root.trim()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_locked_repository_says_who_holds_it() {
    let place = Place::new();
    let held = cidfs::repo::Repo::open(&place.repo()).unwrap();
    let done = place.run(&["ls", "bafkqaaa"]);
    assert_eq!(done.code, 6, "{}", done.err);
    assert!(
        done.err
            .contains(&format!("process {}", std::process::id())),
        "{}",
        done.err
    );
    drop(held);
}

#[test]
fn a_bad_config_file_is_refused_with_its_line() {
    let place = Place::new();
    place.write("repo/config.toml", "[store]\nspeed = 1\n");
    let done = place.run(&["pin", "ls"]);
    assert_eq!(done.code, 2);
    assert!(
        done.err.contains("config.toml: line 2") && done.err.contains("speed"),
        "{}",
        done.err
    );
}

#[test]
fn status_tells_whether_a_daemon_runs_and_shutdown_ends_it() {
    let mut place = Place::with_daemon();
    let status: Value = serde_json::from_str(&place.good(&["status", "--json"])).unwrap();
    assert_eq!(status["daemon"], true);
    assert!(status["store"].is_object());
    place.good(&["shutdown"]);
    assert!(place.daemon_ended());
    let status: Value = serde_json::from_str(&place.good(&["status", "--json"])).unwrap();
    assert_eq!(status["daemon"], false);
    assert!(!place.repo().join("control.sock").exists());
}

#[test]
fn a_second_daemon_is_refused() {
    let place = Place::with_daemon();
    let done = place.run(&["daemon"]);
    assert_eq!(done.code, 6, "{}", done.err);
}

#[test]
fn help_and_completions_are_there() {
    let place = Place::new();
    let help = place.good(&["--help"]);
    assert!(
        help.contains("Exit codes:") && help.contains("CIDFS_REPO"),
        "{help}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.good(&["completions", shell]).contains("cidfs"));
    }
}

#[test]
fn paths_that_are_not_utf8_are_refused_or_shown_and_never_a_panic() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = std::ffi::OsStr::from_bytes(b"a\xff");
    std::fs::create_dir(place.dir.path().join(odd)).unwrap();
    for words in [&["add", "-r"][..], &["import"], &["mount"]] {
        let output = place.command().args(words).arg(odd).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains("UTF-8"), "{said}");
    }
    let file = place.write("f", "x");
    let root = place.good(&["add", "-Q", file.to_str().unwrap()]);
    let mut get = place.command();
    get.args(["--json", "get", root.trim(), "-o"])
        .arg(std::ffi::OsStr::from_bytes(b"b\xff"));
    let output = get.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut status = place.command();
    let output = status
        .env("CIDFS_REPO", place.dir.path().join(odd))
        .args(["--json", "status"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["daemon"], Value::from(false));
}

#[test]
fn after_shutdown_the_repository_is_free() {
    let place = Place::new();
    for _ in 0..5 {
        let mut daemon = place
            .command()
            .arg("daemon")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while place.run(&["status"]).out.starts_with("no daemon") {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        place.good(&["shutdown"]);
        let free = std::fs::File::open(place.repo().join("lock"))
            .unwrap()
            .try_lock();
        assert!(free.is_ok(), "{free:?}");
        daemon.wait().unwrap();
        place.good(&["fsck"]);
    }
}
