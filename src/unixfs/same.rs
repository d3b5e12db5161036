//! Whether two roots hold the same, whatever attributes they carry.

use super::error::ReadError;
use super::node::Body;
use super::reader::{MetaKind, Reader};
use crate::block::{Cid, DAG_PB};
use crate::config::BLOCK_BYTES_MAX;

impl Reader {
    /// Tells whether two roots of one kind hold the same names or bytes; mode and
    /// time do not count. False for large files whose parts are cut otherwise,
    /// where only reading all of both could tell.
    pub async fn holds_same(&self, one: &Cid, other: &Cid) -> Result<bool, ReadError> {
        if one == other {
            return Ok(true);
        }
        let (first, second) = (self.meta(one).await?, self.meta(other).await?);
        if (first.kind, first.size) != (second.kind, second.size) {
            return Ok(false);
        }
        match first.kind {
            MetaKind::Directory => Ok(self.names(one).await? == self.names(other).await?),
            MetaKind::Symlink => Ok(self.readlink(one).await? == self.readlink(other).await?),
            MetaKind::File if first.size <= BLOCK_BYTES_MAX as u64 => {
                Ok(self.bytes(one, first.size).await? == self.bytes(other, first.size).await?)
            }
            MetaKind::File => Ok(self.parts(one).await? == self.parts(other).await?),
        }
    }

    async fn names(&self, cid: &Cid) -> Result<Vec<(bytes::Bytes, Cid)>, ReadError> {
        let entries = self.entries(cid).await?.into_iter();
        let mut names: Vec<_> = entries.map(|entry| (entry.name, entry.cid)).collect();
        names.sort();
        Ok(names)
    }

    async fn bytes(&self, cid: &Cid, size: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = self.read(cid, 0, &mut bytes).await?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The parts of a file's root, and how many bytes it holds itself.
    async fn parts(&self, cid: &Cid) -> Result<(usize, Vec<Cid>), ReadError> {
        if cid.codec() != DAG_PB {
            return Ok((0, vec![*cid]));
        }
        match &self.nodes().get(cid).await?.body {
            Body::File(file) => {
                let parts = file.parts.iter().map(|part| part.cid).collect();
                Ok((file.inline.len(), parts))
            }
            Body::Directory(_) | Body::Shard(_) | Body::Symlink(_) => Err(ReadError::NotAFile),
        }
    }
}
