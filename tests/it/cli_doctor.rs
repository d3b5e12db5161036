//! `cidfs doctor`, on repositories that are well and not.

use serde_json::Value;

use crate::cli_support::Place;

/// Runs it: the exit code, and the report.
fn doctor(place: &Place) -> (i32, Value) {
    let done = place.run(&["doctor", "--json"]);
    let report = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.err));
    (done.code, report)
}

/// Status, and what to do next, of the check of a name.
fn check(report: &Value, name: &str) -> (String, Option<String>) {
    let found = report["checks"].as_array().unwrap().iter();
    let found = found.clone().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name} in {report}"));
    let text = |field: &str| found[field].as_str().map(str::to_owned);
    (text("status").unwrap(), text("try"))
}

#[test]
fn a_doctor_who_finds_nothing_makes_nothing() {
    let place = Place::new();
    let (code, report) = doctor(&place);
    // This machine may have no FUSE; the code says what the report says.
    assert_eq!(report["healthy"].as_bool(), Some(code == 0), "{report}");
    assert_eq!(check(&report, "directory").0, "ok");
    assert!(!place.repo().exists());
    let text = place.run(&["doctor"]).out;
    assert!(text.contains("  ok    kernel: Linux "), "{text}");
}

#[test]
fn a_running_daemon_is_asked_and_a_bad_config_fails_with_what_to_do() {
    let place = Place::with_daemon();
    let (_, report) = doctor(&place);
    assert_eq!(check(&report, "socket").0, "ok");
    assert_eq!(check(&report, "journal").0, "ok");
    assert_eq!(check(&report, "version").0, "ok");
    std::fs::write(place.repo().join("config.toml"), "[store]\nspeed = 1\n").unwrap();
    let (code, report) = doctor(&place);
    assert_eq!(code, 1);
    let (status, next) = check(&report, "config");
    assert!(status == "fail" && next.is_some(), "{report}");
}
