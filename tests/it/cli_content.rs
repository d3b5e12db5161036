//! Content by the command line: without a daemon, and with one.

use serde_json::Value;

use crate::cli_support::{Done, Place, assert_same, tree};

const HELLO: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

/// Runs a story in a repository without a daemon and in one with a daemon.
fn both(story: fn(&Place)) {
    story(&Place::new());
    story(&Place::with_daemon());
}

fn add(place: &Place) -> String {
    let tree = tree(place);
    place
        .good(&["add", "-rQ", tree.to_str().unwrap()])
        .trim()
        .to_owned()
}

#[test]
fn a_tree_that_was_added_comes_out_the_same() {
    both(|place| {
        let root = add(place);
        let out = place.path("out");
        place.good(&["get", &root, "-o", out.to_str().unwrap()]);
        assert_same(&place.path("tree"), &out);
    });
}

#[test]
fn a_file_is_printed_whole_and_in_part() {
    both(|place| {
        let root = add(place);
        assert_eq!(
            place.good(&["cat", &format!("{root}/a.txt")]),
            "hello world"
        );
        let part = [
            "cat",
            &format!("/ipfs/{root}/a.txt"),
            "--offset",
            "6",
            "--length",
            "3",
        ];
        assert_eq!(place.good(&part), "wor");
        assert_eq!(place.good(&["cat", &format!("{root}/sub/empty")]), "");
    });
}

#[test]
fn standard_input_can_be_added() {
    both(|place| {
        let done = place.feed(&["add", "-q"], b"hello world");
        assert_eq!((done.code, done.out.trim()), (0, HELLO), "{}", done.err);
        let done = place.feed(
            &["add", "-Q", "--stdin-name", "x", "-w", "-"],
            b"hello world",
        );
        let listed = place.good(&["ls", done.out.trim()]);
        assert_eq!(listed, "x\n");
    });
}

#[test]
fn entries_are_said_as_they_are_added() {
    both(|place| {
        let tree = tree(place);
        let out = place.good(&["add", "-r", tree.to_str().unwrap()]);
        let last = out.lines().last().unwrap();
        assert!(
            last.starts_with("added bafy") && last.ends_with(" tree"),
            "{out}"
        );
        assert!(
            out.lines()
                .any(|line| line == format!("added {HELLO} tree/a.txt")),
            "{out}"
        );
        assert_eq!(out.lines().count(), 6);
    });
}

#[test]
fn hashing_only_keeps_nothing() {
    let place = Place::new();
    let file = place.write("f", "hello world");
    assert_eq!(
        place.good(&["add", "-nQ", file.to_str().unwrap()]).trim(),
        HELLO
    );
    assert_eq!(place.run(&["cat", HELLO]).code, 4);
    assert_eq!(place.good(&["pin", "ls"]), "");
}

#[test]
fn the_old_profile_gives_the_old_cids() {
    let place = Place::new();
    let file = place.write("f", "hello world");
    let out = place.good(&[
        "add",
        "-Q",
        "--profile",
        "unixfs-v0-2015",
        file.to_str().unwrap(),
    ]);
    assert_eq!(out.trim(), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let place = Place::new();
    let file = place.write("f", "x");
    let file = file.to_str().unwrap();
    for flags in [
        &["--cid-version=0", "--hash=blake3"][..],
        &["--preserve-mode"],
        &["--chunker=nonsense"],
        &["--profile=nonsense"],
        &["--inline-limit=129", "--inline"],
        &["--mode=9"],
    ] {
        let done = place.run(&[&["add"], flags, &[file]].concat());
        assert_eq!(done.code, 2, "{flags:?}: {}", done.err);
    }
    let dir = place.dir.path().to_str().unwrap();
    assert_eq!(place.run(&["add", dir]).code, 2);
}

#[test]
fn modes_and_times_come_back() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    both(|place| {
        let file = place.write("f", "x");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 5);
        std::fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(time)
            .unwrap();
        let flags = [
            "add",
            "-Q",
            "--raw-leaves=false",
            "--preserve-mode",
            "--preserve-mtime",
        ];
        let root = place.good(&[&flags[..], &[file.to_str().unwrap()]].concat());
        let out = place.path("out");
        place.good(&["get", root.trim(), "-o", out.to_str().unwrap()]);
        let meta = std::fs::metadata(&out).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000, 5));
    });
}

#[test]
fn a_listing_shows_kinds_and_sizes() {
    both(|place| {
        let root = add(place);
        assert_eq!(place.good(&["ls", &root]), "a.txt\nsub/\n");
        let long = place.good(&["ls", "-l", &format!("{root}/sub")]);
        assert!(
            long.lines().any(|line| line.ends_with("3145728 big")),
            "{long}"
        );
        assert!(long.lines().any(|line| line.ends_with("link@")), "{long}");
        let json: Value = serde_json::from_str(&place.good(&["ls", "--json", &root])).unwrap();
        assert_eq!(json["entries"][0]["cid"], HELLO);
    });
}

#[test]
fn a_car_file_goes_out_and_comes_in_elsewhere() {
    both(|place| {
        let root = add(place);
        let car = place.path("x.car");
        place.good(&["export", &root, "-o", car.to_str().unwrap()]);
        let other = Place::new();
        let out = other.good(&["import", car.to_str().unwrap()]);
        assert!(out.starts_with(&format!("root {root}\n")), "{out}");
        let copy = other.path("copy");
        other.good(&["get", &root, "-o", copy.to_str().unwrap()]);
        assert_same(&place.path("tree"), &copy);
        let piped: Done = Place::new().feed(&["import", "-"], &std::fs::read(&car).unwrap());
        assert_eq!(piped.code, 0, "{}", piped.err);
        assert_eq!(
            std::fs::read_dir(place.dir.path())
                .unwrap()
                .flatten()
                .filter(|one| one.file_name().to_string_lossy().contains(".part"))
                .count(),
            0
        );
    });
}

#[test]
fn a_car_file_that_is_cut_or_damaged_is_refused_as_corrupt() {
    let place = Place::new();
    let root = add(&place);
    let car = place.path("x.car");
    place.good(&["export", &root, "-o", car.to_str().unwrap()]);
    let mut bytes = std::fs::read(&car).unwrap();
    let cut = place.write("cut.car", &bytes[..bytes.len() - 1]);
    *bytes.last_mut().unwrap() ^= 1;
    let damaged = place.write("damaged.car", &bytes);
    let rubbish = place.write("rubbish.car", "not a CAR file");
    for file in [cut, damaged, rubbish] {
        let done = Place::new().run(&["import", file.to_str().unwrap()]);
        assert_eq!(done.code, 5, "{}: {}", file.display(), done.err);
    }
}

#[test]
fn what_is_pinned_stays_and_what_is_not_goes() {
    both(|place| {
        let root = add(place);
        let file = place.write("loose", "not pinned");
        let loose = place.good(&["add", "-Q", "--pin=false", file.to_str().unwrap()]);
        place.good(&["gc"]);
        assert_eq!(place.run(&["cat", loose.trim()]).code, 4);
        assert_eq!(
            place.good(&["cat", &format!("{root}/a.txt")]),
            "hello world"
        );
        assert_eq!(place.good(&["pin", "ls"]), format!("{root} recursive\n"));
        place.good(&["pin", "rm", &root]);
        assert_eq!(place.run(&["pin", "rm", &root]).code, 3);
        place.good(&["gc"]);
        assert_eq!(place.run(&["cat", &format!("{root}/a.txt")]).code, 4);
    });
}

#[test]
fn a_scrub_finds_the_block_whose_bytes_have_changed() {
    let place = Place::new();
    let file = place.write("f", "hello world");
    place.good(&["add", file.to_str().unwrap()]);
    assert_eq!(place.run(&["verify"]).code, 0);
    for pack in std::fs::read_dir(place.repo().join("packs/own"))
        .unwrap()
        .flatten()
    {
        let mut bytes = std::fs::read(pack.path()).unwrap();
        let at = bytes.windows(5).position(|five| five == b"hello").unwrap();
        bytes[at] = b'j';
        std::fs::write(pack.path(), bytes).unwrap();
    }
    let done = place.run(&["verify"]);
    assert_eq!(done.code, 5, "{}", done.err);
    assert!(
        done.out.contains(&format!("damaged {HELLO}")),
        "{}",
        done.out
    );
}

#[test]
fn a_car_file_can_be_a_source_without_import() {
    let place = Place::new();
    let root = add(&place);
    let car = place.path("x.car");
    place.good(&["export", &root, "-o", car.to_str().unwrap()]);
    let other = Place::new();
    other.good(&["sources", "add", car.to_str().unwrap()]);
    assert_eq!(
        other.good(&["cat", &format!("{root}/a.txt")]),
        "hello world"
    );
    let listed = other.good(&["sources", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let name = listed["sources"][0]["name"].as_str().unwrap();
    other.good(&["sources", "test"]);
    other.good(&["sources", "rm", name]);
    assert_eq!(other.good(&["sources"]), "");
}
