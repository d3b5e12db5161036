//! A mount in a temporary directory that goes away with its test, also after a panic.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cidfs::block::{Block, Cid, Multihash};
use cidfs::cache::{Blocks, StoreOptions};
use cidfs::car::CarReader;
use cidfs::fs::{Mount, MountOptions, mount};
use cidfs::source::{BlockSource, Fetched, SourceError, SourceFigures};
use cidfs::testing::dag::Dag;
use cidfs::tree::{NameError, NameResolver, Node, Resolved, RootLister, Tree};
use cidfs::unixfs::Reader;
use tokio::runtime::Runtime;

/// The directory of shared fixtures; `None`, said aloud, where there is none.
pub(crate) fn fixtures() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures");
    let dir = std::env::var_os("CIDFS_FIXTURES").map_or_else(|| beside.into(), PathBuf::from);
    let dir = dir.join("gateway-conformance");
    if !dir.is_dir() {
        eprintln!(
            "SKIPPED: the gateway-conformance fixtures are not at {}",
            dir.display()
        );
        return None;
    }
    Some(dir)
}

/// Blocks in memory, some of which misbehave.
#[derive(Default)]
pub(crate) struct Memory {
    blocks: HashMap<Multihash, Block>,
    roots: Vec<Cid>,
    faults: Mutex<HashMap<Multihash, Fault>>,
}

/// How a block misbehaves.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// It never comes.
    Hang,
    /// Nobody has it.
    Absent,
    /// The source breaks off.
    Broken,
}

impl Memory {
    pub(crate) fn of(dag: Dag) -> Self {
        let blocks = dag
            .blocks
            .into_iter()
            .map(|b| (*b.cid().hash(), b))
            .collect();
        Self {
            blocks,
            ..Self::default()
        }
    }

    pub(crate) fn fault(&self, cid: &Cid, fault: Fault) {
        self.faults.lock().unwrap().insert(*cid.hash(), fault);
    }

    pub(crate) fn mend(&self, cid: &Cid) {
        self.faults.lock().unwrap().remove(cid.hash());
    }

    pub(crate) fn of_car(path: &Path) -> Self {
        let mut memory = Self::default();
        let file = BufReader::new(File::open(path).unwrap());
        let mut car = CarReader::new(file).unwrap();
        memory.roots = car.header().roots.clone();
        while let Some(section) = car.next_section().unwrap() {
            let block = Block::verify(*section.cid(), section.data).unwrap();
            memory.blocks.insert(*block.cid().hash(), block.clone());
        }
        memory
    }
}

#[async_trait]
impl BlockSource for Memory {
    fn name(&self) -> String {
        "memory".into()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let fault = self.faults.lock().unwrap().get(cid.hash()).copied();
        let (what, source_name) = (cid.to_string(), self.name());
        match fault {
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Absent) => return Err(SourceError::NotFound { what, source_name }),
            Some(Fault::Broken) => {
                let why = "broke off".into();
                return Err(SourceError::Unreachable {
                    what,
                    source_name,
                    why,
                });
            }
            None => {}
        }
        let found = self.blocks.get(cid.hash()).cloned();
        let block = found.map(|b| Block::verify(*cid, b.into_data()).unwrap());
        block
            .map(|block| Fetched { block, keep: false })
            .ok_or(SourceError::NotFound { what, source_name })
    }

    fn roots(&self) -> Vec<Cid> {
        self.roots.clone()
    }

    fn figures(&self) -> Vec<SourceFigures> {
        Vec::new()
    }
}

struct NoNames;

#[async_trait]
impl NameResolver for NoNames {
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        Err(NameError::Unknown(name.into()))
    }
}

struct Roots(Arc<dyn BlockSource>);

impl RootLister for Roots {
    fn roots(&self) -> Vec<Cid> {
        self.0.roots()
    }
}

/// A mount of this process.
pub(crate) struct Mounted {
    pub(crate) dir: PathBuf,
    mount: Option<Mount>,
    _temp: tempfile::TempDir,
    _runtime: Runtime,
}

impl Mounted {
    pub(crate) fn new(source: Arc<dyn BlockSource>, options: &str) -> Self {
        let deadline = MountOptions::parse(options).unwrap().deadline;
        Self::fetching(source, options, deadline)
    }

    /// A mount of a tree that fetches for so long where nobody says otherwise.
    pub(crate) fn fetching(
        source: Arc<dyn BlockSource>,
        options: &str,
        deadline: Duration,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let blocks = Blocks::without_disk(StoreOptions::default(), source.clone());
        let options = MountOptions::parse(options).unwrap();
        let reader = Reader::with_deadline(blocks, deadline);
        let tree = Tree::new(reader, Arc::new(NoNames), Arc::new(Roots(source)));
        let temp = tempfile::tempdir().unwrap();
        let handle = runtime.handle().clone();
        let mount = mount(tree, Node::Top, temp.path(), &options, handle).unwrap();
        let dir = mount.dir().to_owned();
        Self {
            dir,
            mount: Some(mount),
            _temp: temp,
            _runtime: runtime,
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(mount) = self.mount.take() else {
            return;
        };
        if let Err(error) = mount.unmount(false).or_else(|_| mount.unmount(true)) {
            eprintln!("not unmounted: {error}");
        }
    }
}
