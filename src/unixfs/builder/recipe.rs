//! Options, checked and resolved into what the engine does.

use std::fs::{self, Metadata as Stat};
use std::os::unix::fs::MetadataExt;

use bytes::Bytes;

use super::options::AddOptions;
use super::refused::AddRefused;
use crate::block::{Block, BlockError, DAG_PB, IDENTITY, SHA2_256, hash};
use crate::config::{FILE_LINKS_PLAIN, HAMT_FANOUT_MAX, IDENTITY_BYTES_MAX};
use crate::unixfs::chunker::Chunker;
use crate::unixfs::data::Mtime;
use crate::unixfs::dir_build::DirRules;
use crate::unixfs::layout::{Balanced, Metadata, Tree, Trickle};
use crate::unixfs::walk::{Filter, Rules, WalkRules};

/// What an import does, with nothing left open.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) cids: CidMaker,
    pub(super) raw_leaves: bool,
    pub(super) chunker: Chunker,
    pub(super) trickle: bool,
    pub(super) links_max: usize,
    pub(super) dirs: DirRules,
    pub(super) stats: StatRules,
    pub(super) walk: WalkRules,
}

impl Recipe {
    pub(super) fn new(options: &AddOptions) -> Result<Self, AddRefused> {
        check_combinations(options)?;
        let cids = CidMaker::new(options)?;
        let stats = StatRules::new(options)?;
        let raw_leaves = if StatRules::any(options) {
            if options.raw_leaves == Some(true) {
                return Err(AddRefused::RawLeavesWithMetadata);
            }
            false
        } else {
            options.raw_leaves.unwrap_or(cids.version == Version::V1)
        };
        let links_max = match usize::try_from(options.max_file_links) {
            Ok(1) if !options.trickle => return Err(AddRefused::FileLinks),
            Ok(0) | Err(_) => FILE_LINKS_PLAIN as usize,
            Ok(links) => links,
        };
        Ok(Self {
            cids,
            raw_leaves,
            chunker: Chunker::parse(&options.chunker)?,
            trickle: options.trickle,
            links_max,
            dirs: dir_rules(options)?,
            stats,
            walk: walk_rules(options)?,
        })
    }

    pub(super) fn tree(&self) -> Tree {
        if self.trickle {
            Tree::Trickle(Trickle::new(self.links_max))
        } else {
            Tree::Balanced(Balanced::new(self.links_max))
        }
    }
}

fn check_combinations(options: &AddOptions) -> Result<(), AddRefused> {
    if options.only_hash && options.to_files.is_some() {
        return Err(AddRefused::OnlyHashToFiles);
    }
    if options.pin_name.is_some() && (!options.pin || options.only_hash) {
        return Err(AddRefused::PinName);
    }
    if options.wrap_with_directory && options.to_files.is_some() {
        return Err(AddRefused::WrapToFiles);
    }
    Ok(())
}

fn dir_rules(options: &AddOptions) -> Result<DirRules, AddRefused> {
    let bad = AddRefused::Fanout(options.max_hamt_fanout);
    let fanout = u32::try_from(options.max_hamt_fanout).map_err(|_| bad.clone())?;
    if fanout < 8 || !fanout.is_power_of_two() || u64::from(fanout) > HAMT_FANOUT_MAX {
        return Err(bad);
    }
    let links_max = usize::try_from(options.max_directory_links).ok();
    Ok(DirRules {
        estimate: options.size_estimate,
        threshold_bytes: options.hamt_threshold_bytes,
        links_max: links_max.filter(|max| *max > 0),
        fanout,
    })
}

fn walk_rules(options: &AddOptions) -> Result<WalkRules, AddRefused> {
    let mut file = String::new();
    if let Some(path) = &options.ignore_rules_path {
        let bytes = fs::read(path).map_err(|e| AddRefused::IgnoreRulesFile {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        file = String::from_utf8_lossy(&bytes).into_owned();
    }
    let lines = file
        .split('\n')
        .chain(options.ignore.iter().map(String::as_str));
    Ok(WalkRules {
        filter: Filter {
            hidden: options.hidden,
            rules: Rules::parse(lines)?,
        },
        follow: options.dereference_symlinks,
        skip_empty: !options.empty_dirs,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V0,
    V1,
}

/// Names blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct CidMaker {
    version: Version,
    hash: u64,
    /// Blocks up to this length go into their CIDs.
    inline_bytes: Option<usize>,
}

impl CidMaker {
    fn new(options: &AddOptions) -> Result<Self, AddRefused> {
        let hash = hash_code(&options.hash)?;
        let version = match (options.cid_version, hash) {
            (Some(0), SHA2_256) | (None, SHA2_256) => Version::V0,
            (Some(0), _) => return Err(AddRefused::V0Hash),
            (Some(1), _) | (None, _) => Version::V1,
            (Some(other), _) => return Err(AddRefused::CidVersion(other)),
        };
        let limit = options.inline_limit;
        if options.inline && limit > IDENTITY_BYTES_MAX as i64 {
            return Err(AddRefused::InlineLimit(limit));
        }
        // Below zero nothing is short enough.
        let inline_bytes = usize::try_from(limit).ok().filter(|_| options.inline);
        Ok(Self {
            version,
            hash,
            inline_bytes,
        })
    }

    /// Hashes `data` and names it.
    pub(super) fn block(&self, codec: u64, data: Bytes) -> Result<Block, BlockError> {
        if self.inline_bytes.is_some_and(|max| data.len() <= max) {
            return Block::seal(codec, IDENTITY, data);
        }
        if self.version == Version::V0 && codec == DAG_PB {
            return Block::seal_v0(data);
        }
        Block::seal(codec, self.hash, data)
    }
}

/// The hash functions that IPFS allows, by their multihash names.
const HASHES: &[(&str, u64)] = &[
    ("identity", IDENTITY),
    ("id", IDENTITY),
    ("sha1", 0x11),
    ("sha2-256", SHA2_256),
    ("sha2-512", 0x13),
    ("sha3-512", 0x14),
    ("sha3", 0x14),
    ("sha3-384", 0x15),
    ("sha3-256", 0x16),
    ("sha3-224", 0x17),
    ("shake-256", 0x19),
    ("keccak-256", 0x1b),
    ("keccak-512", 0x1d),
    ("blake3", 0x1e),
    ("dbl-sha2-256", 0x56),
];

/// Known, and too weak or not meant for content.
const INSECURE: &[&str] = &["md5", "murmur3-x64-64", "murmur3", "shake-128", "x11"];

/// Allowed by name, and computed by no node.
const UNCOMPUTED: &[&str] = &["keccak-224", "keccak-384"];

fn hash_code(name: &str) -> Result<u64, AddRefused> {
    let lower = name.to_lowercase();
    let listed = HASHES.iter().find(|(known, _)| *known == lower);
    let code = match listed {
        Some((_, code)) => Ok(*code),
        None if INSECURE.contains(&lower.as_str()) => Err(AddRefused::InsecureHash(lower.clone())),
        None if UNCOMPUTED.contains(&lower.as_str()) => {
            Err(AddRefused::UnsupportedHash(lower.clone()))
        }
        None => blake2(&lower).ok_or(AddRefused::UnknownHash(lower.clone()))?,
    }?;
    // The table of hash functions is the judge of what can be computed here.
    match hash(code, &[]) {
        Ok(_) => Ok(code),
        Err(_) => Err(AddRefused::UnsupportedHash(lower)),
    }
}

/// blake2b-8 to -512 and blake2s-8 to -256; under 160 bits they are too weak.
fn blake2(name: &str) -> Option<Result<u64, AddRefused>> {
    let (base, bits_max, bits) = match name.split_once('-')? {
        ("blake2b", bits) => (0xb200, 512, bits),
        ("blake2s", bits) => (0xb240, 256, bits),
        _ => return None,
    };
    let bits: u64 = bits.parse().ok()?;
    if bits == 0 || !bits.is_multiple_of(8) || bits > bits_max {
        return None;
    }
    Some(if bits < 160 {
        Err(AddRefused::InsecureHash(name.to_owned()))
    } else {
        Ok(base + bits / 8)
    })
}

/// The year 1, which Go takes for no time at all.
const GO_ZERO_TIME: Mtime = Mtime {
    seconds: -62_135_596_800,
    nanoseconds: 0,
};

/// What is stored of modes and times.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatRules {
    preserve_mode: bool,
    preserve_mtime: bool,
    /// For everything alike, instead of what the files have.
    mode: Option<u32>,
    mtime: Option<Mtime>,
}

impl StatRules {
    fn new(options: &AddOptions) -> Result<Self, AddRefused> {
        if options.mtime == 0 && options.mtime_nsecs != 0 {
            return Err(AddRefused::NanosecondsAlone);
        }
        if options.mtime_nsecs > 999_999_999 {
            return Err(AddRefused::Nanoseconds);
        }
        let mtime = Mtime {
            seconds: options.mtime,
            nanoseconds: options.mtime_nsecs,
        };
        let fixed_mtime = options.mtime != 0 && mtime != GO_ZERO_TIME;
        Ok(Self {
            preserve_mode: options.preserve_mode && options.mode == 0,
            preserve_mtime: options.preserve_mtime && !fixed_mtime,
            mode: (options.mode != 0).then_some(unix_bits(options.mode)),
            mtime: fixed_mtime.then_some(mtime),
        })
    }

    /// Whether metadata was asked for, even if none comes of it.
    fn any(options: &AddOptions) -> bool {
        options.preserve_mode || options.preserve_mtime || options.mode != 0 || options.mtime != 0
    }

    /// For what has no place in the filesystem: a wrapping directory, the standard input.
    pub(super) fn fixed(&self) -> Metadata {
        Metadata {
            mode: self.mode,
            mtime: self.mtime,
        }
    }

    /// For a directory.
    pub(super) fn directory(&self, stat: &Stat) -> Metadata {
        let mode = self.preserve_mode.then_some(stat.mode() & 0o7777);
        Metadata {
            mode: mode.or(self.mode),
            mtime: self.mtime(stat),
        }
    }

    /// For a file. No bits at all are not stored.
    pub(super) fn file(&self, stat: &Stat) -> Metadata {
        without_zero_mode(self.directory(stat))
    }

    /// For a symbolic link, which has a time only.
    pub(super) fn mtime(&self, stat: &Stat) -> Option<Mtime> {
        let own = self.preserve_mtime.then(|| Mtime {
            seconds: stat.mtime(),
            nanoseconds: u32::try_from(stat.mtime_nsec()).unwrap_or(0),
        });
        own.or(self.mtime)
    }
}

/// A file's metadata leaves a mode of zero out; a directory's keeps it.
pub(super) fn without_zero_mode(meta: Metadata) -> Metadata {
    Metadata {
        mode: meta.mode.filter(|mode| *mode != 0),
        ..meta
    }
}

/// Kubo takes the number of `--mode` for a mode in Go's own layout, which has
/// the nine permission bits in their usual place and the others elsewhere.
fn unix_bits(go_mode: u32) -> u32 {
    (go_mode & 0x00C0_0000) >> 12 | (go_mode & 0x0010_0000) >> 11 | go_mode & 0o777
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unixfs::profile::Profile;

    fn refusal(change: impl Fn(&mut AddOptions)) -> Option<AddRefused> {
        let mut options = AddOptions::plain();
        change(&mut options);
        options.validate().err()
    }

    #[test]
    fn versions_and_hashes_follow_from_each_other_as_in_kubo() {
        let blake = |o: &mut AddOptions| o.hash = "BLAKE3".to_owned();
        assert_eq!(
            refusal(blake),
            None,
            "CIDv1 by itself where none is asked for"
        );
        let v0_blake = |o: &mut AddOptions| {
            blake(o);
            o.cid_version = Some(0);
        };
        assert_eq!(refusal(v0_blake), Some(AddRefused::V0Hash));
        assert_eq!(
            refusal(|o| o.cid_version = Some(2)),
            Some(AddRefused::CidVersion(2))
        );
        let hash = |name: &str| {
            let name = name.to_owned();
            refusal(move |o| o.hash.clone_from(&name))
        };
        assert_eq!(hash("blake2b-256"), None);
        assert_eq!(hash("blake2s-256"), None);
        assert_eq!(hash("md5"), Some(AddRefused::InsecureHash("md5".into())));
        assert_eq!(
            hash("blake2b-8"),
            Some(AddRefused::InsecureHash("blake2b-8".into()))
        );
        assert_eq!(
            hash("blake2b-7"),
            Some(AddRefused::UnknownHash("blake2b-7".into()))
        );
        assert_eq!(hash("sha9"), Some(AddRefused::UnknownHash("sha9".into())));
    }

    #[test]
    fn raw_leaves_and_metadata_are_refused_when_both_were_asked_for() {
        let raw = |o: &mut AddOptions| o.raw_leaves = Some(true);
        let changes: [fn(&mut AddOptions); 4] = [
            |o| o.preserve_mode = true,
            |o| o.preserve_mtime = true,
            |o| o.mode = 0o644,
            |o| o.mtime = 5,
        ];
        for change in changes {
            assert_eq!(refusal(change), None, "raw leaves by default give way");
            let both = |o: &mut AddOptions| {
                change(o);
                raw(o);
            };
            assert_eq!(refusal(both), Some(AddRefused::RawLeavesWithMetadata));
        }
        let mut v1 = AddOptions::from_profile(Profile::UnixfsV1_2025);
        v1.preserve_mtime = true;
        assert_eq!(v1.validate(), Err(AddRefused::RawLeavesWithMetadata));
    }

    #[test]
    fn times_limits_and_fanouts_out_of_range_are_refused() {
        assert_eq!(
            refusal(|o| o.mtime_nsecs = 1),
            Some(AddRefused::NanosecondsAlone)
        );
        let nsecs = refusal(|o| {
            o.mtime = 1;
            o.mtime_nsecs = 1_000_000_000;
        });
        assert_eq!(nsecs, Some(AddRefused::Nanoseconds));
        assert_eq!(
            refusal(|o| o.inline_limit = 129),
            None,
            "without --inline it says nothing"
        );
        let inline = refusal(|o| {
            o.inline = true;
            o.inline_limit = 129;
        });
        assert_eq!(inline, Some(AddRefused::InlineLimit(129)));
        for fanout in [-8, 0, 4, 12, 2048] {
            let refused = refusal(|o| o.max_hamt_fanout = fanout);
            assert_eq!(refused, Some(AddRefused::Fanout(fanout)));
        }
        assert_eq!(
            refusal(|o| o.max_file_links = 1),
            Some(AddRefused::FileLinks)
        );
        assert_eq!(refusal(|o| o.max_file_links = -1), None);
    }

    #[test]
    fn pins_and_links_into_the_tree_need_something_kept() {
        let name = |o: &mut AddOptions| o.pin_name = Some("n".into());
        assert_eq!(refusal(name), None);
        let unpinned = refusal(|o| {
            name(o);
            o.pin = false;
        });
        assert_eq!(unpinned, Some(AddRefused::PinName));
        let files = |o: &mut AddOptions| o.to_files = Some("/".into());
        let hashed = refusal(|o| {
            files(o);
            o.only_hash = true;
        });
        assert_eq!(hashed, Some(AddRefused::OnlyHashToFiles));
        let wrapped = refusal(|o| {
            files(o);
            o.wrap_with_directory = true;
        });
        assert_eq!(wrapped, Some(AddRefused::WrapToFiles));
    }

    #[test]
    fn ignore_rules_that_cannot_be_read_are_refused() {
        let missing = refusal(|o| o.ignore_rules_path = Some("/nonexistent/rules".into()));
        assert!(matches!(missing, Some(AddRefused::IgnoreRulesFile { .. })));
        let bad = refusal(|o| o.ignore = vec!["[".into()]);
        assert!(matches!(bad, Some(AddRefused::IgnoreRule(_))));
    }
}
