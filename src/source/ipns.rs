//! IPNS names: the multihash of a public key, in the forms people write.

use std::fmt;
use std::str::FromStr;

use multibase::Base;

use crate::block::{Cid, IDENTITY, LIBP2P_KEY, Multihash, SHA2_256};

/// Longest key that stands in a name itself; longer ones are named by their hash.
const INLINE_KEY_BYTES_MAX: usize = 42;

/// The name of an IPNS record: what its public key hashes to.
///
/// Shown as a CIDv1 with the codec libp2p-key in base36; read also in any
/// other base, and in the legacy forms `12D3Koo…` and `Qm…` (base58, no CID).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpnsName(Multihash);

/// A text that is no IPNS name. It may be a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no IPNS name")]
pub struct NotAName(String);

impl IpnsName {
    /// The multihash of the public key.
    pub fn hash(&self) -> &Multihash {
        &self.0
    }

    /// The public key, where it is short enough to stand in the name.
    pub(super) fn inline_key(&self) -> Option<&[u8]> {
        (self.0.code() == IDENTITY).then(|| self.0.digest())
    }

    /// Whether a text that is no key can be a DNSLink domain.
    pub(super) fn may_be_domain(text: &str) -> bool {
        let labels = || text.trim_end_matches('.').split('.');
        let label_fits = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        };
        text.len() <= 253 && labels().count() >= 2 && labels().all(label_fits)
    }

    fn from_hash(hash: Multihash) -> Option<Self> {
        let fits = match hash.code() {
            IDENTITY => (1..=INLINE_KEY_BYTES_MAX).contains(&hash.digest().len()),
            SHA2_256 => hash.digest().len() == 32,
            _ => false,
        };
        fits.then_some(Self(hash))
    }
}

impl FromStr for IpnsName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            if text.len() > 256 {
                return None;
            }
            if text.starts_with("Qm") || text.starts_with('1') {
                let bytes = Base::Base58Btc.decode(text).ok()?;
                return Self::from_hash(Multihash::from_bytes(&bytes).ok()?);
            }
            let cid: Cid = text.parse().ok()?;
            (cid.codec() == LIBP2P_KEY)
                .then(|| Self::from_hash(*cid.hash()))
                .flatten()
        };
        parse().ok_or_else(|| NotAName(text.chars().take(256).collect()))
    }
}

impl fmt::Display for IpnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cid = Cid::new_v1(LIBP2P_KEY, self.0);
        f.write_str(&multibase::encode(Base::Base36Lower, cid.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_is_the_same_name() {
        let legacy: IpnsName = "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d"
            .parse()
            .unwrap();
        let shown = legacy.to_string();
        assert!(shown.starts_with("k51qzi5uqu5d"), "{shown}");
        assert_eq!(shown.parse(), Ok(legacy));
        let base32 = Cid::new_v1(LIBP2P_KEY, *legacy.hash()).to_string();
        assert_eq!(base32.parse(), Ok(legacy));
    }

    #[test]
    fn rsa_names_are_hashes() {
        let name: IpnsName = "QmVujd5Vb7moysJj8itnGufN7MEtPRCNHkKpNuA4onsRa3"
            .parse()
            .unwrap();
        assert!(name.to_string().starts_with("k2k4r8"));
        assert_eq!(name.inline_key(), None);
    }

    #[test]
    fn cids_of_content_and_domains_are_no_names() {
        let other = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
        for text in [other, "", "example.net", "k51", "1", "Qm"] {
            assert!(text.parse::<IpnsName>().is_err(), "{text}");
        }
    }

    #[test]
    fn domains_are_told_from_rubbish() {
        for text in ["example.net", "_dnslink.a-b.example", "bücher.example"] {
            assert!(IpnsName::may_be_domain(text), "{text}");
        }
        for text in ["example", "", ".", "a..b", "a/b.net", "..", "a b.net"] {
            assert!(!IpnsName::may_be_domain(text), "{text}");
        }
    }
}
