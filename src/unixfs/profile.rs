//! CID profiles: named sets of import options (IPIP-499).
//!
//! Two programs that import under the same profile get the same CIDs. See
//! <https://specs.ipfs.tech/ipips/ipip-0499/>.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A named set of import options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// CIDv1, raw leaves, chunks of 1 MiB, 1024 links. Ours by default.
    #[default]
    #[serde(rename = "unixfs-v1-2025")]
    UnixfsV1_2025,
    /// CIDv0, dag-pb leaves, chunks of 256 KiB, 174 links. What is out there.
    #[serde(rename = "unixfs-v0-2015", alias = "legacy-cid-v0")]
    UnixfsV0_2015,
}

/// A name that is no profile's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {0:?}: unixfs-v1-2025 and unixfs-v0-2015 are known")]
pub struct UnknownProfile(pub String);

impl Profile {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnixfsV1_2025 => "unixfs-v1-2025",
            Self::UnixfsV0_2015 => "unixfs-v0-2015",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "unixfs-v1-2025" => Ok(Self::UnixfsV1_2025),
            "unixfs-v0-2015" | "legacy-cid-v0" => Ok(Self::UnixfsV0_2015),
            other => Err(UnknownProfile(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_found_by_its_name_in_text_and_in_json() {
        for profile in [Profile::UnixfsV1_2025, Profile::UnixfsV0_2015] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
            let json = format!("\"{profile}\"");
            assert_eq!(serde_json::from_str::<Profile>(&json).unwrap(), profile);
        }
        assert_eq!("legacy-cid-v0".parse(), Ok(Profile::UnixfsV0_2015));
        assert!("unixfs-v9".parse::<Profile>().is_err());
    }
}
