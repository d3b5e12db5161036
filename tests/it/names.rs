//! IPNS names in the tree: followed, kept for their time, never in circles.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cidfs::block::Cid;
use cidfs::testing::dag::Dag;
use cidfs::tree::{NameError, NameResolver, Node, Resolved, RootLister, Tree, TreeError};

use crate::support::{Shelf, reader};

#[derive(Default)]
struct Register {
    names: Mutex<HashMap<String, (String, Duration)>>,
    asked: AtomicUsize,
}

impl Register {
    fn set(&self, name: &str, value: &str, ttl_ms: u64) {
        let entry = (value.to_owned(), Duration::from_millis(ttl_ms));
        self.names.lock().unwrap().insert(name.to_owned(), entry);
    }
}

#[async_trait]
impl NameResolver for Register {
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let found = self.names.lock().unwrap().get(name).cloned();
        let (value, ttl) = found.ok_or_else(|| NameError::Unknown(name.into()))?;
        Ok(Resolved { value, ttl })
    }
}

struct NoRoots;

impl RootLister for NoRoots {
    fn roots(&self) -> Vec<Cid> {
        Vec::new()
    }
}

struct World {
    tree: Arc<Tree>,
    register: Arc<Register>,
    old: Cid,
    new: Cid,
    leaf: Cid,
}

fn world() -> World {
    let mut dag = Dag::default();
    let leaf = dag.leaf("content");
    let old = dag.directory(&[("file", leaf)]);
    let new = dag.directory(&[("sub", old)]);
    let register = Arc::new(Register::default());
    let tree = Tree::new(reader(&Shelf::of(dag)), register.clone(), Arc::new(NoRoots));
    World {
        tree,
        register,
        old,
        new,
        leaf,
    }
}

#[tokio::test]
async fn a_name_leads_through_names_and_paths_to_content() {
    let world = world();
    world
        .register
        .set("a.example.net", "/ipns/b.example.net/sub", 60_000);
    world
        .register
        .set("b.example.net", &format!("/ipfs/{}", world.new), 60_000);
    let node = world
        .tree
        .resolve("/ipns/a.example.net/file")
        .await
        .unwrap();
    assert_eq!(node, Node::Object(world.leaf));
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_asked_for_again_after_it() {
    let world = world();
    world
        .register
        .set("a.example.net", &format!("/ipfs/{}", world.old), 1);
    let first = world.tree.resolve("/ipns/a.example.net").await.unwrap();
    assert_eq!(first, Node::Object(world.old));
    world
        .register
        .set("a.example.net", &format!("/ipfs/{}", world.new), 1);
    let kept = world.tree.resolve("/ipns/a.example.net").await.unwrap();
    assert_eq!(kept, first, "a second is the least");
    assert_eq!(world.register.asked.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let later = world.tree.resolve("/ipns/a.example.net").await.unwrap();
    assert_eq!(later, Node::Object(world.new));
}

#[tokio::test]
async fn names_in_a_circle_end_in_an_error() {
    let world = world();
    world
        .register
        .set("a.example.net", "/ipns/b.example.net", 1000);
    world
        .register
        .set("b.example.net", "/ipns/a.example.net", 1000);
    let outcome = world.tree.resolve("/ipns/a.example.net").await;
    assert!(
        matches!(outcome, Err(TreeError::Unavailable(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_unavailable_and_what_is_no_name_is_absent() {
    let world = world();
    let unknown = world.tree.resolve("/ipns/unknown.example.net").await;
    assert!(
        matches!(unknown, Err(TreeError::Unavailable(_))),
        "{unknown:?}"
    );
    let no_name = world.tree.resolve("/ipns/.Trash").await;
    assert!(matches!(no_name, Err(TreeError::NotFound)), "{no_name:?}");
}

#[tokio::test]
async fn a_mount_of_a_name_follows_it() {
    let world = world();
    world
        .register
        .set("a.example.net", &format!("/ipfs/{}", world.old), 1);
    let root = world
        .tree
        .resolve_root("/ipns/a.example.net")
        .await
        .unwrap();
    assert_eq!(root, Node::Name("a.example.net".into()));
    let found = world.tree.lookup(&root, b"file").await.unwrap();
    assert_eq!(found.node, Node::Object(world.leaf));
    assert!(found.ttl.is_some(), "it may change with the name");
}

#[tokio::test]
async fn a_path_that_is_no_path_of_the_tree_says_so() {
    let world = world();
    for (path, part) in [
        ("/ipfs/notacid", "not a CID"),
        ("/ipfs/bafy/x", "not a CID"),
    ] {
        let error = world.tree.resolve(path).await.unwrap_err().to_string();
        assert!(error.contains(part), "{path}: {error}");
    }
    let absent = world.tree.resolve("/nothing").await;
    assert!(matches!(absent, Err(TreeError::NotFound)));
}
