//! `config.toml`: what may stand in it. Unknown keys are refused.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::cache::VerifyPolicy;
use crate::source::{PushSpec, SourceSpec, Strategy};
use crate::unixfs::profile::Profile;

/// The whole file. Every key has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigFile {
    /// `[store]`: the blocks on disk and in memory.
    pub store: StoreConfig,
    /// `[fetch]`: how blocks are had from the sources.
    pub fetch: FetchConfig,
    /// `[mount]`: what mounts have in common.
    pub mount: MountConfig,
    /// `[tree]`: the writable tree.
    pub tree: TreeConfig,
    /// `[[source]]`: where blocks come from, in the order of asking.
    pub source: Vec<SourceSpec>,
    /// `[[push]]`: nodes that get the tree's root after each checkpoint.
    pub push: Vec<PushSpec>,
}

/// `[store]`. Sizes are numbers of bytes or text such as `"10 GiB"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Memory for blocks.
    #[serde(deserialize_with = "size")]
    pub memory_bytes_max: Option<u64>,
    /// Disk for fetched blocks. What was added or pinned does not count.
    #[serde(deserialize_with = "size")]
    pub cache_bytes_max: Option<u64>,
    /// Free space of the disk that fetched blocks leave alone.
    #[serde(deserialize_with = "size")]
    pub disk_free_min: Option<u64>,
    /// Space that is set aside so that a full disk can be made emptier.
    #[serde(deserialize_with = "size")]
    pub own_reserve_bytes: Option<u64>,
    /// When blocks from disk are proved.
    pub verify: VerifyPolicy,
}

/// `[fetch]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchConfig {
    /// Whether sources are asked one after another or at once.
    pub strategy: Strategy,
    /// Longest that a reader waits for a block, in seconds.
    pub deadline_seconds: Option<u64>,
}

/// `[mount]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountConfig {
    /// Options of every mount, as after `-o`; those of the command come after.
    pub options: String,
}

/// `[tree]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TreeConfig {
    /// CID profile of what is written.
    pub profile: Profile,
    /// Whether modes and times go into UnixFS nodes, which changes their CIDs.
    pub store_metadata: bool,
    /// Refuses what UnixFS alone cannot say.
    pub portable: bool,
    /// Oldest change that a power loss may take without fsync, in milliseconds.
    pub commit_interval_ms: Option<u64>,
    /// Longest time between checkpoints while there are changes, in seconds.
    pub checkpoint_interval_seconds: Option<u64>,
    /// Journal bytes between checkpoints.
    #[serde(deserialize_with = "size")]
    pub checkpoint_bytes: Option<u64>,
    /// Changes between checkpoints.
    pub checkpoint_changes: Option<u64>,
    /// Memory that changes hold, about, beyond which a checkpoint is made.
    #[serde(deserialize_with = "size")]
    pub changed_bytes_max: Option<u64>,
    /// Memory for bytes of files that are in no block yet.
    #[serde(deserialize_with = "size")]
    pub unsealed_bytes_max: Option<u64>,
    /// Longest file.
    #[serde(deserialize_with = "size")]
    pub file_bytes_max: Option<u64>,
    /// Checkpoints that are kept as snapshots.
    pub snapshots_kept: Option<usize>,
}

impl ConfigFile {
    /// Reads the text of a file. The error names line and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| {
                text.bytes()
                    .take(span.start)
                    .filter(|byte| *byte == b'\n')
                    .count()
                    + 1
            });
            format!("line {line}: {}", error.message().replace('\n', " "))
        })
    }
}

/// Reads a size in bytes: a number, or text with a unit.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Size;

    impl Visitor<'_> for Size {
        type Value = Option<u64>;

        fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            out.write_str("a number of bytes, or text such as \"10 GiB\"")
        }

        fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
            let size = u64::try_from(value);
            size.map(Some)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
            let size = parse_size(value);
            size.map(Some)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
        }
    }

    deserializer.deserialize_any(Size)
}

/// Reads text such as `10 GiB`, `500MB` or `4096`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|one: char| !one.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [store]
            memory_bytes_max = 1048576
            cache_bytes_max = "10 GiB"
            disk_free_min = "500MB"
            own_reserve_bytes = "8 MiB"
            verify = "always"
            [fetch]
            strategy = "race"
            deadline_seconds = 5
            [mount]
            options = "allow_other"
            [tree]
            profile = "unixfs-v0-2015"
            store_metadata = true
            portable = true
            commit_interval_ms = 200
            checkpoint_interval_seconds = 5
            checkpoint_bytes = "1 MiB"
            checkpoint_changes = 10
            changed_bytes_max = "2 MiB"
            unsealed_bytes_max = "32 MiB"
            file_bytes_max = "1 TiB"
            snapshots_kept = 3
            [[source]]
            kind = "gateway"
            url = "https://example.net"
            [[push]]
            kind = "kubo"
            url = "http://127.0.0.1:5001"
            pin_name = "mine"
            fetch = true
        "#;
        let config = ConfigFile::parse(text).unwrap();
        assert_eq!(config.store.memory_bytes_max, Some(1 << 20));
        assert_eq!(config.store.cache_bytes_max, Some(10 << 30));
        assert_eq!(config.store.disk_free_min, Some(500_000_000));
        assert_eq!(config.store.own_reserve_bytes, Some(8 << 20));
        assert_eq!(config.store.verify, VerifyPolicy::Always);
        assert_eq!(config.fetch.strategy, Strategy::Race);
        assert_eq!(config.fetch.deadline_seconds, Some(5));
        assert_eq!(config.mount.options, "allow_other");
        assert_eq!(config.tree.profile, Profile::UnixfsV0_2015);
        assert_eq!(config.tree.checkpoint_bytes, Some(1 << 20));
        assert_eq!(config.tree.changed_bytes_max, Some(2 << 20));
        assert_eq!(config.tree.snapshots_kept, Some(3));
        assert_eq!(config.source.len(), 1);
        assert_eq!(config.push.len(), 1);
        assert!(config.push[0].fetch);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let why = ConfigFile::parse("\n[store]\nmemory_bytes = 1\n").unwrap_err();
        assert!(
            why.starts_with("line 3: ") && why.contains("`memory_bytes`"),
            "{why}"
        );
    }

    #[test]
    fn an_unknown_key_of_a_source_is_refused_with_its_line() {
        let why = ConfigFile::parse("[[source]]\nkind = \"car\"\npath = \"x\"\nspeed = 9\n");
        let why = why.unwrap_err();
        assert!(
            why.starts_with("line 4: ") && why.contains("`speed`"),
            "{why}"
        );
    }

    #[test]
    fn a_bad_size_is_refused_with_its_line() {
        for bad in ["-1", "\"ten\"", "\"10 XB\"", "\"99999999999 TiB\"", "true"] {
            let why = ConfigFile::parse(&format!("[store]\ncache_bytes_max = {bad}\n"));
            assert!(why.unwrap_err().starts_with("line 2: "), "{bad}");
        }
    }
}
