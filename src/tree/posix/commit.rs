//! The commit object: one block that names a whole state of the tree.
//!
//! dag-cbor `{"root": link, "time": [seconds, nanoseconds], "posix": link,
//! "parent": link, "version": 1, "sequence": number}`; `posix` and `parent` are
//! left out where there is none. A collection that follows links from it keeps
//! the content, the posix DAG, and the commits before it.

use super::cbor::{Reader, Writer};
use super::record::{self, Fields, RecordError, Time};
use crate::block::{Block, BlockError, Cid, DAG_CBOR, SHA2_256};
use crate::config::COMMIT_BYTES_MAX;

/// Version of the commit object.
const VERSION: u64 = 1;

/// A state of the tree as a checkpoint names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The last journal entry that is in it.
    pub sequence: u64,
    /// When it was made.
    pub time: Time,
    /// The commit before it.
    pub parent: Option<Cid>,
    /// The UnixFS directory.
    pub root: Cid,
    /// The posix map; `None` is the empty one.
    pub posix: Option<Cid>,
}

impl Commit {
    /// Encodes the object.
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.field("root").link(&self.root);
        self.time.write(fields.field("time"));
        if let Some(posix) = &self.posix {
            fields.field("posix").link(posix);
        }
        if let Some(parent) = &self.parent {
            fields.field("parent").link(parent);
        }
        fields.field("version").uint(VERSION);
        fields.field("sequence").uint(self.sequence);
        let mut writer = Writer::default();
        fields.write(&mut writer);
        writer.finish()
    }

    /// Makes the object's block.
    pub fn seal(&self) -> Result<Block, BlockError> {
        Block::seal(DAG_CBOR, SHA2_256, self.encode().into())
    }

    /// Decodes and checks an object.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > COMMIT_BYTES_MAX {
            return Err(RecordError::TooLarge("commit object"));
        }
        let mut reader = Reader::new(bytes);
        let (mut sequence, mut time, mut version) = (None, None, None);
        let (mut root, mut parent, mut posix) = (None, None, None);
        for _ in 0..reader.map()? {
            match reader.text()? {
                b"root" => root = Some(reader.link()?),
                b"time" => time = Some(Time::read(&mut reader)?),
                b"posix" => posix = Some(reader.link()?),
                b"parent" => parent = Some(reader.link()?),
                b"version" => version = Some(reader.uint()?),
                b"sequence" => sequence = Some(reader.uint()?),
                other => return Err(record::unknown(other)),
            }
        }
        reader.end()?;
        match version {
            Some(VERSION) => {}
            Some(other) => return Err(RecordError::Version(other)),
            None => return Err(RecordError::Missing("version")),
        }
        let commit = Self {
            sequence: sequence.ok_or(RecordError::Missing("sequence"))?,
            time: time.ok_or(RecordError::Missing("time"))?,
            parent,
            root: root.ok_or(RecordError::Missing("root"))?,
            posix,
        };
        record::canonical(commit, Self::encode, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_PB, RAW};
    use crate::unixfs::links::links;

    fn cid(codec: u64, seed: &'static str) -> Cid {
        *Block::seal(codec, SHA2_256, seed.into()).unwrap().cid()
    }

    fn commit() -> Commit {
        Commit {
            sequence: 70_000,
            time: Time {
                sec: 1_700_000_000,
                nsec: 5,
            },
            parent: Some(cid(DAG_CBOR, "parent")),
            root: *Block::seal_v0("root".into()).unwrap().cid(),
            posix: Some(cid(DAG_CBOR, "posix")),
        }
    }

    #[test]
    fn a_commit_is_read_back_as_it_was_written() {
        let least = Commit {
            parent: None,
            posix: None,
            root: cid(RAW, "root"),
            ..commit()
        };
        for commit in [commit(), least] {
            assert_eq!(Commit::decode(&commit.encode()), Ok(commit));
        }
    }

    #[test]
    fn the_links_of_a_commit_are_found() {
        let Commit {
            root,
            posix,
            parent,
            ..
        } = commit();
        let block = commit().seal().unwrap();
        let mut found = links(&block).unwrap();
        let mut expected = [root, posix.unwrap(), parent.unwrap()];
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
        assert_eq!(root.codec(), DAG_PB);
    }

    #[test]
    fn a_commit_has_the_bytes_that_others_make_of_its_value() {
        use ipld_core::ipld::Ipld;
        let bytes = commit().encode();
        let value: Ipld = serde_ipld_dagcbor::from_slice(&bytes).unwrap();
        assert_eq!(serde_ipld_dagcbor::to_vec(&value).unwrap(), bytes);
        let Ipld::Map(map) = value else {
            panic!("a map")
        };
        let names: Vec<_> = map.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            ["parent", "posix", "root", "sequence", "time", "version"]
        );
    }

    #[test]
    fn commits_that_are_not_whole_or_newer_are_refused() {
        let bytes = commit().encode();
        for len in 0..bytes.len() {
            assert!(Commit::decode(&bytes[..len]).is_err(), "{len}");
        }
        let version = bytes.windows(7).position(|w| w == b"version").unwrap();
        let mut newer = bytes.clone();
        newer[version + 7] = 2;
        assert_eq!(Commit::decode(&newer), Err(RecordError::Version(2)));
        let mut other = bytes.clone();
        other[version..version + 7].copy_from_slice(b"verzion");
        let unknown = RecordError::UnknownField("verzion".into());
        assert_eq!(Commit::decode(&other), Err(unknown));
        let huge = vec![0; COMMIT_BYTES_MAX + 1];
        assert_eq!(
            Commit::decode(&huge),
            Err(RecordError::TooLarge("commit object"))
        );
        // The same field twice, and fields in another order.
        let mut twice = bytes.clone();
        twice[0] += 1;
        twice.extend(b"\x68sequence\x01");
        assert_eq!(Commit::decode(&twice), Err(RecordError::NotCanonical));
    }
}
