//! Changes of the writable tree, as notices to one mount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::nodes::Known;
use super::notices::Notices;
use crate::tree::mfs::{Change, Origin, Watcher};

/// Takes changes that came through other doors than its mount.
pub(super) struct Watch {
    pub(super) origin: Origin,
    pub(super) known: Known,
    pub(super) notices: Arc<Notices>,
}

/// A number for a mount, which no other mount of this process has.
pub(super) fn origin() -> Origin {
    // 0 is the door of control.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Origin(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Watcher for Watch {
    fn wait_told(&self, deadline: Instant) {
        if !self.notices.wait_told(deadline) {
            tracing::warn!("the kernel has not taken notice of a change within its time");
        }
    }

    fn changed(&self, origin: Origin, changes: &[Change]) {
        if origin == self.origin {
            return;
        }
        for change in changes {
            match change {
                Change::Entry { parent, name } => {
                    // Under a directory that the kernel does not know it knows no name.
                    if self.known.has(*parent) {
                        self.notices.name(self.known.number(*parent), name.clone());
                    }
                }
                Change::Node { node, content } => {
                    self.notices.node(self.known.number(*node), *content);
                }
            }
        }
    }
}
