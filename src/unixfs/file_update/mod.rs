//! Makes files of parts: bytes, holes, and ranges of files that exist.
//!
//! What comes as bytes becomes what the builder makes of them under the same
//! profile. Where a file keeps to that layout and only chunks of it change, so
//! does the result. Leaves and trees that stay are neither read nor made
//! again, and holes of any length cost a node a level, so the cost follows the
//! change and the depth of the tree. Foreign layouts (shorter leaves, trickle)
//! stay as they are beside what changes.

mod form;
mod grid;
mod holes;
mod leaf;
mod sealing;
mod shared;

pub use form::FileForm;
pub use holes::Holes;
pub use leaf::{LeafSpan, leaf_at, prove_leaf, way_to_leaf};

use bytes::Bytes;

use super::error::UpdateError;
use super::layout::{Metadata, Piece};
use super::reader::Reader;
use crate::block::{BlockSink, Cid};
use sealing::Sealing;

/// A part of a file that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewExtent {
    /// Zeros.
    Hole(u64),
    /// A range of a file that exists.
    Shared {
        /// The file; any root that reads as one, a single leaf too.
        cid: Cid,
        /// Where the range begins in it.
        offset: u64,
        /// Its length.
        len: u64,
    },
    /// Bytes, any number of them.
    Bytes(Bytes),
}

impl NewExtent {
    /// Bytes of the file in it.
    pub fn size(&self) -> u64 {
        match self {
            Self::Hole(len) | Self::Shared { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// Makes a file of `extents`, one after the other, and gives its root.
///
/// The root carries `meta`, without a mode of zero. A file of one leaf has
/// that leaf as its root; one of plain bytes becomes a dag-pb leaf where it
/// has metadata to carry, and all other leaves stay plain. (The builder makes
/// every leaf dag-pb in that case: a form without raw leaves equals it.)
///
/// Memory holds one open node a level and one chunk, beside what comes in.
pub async fn seal_file(
    reader: &Reader,
    extents: Vec<NewExtent>,
    form: &FileForm,
    meta: &Metadata,
    sink: &dyn BlockSink,
) -> Result<Piece, UpdateError> {
    let total = extents
        .iter()
        .try_fold(0u64, |sum, extent| sum.checked_add(extent.size()))
        .filter(|total| i64::try_from(*total).is_ok())
        .ok_or(UpdateError::TooLarge)?;
    let mut sealing = Sealing::new(form, sink, meta, total);
    for extent in extents {
        match extent {
            NewExtent::Hole(len) => sealing.hole(len)?,
            NewExtent::Bytes(bytes) => sealing.bytes(bytes)?,
            NewExtent::Shared { cid, offset, len } => {
                shared::take(reader, &mut sealing, &cid, offset, len).await?;
            }
        }
    }
    sealing.finish()
}
