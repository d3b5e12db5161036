//! How a writable tree behaves.

use std::time::Duration;

use crate::config::{
    CHANGED_BYTES_MAX, CHECKPOINT_BYTES, CHECKPOINT_CHANGES, CHECKPOINT_INTERVAL, COMMIT_INTERVAL,
    FILE_BYTES_MAX, NODES_LOADED_MAX, SNAPSHOTS_KEPT, UNSEALED_BYTES_MAX,
};
use crate::unixfs::dir_build::DirRules;
use crate::unixfs::file_update::FileForm;
use crate::unixfs::profile::Profile;

/// Limits and choices of a writable tree; the defaults stand in [`crate::config`].
#[derive(Debug, Clone)]
pub struct MfsOptions {
    /// Owner of content that has none, and of the root of a new tree.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Profile of the CIDs that are made.
    pub profile: Profile,
    /// How files become blocks, where it is not as the profile says.
    pub file_form: Option<FileForm>,
    /// How directories become blocks, where it is not as the profile says.
    pub dir_rules: Option<DirRules>,
    /// Whether mode and mtime go into UnixFS nodes, which changes their CIDs.
    pub store_metadata: bool,
    /// Refuses what UnixFS alone cannot say.
    pub portable: bool,
    /// Bytes of files that wait in memory for their chunks to fill.
    pub unsealed_bytes_max: u64,
    /// Longest file.
    pub file_bytes_max: u64,
    /// Oldest change that a power loss may take.
    pub commit_interval: Duration,
    /// Longest time between checkpoints while there are changes.
    pub checkpoint_interval: Duration,
    /// Journal bytes between checkpoints.
    pub checkpoint_bytes: u64,
    /// Changes between checkpoints.
    pub checkpoint_changes: u64,
    /// Memory that changes hold, about, beyond which a checkpoint is made.
    pub changed_bytes_max: u64,
    /// Clean nodes in memory beyond which those that nobody holds are dropped.
    pub nodes_loaded_max: usize,
    /// Checkpoints kept as snapshots.
    pub snapshots_kept: usize,
    /// Whether it is opened only to be read: nothing is mended or written then.
    pub only_read: bool,
}

impl Default for MfsOptions {
    fn default() -> Self {
        Self {
            uid: 0,
            gid: 0,
            profile: Profile::default(),
            file_form: None,
            dir_rules: None,
            store_metadata: false,
            portable: false,
            unsealed_bytes_max: UNSEALED_BYTES_MAX,
            file_bytes_max: FILE_BYTES_MAX,
            commit_interval: COMMIT_INTERVAL,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            checkpoint_bytes: CHECKPOINT_BYTES,
            checkpoint_changes: CHECKPOINT_CHANGES,
            changed_bytes_max: CHANGED_BYTES_MAX,
            nodes_loaded_max: NODES_LOADED_MAX,
            snapshots_kept: SNAPSHOTS_KEPT,
            only_read: false,
        }
    }
}

impl MfsOptions {
    /// How files become blocks.
    pub(super) fn file_form(&self) -> FileForm {
        self.file_form.unwrap_or_else(|| self.profile.into())
    }

    /// How directories become blocks.
    pub(super) fn dir_rules(&self) -> DirRules {
        self.dir_rules.unwrap_or_else(|| self.profile.into())
    }

    /// The grid on which files are cut.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.file_form().chunk_bytes as u64
    }
}
