//! What was pushed, over restarts: the file `push.json`.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::PushError;
use crate::block::Cid;
use crate::config::{PUSH_FILE_BYTES_MAX, PUSH_NODES_KEPT_MAX};
use crate::disk::{Disk, replace};

/// Version of the file.
const VERSION: u32 = 1;

/// A root that a node pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PinnedRoot {
    pub(super) root: Cid,
    /// Last journal entry that is in it.
    pub(super) sequence: u64,
    /// Seconds since the epoch.
    pub(super) at: u64,
}

/// What one node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The root that it pinned last.
    pub(super) pinned: Option<PinnedRoot>,
    /// A root whose blocks it got, and that it has not pinned; and how many
    /// subtrees were left out.
    pub(super) delivered: Option<(Cid, u64)>,
    /// Roots that it may have pinned because of us, oldest first.
    pub(super) ours: Vec<Cid>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    nodes: BTreeMap<String, Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(default)]
    sequence: u64,
    #[serde(default)]
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<String>,
    #[serde(default)]
    far: u64,
    #[serde(default)]
    ours: Vec<String>,
}

/// The file, and what it says.
pub(super) struct KeptFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    nodes: Mutex<BTreeMap<String, Kept>>,
}

impl KeptFile {
    /// Reads the file. One that is damaged is as none: the tree is sent once more.
    pub(super) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        let nodes = match disk.read(&path, PUSH_FILE_BYTES_MAX) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.to_string()),
        };
        let nodes = nodes.unwrap_or_else(|why| {
            let file = path.display();
            tracing::warn!("{file}: {why}; each node is sent the whole tree once more");
            BTreeMap::new()
        });
        Self {
            disk,
            path,
            nodes: Mutex::new(nodes),
        }
    }

    /// What a node has.
    pub(super) fn get(&self, name: &str) -> Kept {
        self.nodes.lock().get(name).cloned().unwrap_or_default()
    }

    /// What each node has.
    pub(super) fn all(&self) -> BTreeMap<String, Kept> {
        self.nodes.lock().clone()
    }

    /// Changes what a node has, durably: in the file first, in memory then.
    /// Waits for the disk.
    pub(super) fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Kept),
    ) -> Result<(), PushError> {
        let mut nodes = self.nodes.lock();
        let mut changed = nodes.clone();
        change(changed.entry(name.to_owned()).or_default());
        while changed.len() > PUSH_NODES_KEPT_MAX {
            let others = changed.iter().filter(|(other, _)| *other != name);
            let oldest = others.min_by_key(|(_, kept)| kept.pinned.map_or(0, |pinned| pinned.at));
            let Some(oldest) = oldest.map(|(other, _)| other.clone()) else {
                break;
            };
            changed.remove(&oldest);
        }
        if changed == *nodes {
            return Ok(());
        }
        let written = encode(&changed).and_then(|bytes| replace(&*self.disk, &self.path, &bytes));
        written.map_err(|error| PushError::Kept {
            file: self.path.clone(),
            error: Arc::new(error),
        })?;
        *nodes = changed;
        Ok(())
    }
}

fn encode(nodes: &BTreeMap<String, Kept>) -> io::Result<Vec<u8>> {
    let line = |(name, kept): (&String, &Kept)| {
        let line = Line {
            root: kept.pinned.map(|pinned| pinned.root.to_string()),
            sequence: kept.pinned.map_or(0, |pinned| pinned.sequence),
            at: kept.pinned.map_or(0, |pinned| pinned.at),
            delivered: kept.delivered.map(|(cid, _)| cid.to_string()),
            far: kept.delivered.map_or(0, |(_, far)| far),
            ours: kept.ours.iter().map(Cid::to_string).collect(),
        };
        (name.clone(), line)
    };
    let file = File {
        version: VERSION,
        nodes: nodes.iter().map(line).collect(),
    };
    let mut bytes = serde_json::to_vec_pretty(&file).map_err(io::Error::from)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<BTreeMap<String, Kept>, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("version {} is not known", file.version));
    }
    let cid = |text: &String| text.parse::<Cid>().map_err(|error| error.to_string());
    let kept = |line: Line| {
        let pinned = line.root.as_ref().map(|root| {
            Ok::<_, String>(PinnedRoot {
                root: cid(root)?,
                sequence: line.sequence,
                at: line.at,
            })
        });
        let delivered = line.delivered.as_ref();
        let delivered = delivered.map(|root| Ok::<_, String>((cid(root)?, line.far)));
        Ok::<_, String>(Kept {
            pinned: pinned.transpose()?,
            delivered: delivered.transpose()?,
            ours: line.ours.iter().map(cid).collect::<Result<_, _>>()?,
        })
    };
    let nodes = file.nodes.into_iter();
    nodes.map(|(name, line)| Ok((name, kept(line)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn cid(text: &'static str) -> Cid {
        let block = crate::block::Block::seal(0x55, 0x12, text.into()).unwrap();
        *block.cid()
    }

    #[test]
    fn what_was_pushed_is_there_after_a_restart_for_each_node() {
        let dir = tempfile::tempdir().unwrap();
        let open = || KeptFile::open(Arc::new(RealDisk), dir.path().join("push.json"));
        assert_eq!(open().get("one"), Kept::default());
        let wanted = Kept {
            pinned: Some(PinnedRoot {
                root: cid("a"),
                sequence: 7,
                at: 1_700_000_000,
            }),
            delivered: Some((cid("b"), 3)),
            ours: vec![cid("a"), cid("b")],
        };
        open()
            .change("one \"quoted\"", |kept| *kept = wanted.clone())
            .unwrap();
        open()
            .change("two", |kept| kept.ours.push(cid("c")))
            .unwrap();
        assert_eq!(open().get("one \"quoted\""), wanted);
        assert_eq!(open().get("two").ours, [cid("c")]);
    }

    #[test]
    fn a_damaged_file_is_as_none_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("push.json");
        let open = || KeptFile::open(Arc::new(RealDisk), path.clone());
        open()
            .change("one", |kept| kept.delivered = Some((cid("a"), 0)))
            .unwrap();
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() - 1 {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert_eq!(open().get("one"), Kept::default(), "cut at {cut}");
        }
        open()
            .change("one", |kept| kept.delivered = Some((cid("b"), 0)))
            .unwrap();
        assert_eq!(open().get("one").delivered, Some((cid("b"), 0)));
    }

    #[test]
    fn of_too_many_nodes_the_one_that_got_a_root_longest_ago_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeptFile::open(Arc::new(RealDisk), dir.path().join("push.json"));
        for at in 0..=PUSH_NODES_KEPT_MAX as u64 {
            let pinned = PinnedRoot {
                root: cid("a"),
                sequence: 1,
                at: at + 1,
            };
            file.change(&format!("node {at}"), |kept| kept.pinned = Some(pinned))
                .unwrap();
        }
        assert_eq!(file.all().len(), PUSH_NODES_KEPT_MAX);
        assert_eq!(file.get("node 0"), Kept::default());
        assert!(file.get("node 1").pinned.is_some());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_remembered_either() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeptFile::open(Arc::new(RealDisk), dir.path().join("absent/push.json"));
        let refused = file.change("one", |kept| kept.delivered = Some((cid("a"), 0)));
        assert!(matches!(refused, Err(PushError::Kept { .. })));
        assert_eq!(file.get("one"), Kept::default());
    }
}
