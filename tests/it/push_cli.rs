//! `cidfs tree push` and what tells of it, without a node that answers.

use std::net::TcpListener;

use serde_json::Value;

use crate::cli_support::Place;

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn configure(place: &Place, url: &str) {
    let text = format!("[[push]]\nkind = \"kubo\"\nurl = \"{url}\"\nname = \"home\"\n");
    place.write("repo/config.toml", text);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_push_without_a_node_says_how_to_name_one() {
    let place = Place::new();
    place.good(&["tree", "mkdir", "/a"]);
    let done = place.run(&["tree", "push"]);
    assert_eq!(done.code, 2, "{}", done.err);
    assert!(done.err.contains("--to kubo:ADDRESS") && done.err.contains("[[push]]"));
    for bad in ["nonsense", "car:x.car", "gateway:https://example.net"] {
        let done = place.run(&["tree", "push", "--to", bad]);
        assert_eq!(done.code, 2, "{bad}: {}", done.err);
    }
    assert_eq!(place.good(&["tree", "push", "--status"]), "");
    let done = place.run(&["tree", "push", "--status", "--wait"]);
    assert_eq!(done.code, 2, "{}", done.err);
}

#[test]
fn a_node_that_is_away_is_no_success_and_is_named() {
    let place = Place::new();
    configure(&place, &nobody());
    for arguments in [&["tree", "push"][..], &["tree", "push", "--to", "home"]] {
        let done = place.run(arguments);
        assert_eq!(done.code, 4, "{}", done.err);
        assert!(done.err.contains("home"), "{}", done.err);
    }
    let done = place.run(&["tree", "push", "--json"]);
    assert_eq!(json(&done.err)["error"]["kind"], "unavailable");
    let told = json(&place.good(&["tree", "push", "--status", "--json"]));
    assert_eq!(told["nodes"][0]["name"], "home");
    assert_eq!(told["nodes"][0]["root"], Value::Null);
}

#[test]
fn of_two_nodes_each_has_its_outcome() {
    let place = Place::new();
    let table = |name: &str| {
        let url = nobody();
        format!("[[push]]\nkind = \"kubo\"\nurl = \"{url}\"\nname = \"{name}\"\n")
    };
    place.write("repo/config.toml", table("one") + &table("two"));
    let done = place.run(&["tree", "push", "--json"]);
    assert_eq!(done.code, 4, "{}", done.err);
    let nodes = &json(&done.out)["nodes"];
    for (at, name) in ["one", "two"].iter().enumerate() {
        assert_eq!(
            (&nodes[at]["name"], &nodes[at]["ok"]),
            (&(*name).into(), &false.into())
        );
        assert_eq!(nodes[at]["error"]["kind"], "unavailable");
    }
    place.write("repo/config.toml", table("one") + &table("one"));
    let done = place.run(&["tree", "root"]);
    assert!(
        done.code != 0 && done.err.contains("\"one\""),
        "{}",
        done.err
    );
}

#[test]
fn a_configuration_that_names_no_kubo_is_refused() {
    let place = Place::new();
    place.write(
        "repo/config.toml",
        "[[push]]\nkind = \"car\"\npath = \"x\"\n",
    );
    let done = place.run(&["tree", "root"]);
    assert_eq!(done.code, 2, "{}", done.err);
    assert!(done.err.contains("kubo:ADDRESS"), "{}", done.err);
}

#[test]
fn a_daemon_shows_in_every_place_that_a_node_is_away() {
    let place = Place::with_daemon_after(|place| configure(place, &nobody()));
    place.feed(&["tree", "write", "/file"], b"content");
    place.good(&["journal", "checkpoint"]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let waiting = || json(&place.good(&["tree", "push", "--status", "--json"]))["nodes"][0].clone();
    while waiting()["state"] != "waiting" {
        assert!(std::time::Instant::now() < end, "{}", waiting());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let told = place.good(&["tree", "push", "--status"]);
    assert!(told.starts_with("home: waiting, again in "), "{told}");
    assert!(
        told.contains("has nothing yet") && told.contains("last error: "),
        "{told}"
    );
    assert!(place.good(&["status"]).contains("push     home: "));
    assert!(
        place
            .good(&["journal", "status"])
            .contains("push        home: ")
    );
    let status = json(&place.good(&["journal", "status", "--json"]));
    assert_eq!(status["push"][0]["name"], "home");
    place.good(&["journal", "monitor"]);
    let monitor = place.run(&["journal", "monitor", "--json"]);
    let checks = json(&monitor.out)["checks"].clone();
    let of = |check: &&Value| check["name"] == "push_failures";
    let found = checks.as_array().unwrap().iter().find(of).unwrap();
    assert!(found["value"].as_u64().unwrap() >= 1, "{found}");
}
