//! What shows on a terminal, through a pseudo terminal of `script`.

use std::fs::{self, File};

use super::world::{World, a_tree};

/// Runs a command on a terminal of 100 columns; gives what it drew.
fn on_a_terminal(world: &World, command: &str, keys: &str) -> String {
    world.sh(&format!(
        r#"export TERM=xterm LESS= COMMAND='stty cols 100 rows 24; {command}'
        {keys} | timeout 60 script --quiet --return --command "$COMMAND" "$T/screen"
        cat "$T/screen""#
    ))
}

#[test]
fn less_shows_pages_of_a_file_on_the_mount_and_searches_it() {
    let world = World::new(|dir| {
        let lines: Vec<_> = (1..=30_000).map(|n| format!("line {n} of many")).collect();
        fs::write(dir.join("text"), lines.join("\n") + "\n").unwrap();
    });
    // With its output piped it is cat.
    world.sh(r#"less "$M/text" | cmp - "$N/text""#);
    let screen = on_a_terminal(&world, r#"less +/20000 "$M/text""#, "(sleep 1; printf q)");
    assert!(screen.contains("20000"), "{screen:?}");
    assert!(screen.contains("line 20001 of many"), "{screen:?}");
    assert!(!screen.contains("line 1 of many"), "{screen:?}");
    let screen = on_a_terminal(&world, r#"less +G "$M/text""#, "(sleep 1; printf q)");
    assert!(screen.contains("line 30000 of many"), "{screen:?}");
}

#[test]
fn a_progress_bar_is_drawn_on_a_terminal_and_taken_away() {
    let world = World::new(a_tree);
    // Long enough to be seen, and no bytes on the disk.
    let sparse = File::create(world.native.join("sparse")).unwrap();
    sparse.set_len(3 << 30).unwrap();
    let program = env!("CARGO_BIN_EXE_cidfs");
    let repo = world.temp.path().join("repo");
    let add = format!(
        r#"{program} --repo {} add -n -Q "$N/sparse""#,
        repo.display()
    );
    let screen = on_a_terminal(&world, &add, ":");
    let percents = screen.matches("% ").count();
    assert!(percents >= 3 && screen.contains("3.00 GiB"), "{screen:?}");
    assert!(screen.contains("adding"), "{screen:?}");
    // The last bar was wiped, and then the CID came on a line of its own.
    let (bars, after) = screen.rsplit_once('\u{1b}').unwrap();
    assert!(bars.contains("adding"), "{screen:?}");
    assert!(
        !after.contains('%') && !after.contains("adding"),
        "{after:?}"
    );
    assert!(after.contains("baf"), "{after:?}");
    let plain = world.sh(&format!("{add} 2>&1"));
    assert_eq!(
        plain.lines().count(),
        1,
        "no bar without a terminal: {plain:?}"
    );
}
