//! What may be asked to be reserved.

use super::content::content;
use crate::tree::error::TreeError;
use crate::tree::mfs::Mfs;
use crate::tree::mfs::nodes::extents::Data;
use crate::tree::mfs::types::NodeId;

impl Mfs {
    /// Refuses to promise room for more than the disk has free. Nothing is set
    /// aside where it has: who writes there later may still find it full.
    pub(in crate::tree::mfs) fn check_allocatable(
        &self,
        node: NodeId,
        offset: u64,
        end: u64,
    ) -> Result<(), TreeError> {
        let mut there = 0;
        {
            let state = self.state.lock();
            let ranges = content(state.node(node)?)?.ranges();
            ranges.each(offset, end, |_, len, data, _| {
                there += if *data == Data::Hole { 0 } else { len };
            });
        }
        let wanted = (end - offset).saturating_sub(there);
        match self.disk.free_bytes(&self.journal_dir) {
            Ok(free) if wanted > free => Err(TreeError::NoSpace(format!(
                "{wanted} bytes are asked for, and the disk has {free} free"
            ))),
            // What it has is not known: a write will tell.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
