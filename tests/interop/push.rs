//! The tree's root, pushed to a real Kubo from a real mount.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::corpus::small;
use crate::kubo::{Kubo, Profile};
use crate::mounts::is_mountable;
use crate::product::Product;
use crate::run::{assert_same_tree, bounded, run};

/// A product that pushes to a Kubo by its repository: it may start later, on any port.
fn product_for(kubo: &Kubo) -> Product {
    let product = Product::new();
    product.configure(&format!(
        "[[push]]\nkind = \"kubo\"\nname = \"node\"\npath = \"{}\"\npin_name = \"my tree\"\n",
        kubo.repo().display()
    ));
    product
}

/// What the product tells of its one node.
fn node(product: &Product) -> Value {
    product.json(&["tree", "push", "--status"])["nodes"][0].clone()
}

#[track_caller]
fn until(product: &Product, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let told = node(product);
        if is_so(&told) {
            return told;
        }
        assert!(Instant::now() < end, "never: {what}: {told}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The tree is pushed, as far as it is checkpointed by now.
#[track_caller]
fn until_pushed(product: &Product, root: &str) -> Value {
    until(product, "it is pushed", |told| {
        told["root"] == root && told["state"] == "idle"
    })
}

fn checkpoint(product: &Product) -> String {
    let made = product.json(&["journal", "checkpoint"]);
    made["root"].as_str().unwrap().to_owned()
}

/// Pins with their names, without those that a repository is made with.
fn pins(kubo: &Kubo) -> Vec<String> {
    let said = kubo.run(&["pin", "ls", "--type=recursive", "--names"]);
    let text = said.expect_ok("ipfs pin ls");
    let ours = text.lines().filter(|line| line.ends_with("my tree"));
    ours.map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

fn blocks(kubo: &Kubo) -> usize {
    let said = kubo.run(&["refs", "local"]);
    said.expect_ok("ipfs refs local").lines().count()
}

#[track_caller]
fn assert_has_tree(kubo: &Kubo, root: &str, mount: &Path) {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    // Without the network: what it gives it has.
    kubo.run(&["get", "--offline", "--progress=false", "-o", out, root])
        .expect_ok("ipfs get");
    assert_same_tree(mount, Path::new(out));
    let verified = kubo.run(&["pin", "verify", "--verbose"]);
    let verified = verified.expect_ok("ipfs pin verify");
    assert!(verified.contains(&format!("{root} ok")), "{verified}");
}

fn copy(from: &Path, to: &Path) {
    let mut cp = bounded(OsStr::new("cp"));
    run(cp.arg("-a").arg(from).arg(to), b"").expect_ok("cp");
}

#[test]
fn a_tree_reaches_a_node_that_comes_later_and_from_then_on_by_what_changed() {
    if !is_mountable() {
        return;
    }
    let Some(mut kubo) = Kubo::offline(Profile::V1) else {
        return;
    };
    let (product, corpus) = (product_for(&kubo), small());
    let mounted = product.mount_tree();
    copy(&corpus.tree(), &mounted.path());
    fs::write(mounted.path().join("big"), vec![7; 5 << 20]).unwrap();
    let older = checkpoint(&product);
    let told = until(&product, "it waits", |told| told["state"] == "waiting");
    let why = told["last_error"].as_str().unwrap();
    assert!(why.contains("is the Kubo daemon running?"), "{why}");
    assert!(told["failures"].as_u64().unwrap() > 0 && told["again_in_ms"].is_u64());
    let said = product.run(&["tree", "push"]);
    assert!(!said.ok, "a push to nobody went well");
    let status = product.run(&["status"]).expect_ok("cidfs status");
    assert!(status.contains("push     node: waiting"), "{status}");
    fs::write(mounted.path().join("meanwhile"), "written").unwrap();
    let first = checkpoint(&product);

    kubo.serve();
    let told = until_pushed(&product, &first);
    assert_has_tree(&kubo, &first, &mounted.path());
    assert_eq!(pins(&kubo), std::slice::from_ref(&first));
    assert_eq!(
        (&told["pushes"], &told["failures_in_a_row"]),
        (&1.into(), &0.into())
    );
    assert!(
        !kubo.run(&["block", "stat", "--offline", &older]).ok,
        "an older root was pushed"
    );

    let before = (blocks(&kubo), told["blocks"].as_u64().unwrap());
    fs::write(mounted.path().join("small/sub/more"), "more").unwrap();
    let second = checkpoint(&product);
    let told = until_pushed(&product, &second);
    // The file and the three directories above it.
    assert_eq!(told["blocks"].as_u64().unwrap() - before.1, 4, "{told}");
    assert_eq!(blocks(&kubo) - before.0, 4);
    assert_has_tree(&kubo, &second, &mounted.path());
    assert_eq!(pins(&kubo), [second]);
}

#[test]
fn after_a_restart_of_either_side_pushing_goes_on_where_it_was() {
    if !is_mountable() {
        return;
    }
    let Some(mut kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    let (product, corpus) = (product_for(&kubo), small());
    let mounted = product.mount_tree();
    copy(&corpus.tree(), &mounted.path());
    let first = checkpoint(&product);
    until_pushed(&product, &first);
    drop(mounted);
    product.run(&["shutdown"]);

    kubo.stop();
    let mounted = product.mount_tree();
    fs::write(mounted.path().join("new"), "new").unwrap();
    let second = checkpoint(&product);
    until(&product, "it waits", |told| told["state"] == "waiting");
    kubo.serve();
    let told = until_pushed(&product, &second);
    assert_eq!(told["blocks"], 2, "{told}");
    assert_eq!(pins(&kubo), std::slice::from_ref(&second));
    assert_has_tree(&kubo, &second, &mounted.path());

    // Someone took the pin away, and all with it.
    drop(mounted);
    product.run(&["shutdown"]);
    kubo.run(&["pin", "rm", &second]).expect_ok("ipfs pin rm");
    kubo.run(&["repo", "gc", "-q"]).expect_ok("ipfs repo gc");
    let mounted = product.mount_tree();
    until(&product, "it is there again", |told| told["pushes"] == 1);
    assert_has_tree(&kubo, &second, &mounted.path());
}

#[test]
fn a_push_by_command_needs_neither_a_daemon_nor_a_configuration() {
    let Some(kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    let product = Product::new();
    product
        .run_in(Path::new("/"), &["tree", "write", "-p", "/a/b"], b"content")
        .expect_ok("cidfs tree write");
    let said = product.run(&["tree", "push"]);
    assert!(!said.ok && said.err.contains("[[push]]"), "{}", said.err);
    let to = format!("kubo:{}", kubo.api());
    let pushed = product.json(&["tree", "push", "--to", &to]);
    let root = pushed["root"].as_str().unwrap();
    assert_eq!(
        (
            &pushed["nodes"][0]["blocks"],
            &pushed["nodes"][0]["already"]
        ),
        (&3.into(), &false.into())
    );
    let read = kubo.run(&["cat", "--offline", &format!("/ipfs/{root}/a/b")]);
    assert_eq!(read.expect_ok("ipfs cat"), "content");
    let listed = kubo.run(&["ls", "--offline", root]).expect_ok("ipfs ls");
    assert!(listed.ends_with("a/"), "{listed}");
    // Another process, which knows it from the repository.
    let told = node(&product);
    assert_eq!(
        (&told["root"], &told["current"]),
        (&pushed["root"], &true.into())
    );
    let again = product.json(&["tree", "push", "--to", &to, "--wait"]);
    assert_eq!(again["nodes"][0]["already"], true);
}

#[test]
fn content_that_the_node_gave_itself_is_not_sent_back() {
    if !is_mountable() {
        return;
    }
    let Some(kubo) = Kubo::start(Profile::V1) else {
        return;
    };
    let corpus = small();
    let theirs = kubo
        .add(corpus.dir(), &["-r", "--hidden", corpus.name()])
        .unwrap();
    let product = Product::new();
    product.configure(&format!(
        "[[source]]\nkind = \"kubo\"\nurl = \"{0}\"\noffline = true\n\
         [[push]]\nkind = \"kubo\"\nurl = \"{0}\"\nname = \"node\"\npin_name = \"my tree\"\n",
        kubo.api()
    ));
    let mounted = product.mount_tree();
    product
        .run(&["tree", "mount", &theirs, "/theirs"])
        .expect_ok("cidfs tree mount");
    fs::write(mounted.path().join("mine"), "mine").unwrap();
    let root = checkpoint(&product);
    let told = until_pushed(&product, &root);
    // Root, file, and what was looked at of the mounted directory: itself.
    assert!(told["blocks"].as_u64().unwrap() <= 3, "{told}");
    assert!(told["far"].as_u64().unwrap() > 3, "{told}");
    assert_has_tree(&kubo, &root, &mounted.path());
}
