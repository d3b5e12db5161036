//! What can be asked of an import: the options of `ipfs add` by the same names.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use super::refused::AddRefused;
use crate::config::{CHUNK_BYTES_PLAIN, FILE_LINKS_PLAIN, HAMT_FANOUT_PLAIN, HAMT_THRESHOLD_BYTES};
use crate::unixfs::dir_build::SizeEstimate;
use crate::unixfs::profile::Profile;

/// Options of an import. `None` means not said, which differs from any value:
/// what is not said follows from the rest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct AddOptions {
    /// 0 or 1. Not said: 0, or 1 with another hash than sha2-256.
    pub cid_version: Option<i64>,
    /// Name of the hash function, as multihash names it.
    pub hash: String,
    /// Leaves are plain bytes. Not said: yes under CIDv1.
    pub raw_leaves: Option<bool>,
    /// `size-N`, `rabin[-AVG|-MIN-AVG-MAX]` or `buzhash`.
    pub chunker: String,
    /// Trickle instead of balanced trees.
    pub trickle: bool,
    /// Most links of a file's node; 0 or less: the default of 174.
    pub max_file_links: i64,
    /// Most entries of a basic directory; 0 or less: no bound but the size.
    pub max_directory_links: i64,
    /// Children of a HAMT's node: a power of two from 8 to 1024.
    pub max_hamt_fanout: i64,
    /// How a directory's size is estimated. Set by profiles only.
    pub size_estimate: SizeEstimate,
    /// A directory over this size is a HAMT. Set by profiles only.
    pub hamt_threshold_bytes: u64,
    /// Put small blocks into their CIDs.
    pub inline: bool,
    /// Most bytes of such a block, up to 128.
    pub inline_limit: i64,
    /// Store the permission bits that files have.
    pub preserve_mode: bool,
    /// Store the modification times that files have.
    pub preserve_mtime: bool,
    /// Permission bits to store instead; 0: none.
    pub mode: u32,
    /// Modification time to store instead, in seconds; 0: none.
    pub mtime: i64,
    /// Its nanoseconds.
    pub mtime_nsecs: u32,
    /// Take in directories.
    pub recursive: bool,
    /// Take in hidden entries of directories.
    pub hidden: bool,
    /// `.gitignore`-style rules of entries to leave out.
    pub ignore: Vec<String>,
    /// A file with such rules, one a line; they come before `ignore`.
    pub ignore_rules_path: Option<PathBuf>,
    /// Take in directories without entries.
    pub empty_dirs: bool,
    /// Follow symbolic links that are named themselves.
    pub dereference_args: bool,
    /// Follow all symbolic links.
    pub dereference_symlinks: bool,
    /// Put everything into one directory.
    pub wrap_with_directory: bool,
    /// Name of what comes from the standard input.
    pub stdin_name: Option<String>,
    /// Keep nothing, only say the CIDs.
    pub only_hash: bool,
    /// Pin the root. Done by the caller; here for the combinations.
    pub pin: bool,
    /// Name of that pin.
    pub pin_name: Option<String>,
    /// Where to link the root in the writable tree. Done by the caller.
    pub to_files: Option<String>,
}

impl Default for AddOptions {
    fn default() -> Self {
        Self::from_profile(Profile::default())
    }
}

impl AddOptions {
    /// The options of a CID profile, with everything else at its default.
    pub fn from_profile(profile: Profile) -> Self {
        match profile {
            Profile::UnixfsV1_2025 => Self {
                cid_version: Some(1),
                raw_leaves: Some(true),
                chunker: format!("size-{}", 1 << 20),
                max_file_links: 1024,
                size_estimate: SizeEstimate::Block,
                ..Self::plain()
            },
            Profile::UnixfsV0_2015 => Self {
                cid_version: Some(0),
                raw_leaves: Some(false),
                ..Self::plain()
            },
        }
    }

    /// What Kubo does where no profile was ever chosen.
    pub fn plain() -> Self {
        Self {
            cid_version: None,
            hash: "sha2-256".to_owned(),
            raw_leaves: None,
            chunker: format!("size-{CHUNK_BYTES_PLAIN}"),
            trickle: false,
            max_file_links: FILE_LINKS_PLAIN,
            max_directory_links: 0,
            max_hamt_fanout: HAMT_FANOUT_PLAIN,
            size_estimate: SizeEstimate::Links,
            hamt_threshold_bytes: HAMT_THRESHOLD_BYTES,
            inline: false,
            inline_limit: 32,
            preserve_mode: false,
            preserve_mtime: false,
            mode: 0,
            mtime: 0,
            mtime_nsecs: 0,
            recursive: false,
            hidden: false,
            ignore: Vec::new(),
            ignore_rules_path: None,
            empty_dirs: true,
            dereference_args: false,
            dereference_symlinks: false,
            wrap_with_directory: false,
            stdin_name: None,
            only_hash: false,
            pin: true,
            pin_name: None,
            to_files: None,
        }
    }

    /// Whether these options go together.
    pub fn validate(&self) -> Result<(), AddRefused> {
        Recipe::new(self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_by_the_names_of_the_flags_with_the_rest_from_the_default_profile() {
        let json = r#"{"cid-version": 1, "max-file-links": 5, "preserve-mtime": true}"#;
        let options: AddOptions = serde_json::from_str(json).unwrap();
        assert_eq!(options.max_file_links, 5);
        assert!(options.preserve_mtime);
        assert_eq!(options.chunker, "size-1048576");
        assert!(serde_json::from_str::<AddOptions>(r#"{"chunkr": "x"}"#).is_err());
    }

    #[test]
    fn both_profiles_and_the_plain_options_are_valid() {
        for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
            assert_eq!(AddOptions::from_profile(profile).validate(), Ok(()));
        }
        assert_eq!(AddOptions::plain().validate(), Ok(()));
    }
}
