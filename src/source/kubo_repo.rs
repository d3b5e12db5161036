//! A Kubo repository on disk, read while its daemon runs or not.
//!
//! Reads the flatfs datastore only, and writes nothing: Kubo puts each block
//! into place by a rename, so a file that is there is whole. Format of the
//! directories: <https://github.com/ipfs/go-ds-flatfs>.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use multibase::Base;
use serde_json::Value;

use super::kubo_address::read_small;
use super::{BlockSource, Fetched, SourceError, SourceFigures};
use crate::block::{Block, Cid, Multihash};
use crate::config::BLOCK_BYTES_MAX;

/// The first version of a repository that names blocks by multihash.
const VERSION_MIN: u32 = 12;
/// Longest shard name that is believed.
const SHARD_LEN_MAX: usize = 64;

/// One repository.
pub struct KuboRepo {
    name: String,
    blocks: PathBuf,
    shard: Shard,
}

/// How flatfs chooses the directory of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shard {
    Prefix(usize),
    Suffix(usize),
    NextToLast(usize),
}

impl Shard {
    /// Reads what a `SHARDING` file says.
    fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("the shard function {:?} is not known", text.trim());
        let rest = text
            .trim()
            .strip_prefix("/repo/flatfs/shard/v1/")
            .ok_or_else(refuse)?;
        let (kind, len) = rest.split_once('/').ok_or_else(refuse)?;
        let len = len
            .parse()
            .ok()
            .filter(|len| (1..=SHARD_LEN_MAX).contains(len));
        let len = len.ok_or_else(refuse)?;
        match kind {
            "prefix" => Ok(Self::Prefix(len)),
            "suffix" => Ok(Self::Suffix(len)),
            "next-to-last" => Ok(Self::NextToLast(len)),
            _ => Err(refuse()),
        }
    }

    /// The directory of a key; a short key is filled up with underscores.
    fn directory(self, key: &str) -> String {
        let fill = "_".repeat(SHARD_LEN_MAX + 1);
        match self {
            Self::Prefix(len) => key.chars().chain(fill.chars()).take(len).collect(),
            Self::Suffix(len) => last(&format!("{fill}{key}"), len),
            Self::NextToLast(len) => {
                let mut filled = format!("{fill}{key}");
                filled.pop();
                last(&filled, len)
            }
        }
    }
}

/// The last `len` characters of an ASCII text.
fn last(text: &str, len: usize) -> String {
    text.get(text.len().saturating_sub(len)..)
        .unwrap_or_default()
        .to_owned()
}

/// The key of a block in flatfs: its multihash in upper-case base32.
fn key(hash: &Multihash) -> String {
    Base::Base32Upper.encode(hash.to_bytes())
}

impl KuboRepo {
    /// Opens the repository at `dir`, if its blocks are in flatfs.
    pub fn open(name: String, dir: &Path) -> Result<Self, String> {
        check_version(dir)?;
        let blocks = dir.join(blocks_directory(dir)?);
        let file = blocks.join("SHARDING");
        let text = read_small(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let shard = Shard::parse(&text).map_err(|why| format!("{}: {why}", file.display()))?;
        Ok(Self {
            name,
            blocks,
            shard,
        })
    }

    fn path(&self, cid: &Cid) -> PathBuf {
        let key = key(cid.hash());
        self.blocks
            .join(self.shard.directory(&key))
            .join(format!("{key}.data"))
    }
}

fn check_version(dir: &Path) -> Result<(), String> {
    let file = dir.join("version");
    let text = read_small(&file)
        .map_err(|error| format!("{} is no Kubo repository: version: {error}", dir.display()))?;
    match text.trim().parse::<u32>() {
        Ok(version) if version >= VERSION_MIN => Ok(()),
        Ok(version) => Err(format!(
            "{} has version {version}, and blocks are found from version {VERSION_MIN} on: run `ipfs repo migrate`",
            dir.display()
        )),
        Err(_) => Err(format!(
            "{} is no Kubo repository: its version is no number",
            dir.display()
        )),
    }
}

/// Finds where `datastore_spec` mounts `/blocks`.
fn blocks_directory(dir: &Path) -> Result<String, String> {
    let file = dir.join("datastore_spec");
    let text = match read_small(&file) {
        Ok(text) => text,
        // Repositories of long ago have none, and their blocks are in `blocks`.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok("blocks".to_owned()),
        Err(error) => return Err(format!("{}: {error}", file.display())),
    };
    let spec: Value = serde_json::from_str(&text)
        .map_err(|error| format!("{} is not understood: {error}", file.display()))?;
    let store = blocks_store(&spec).unwrap_or(&spec);
    let kind = store
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or("unknown");
    let path = store.get("path").and_then(Value::as_str);
    match (kind, path) {
        ("flatfs", Some(path)) => Ok(path.to_owned()),
        _ => Err(format!(
            "{} keeps its blocks in a {kind} datastore; only flatfs can be read beside the daemon. Use its RPC instead: kubo:{}",
            dir.display(),
            dir.display()
        )),
    }
}

/// The store that is mounted at `/blocks`, inside a `measure` if there is one.
fn blocks_store(spec: &Value) -> Option<&Value> {
    let mounts = spec.get("mounts")?.as_array()?;
    let mount = mounts
        .iter()
        .find(|mount| mount.get("mountpoint").and_then(Value::as_str) == Some("/blocks"))?;
    Some(mount.get("child").unwrap_or(mount))
}

/// Reads a block's file, or one byte more than a block may have.
fn read_block(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len().min(BLOCK_BYTES_MAX as u64 + 1);
    let mut data = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    file.take(BLOCK_BYTES_MAX as u64 + 1)
        .read_to_end(&mut data)?;
    Ok(data)
}

#[async_trait]
impl BlockSource for KuboRepo {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn get(&self, cid: &Cid) -> Result<Fetched, SourceError> {
        let (cid, path) = (*cid, self.path(cid));
        let io = |error| SourceError::Io {
            source_name: self.name.clone(),
            error: Arc::new(error),
        };
        let read = tokio::task::spawn_blocking(move || {
            read_block(&path).map(|data| Block::verify(cid, data.into()))
        });
        let what = || cid.to_string();
        match read
            .await
            .map_err(|error| io(std::io::Error::other(error)))?
        {
            Ok(Ok(block)) => Ok(Fetched { block, keep: false }),
            Ok(Err(error)) => Err(SourceError::Corrupt {
                what: what(),
                source_name: self.name.clone(),
                why: error.to_string(),
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(SourceError::NotFound {
                what: what(),
                source_name: self.name.clone(),
            }),
            Err(error) => Err(io(error)),
        }
    }

    async fn probe(&self) -> Result<(), SourceError> {
        match std::fs::metadata(&self.blocks) {
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::Io {
                source_name: self.name.clone(),
                error: Arc::new(error),
            }),
        }
    }

    fn is_local(&self) -> bool {
        true
    }

    fn figures(&self) -> Vec<SourceFigures> {
        vec![SourceFigures::named(self.name.clone())]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{RAW, SHA2_256};

    fn repo(spec: &str, sharding: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("version"), "18").unwrap();
        std::fs::write(dir.path().join("datastore_spec"), spec).unwrap();
        std::fs::create_dir(dir.path().join("blocks")).unwrap();
        std::fs::write(dir.path().join("blocks/SHARDING"), sharding).unwrap();
        dir
    }

    const FLATFS: &str = r#"{"mounts":[{"mountpoint":"/blocks","path":"blocks",
        "shardFunc":"/repo/flatfs/shard/v1/next-to-last/2","type":"flatfs"},
        {"mountpoint":"/","path":"datastore","type":"levelds"}],"type":"mount"}"#;

    #[test]
    fn shard_functions_choose_the_directories_that_flatfs_chooses() {
        for (text, long, short) in [
            ("/repo/flatfs/shard/v1/next-to-last/2\n", "EF", "__"),
            ("/repo/flatfs/shard/v1/prefix/3", "ABC", "A__"),
            ("/repo/flatfs/shard/v1/suffix/3", "EFG", "__A"),
        ] {
            let shard = Shard::parse(text).unwrap();
            assert_eq!(shard.directory("ABCDEFG"), long, "{text}");
            assert_eq!(shard.directory("A"), short, "{text}");
        }
        for text in [
            "",
            "/repo/flatfs/shard/v1/hash/2",
            "/repo/flatfs/shard/v1/prefix/0",
            "/repo/flatfs/shard/v1/prefix/999999999",
        ] {
            assert!(Shard::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_datastores_are_refused_with_what_to_do() {
        let dir = repo(r#"{"path":"badgerds","type":"badgerds"}"#, "");
        let why = KuboRepo::open("kubo-repo".into(), dir.path())
            .err()
            .unwrap();
        assert!(why.contains("badgerds") && why.contains("kubo:"), "{why}");
        std::fs::write(dir.path().join("version"), "11").unwrap();
        let why = KuboRepo::open("kubo-repo".into(), dir.path())
            .err()
            .unwrap();
        assert!(why.contains("migrate"), "{why}");
    }

    #[tokio::test]
    async fn blocks_are_found_by_multihash_and_proved() {
        let dir = repo(FLATFS, "/repo/flatfs/shard/v1/next-to-last/2");
        let source = KuboRepo::open("kubo-repo".into(), dir.path()).unwrap();
        let block = Block::seal(RAW, SHA2_256, Bytes::from_static(b"hello")).unwrap();
        assert!(matches!(
            source.get(block.cid()).await,
            Err(SourceError::NotFound { .. })
        ));

        let path = source.path(block.cid());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"hello").unwrap();
        let fetched = source.get(block.cid()).await.unwrap();
        assert_eq!((fetched.block, fetched.keep), (block.clone(), false));

        std::fs::write(&path, b"jello").unwrap();
        assert!(matches!(
            source.get(block.cid()).await,
            Err(SourceError::Corrupt { .. })
        ));
        std::fs::write(&path, vec![0; BLOCK_BYTES_MAX + 1]).unwrap();
        assert!(matches!(
            source.get(block.cid()).await,
            Err(SourceError::Corrupt { .. })
        ));
    }
}
