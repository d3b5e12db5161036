//! Makes DAGs by hand, sound ones and hostile ones.

use bytes::Bytes;

use crate::block::{Block, Cid, DAG_PB, RAW, SHA2_256};
use crate::unixfs::dag_pb::{Link, PbNode};
use crate::unixfs::data::{Kind, UnixFs};

/// Blocks as they are made.
#[derive(Debug, Default)]
pub struct Dag {
    /// The blocks so far.
    pub blocks: Vec<Block>,
}

#[expect(
    clippy::expect_used,
    reason = "a test that makes no block cannot go on"
)]
impl Dag {
    /// Makes a raw leaf.
    pub fn leaf(&mut self, data: impl Into<Bytes>) -> Cid {
        self.block(RAW, data.into())
    }

    /// Makes a block of any codec.
    pub fn block(&mut self, codec: u64, data: Bytes) -> Cid {
        let block = Block::seal(codec, SHA2_256, data).expect("the data fits into a block");
        self.blocks.push(block.clone());
        *block.cid()
    }

    /// Makes a dag-pb node of links and a UnixFS message.
    pub fn node(&mut self, links: Vec<Link>, unixfs: &UnixFs) -> Cid {
        let data = Some(unixfs.encode());
        self.block(DAG_PB, PbNode { links, data }.encode())
    }

    /// Makes a file of parts, each with the size that its parent declares.
    pub fn file(&mut self, parts: &[(Cid, u64)]) -> Cid {
        let links = parts
            .iter()
            .map(|(cid, size)| link("", cid, *size))
            .collect();
        let unixfs = UnixFs {
            filesize: Some(parts.iter().map(|(_, size)| size).sum()),
            blocksizes: parts.iter().map(|(_, size)| *size).collect(),
            ..UnixFs::new(Kind::File)
        };
        self.node(links, &unixfs)
    }

    /// Makes a directory in one block.
    pub fn directory(&mut self, entries: &[(&str, Cid)]) -> Cid {
        let links = entries
            .iter()
            .map(|(name, cid)| link(name, cid, 0))
            .collect();
        self.node(links, &UnixFs::new(Kind::Directory))
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, target: &str) -> Cid {
        let data = Some(Bytes::copy_from_slice(target.as_bytes()));
        self.node(
            Vec::new(),
            &UnixFs {
                data,
                ..UnixFs::new(Kind::Symlink)
            },
        )
    }
}

/// A link with a name, which may be empty.
pub fn link(name: &str, cid: &Cid, tsize: u64) -> Link {
    let name = Some(Bytes::copy_from_slice(name.as_bytes()));
    Link {
        cid: *cid,
        name,
        tsize: Some(tsize),
    }
}
