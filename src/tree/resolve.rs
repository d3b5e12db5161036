//! Paths: `/ipfs/<cid>/a/b`, `/ipns/<name>/a`, `/mfs/a/b`, `/`.

use super::Tree;
use super::error::TreeError;
use super::node::Node;
use crate::block::{Cid, IDENTITY};
use crate::config::{IDENTITY_BYTES_MAX, PATH_BYTES_MAX};

impl Tree {
    /// Finds what a path leads to; symbolic links are not followed.
    pub async fn resolve(&self, path: &str) -> Result<Node, TreeError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(TreeError::BadPath(format!(
                "path is over {PATH_BYTES_MAX} bytes"
            )));
        }
        let mut node = Node::Top;
        for (depth, part) in path.split('/').filter(|p| !p.is_empty()).enumerate() {
            if depth == 1 && node == Node::Ipfs && parse_cid(part.as_bytes()).is_none() {
                return Err(TreeError::BadPath(format!("{part} is not a CID")));
            }
            node = self.lookup(&node, part.as_bytes()).await?.node;
        }
        Ok(node)
    }

    /// Finds what a mount shows as its root: as [`resolve`](Self::resolve),
    /// but a bare `/ipns/<name>` stays a name, so that the mount follows it.
    pub async fn resolve_root(&self, path: &str) -> Result<Node, TreeError> {
        if let Ok(("ipns", name, "")) = split(path.trim_end_matches('/')) {
            if !is_name(name) {
                return Err(TreeError::BadPath(format!(
                    "{name} is neither a key nor a domain"
                )));
            }
            return Ok(Node::Name(name.into()));
        }
        self.resolve(path).await
    }
}

/// Splits `/ipfs/<cid>/rest` into `ipfs`, the CID and `/rest`.
pub(super) fn split(path: &str) -> Result<(&str, &str, &str), TreeError> {
    let bad = || TreeError::BadPath(format!("{path} is neither /ipfs/… nor /ipns/…"));
    let rest = path.strip_prefix('/').ok_or_else(bad)?;
    let (space, rest) = rest.split_once('/').ok_or_else(bad)?;
    if !matches!(space, "ipfs" | "ipns") {
        return Err(bad());
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    if head.is_empty() {
        return Err(bad());
    }
    Ok((space, head, tail))
}

/// Parses a CID as a file name; `None` for what is not one, or is one that
/// this program refuses (identity over the limit).
pub(super) fn parse_cid(name: &[u8]) -> Option<Cid> {
    let text = std::str::from_utf8(name).ok()?;
    let cid = Cid::try_from(text).ok()?;
    let fine = cid.hash().code() != IDENTITY || cid.hash().digest().len() <= IDENTITY_BYTES_MAX;
    fine.then_some(cid)
}

/// Whether a file name can be an IPNS key or a DNSLink domain.
pub(super) fn is_name(name: &str) -> bool {
    let key = Cid::try_from(name).is_ok()
        || multibase::Base::Base58Btc
            .decode(name)
            .is_ok_and(|b| b.len() >= 34);
    key || is_domain(name)
}

/// A domain has at least one inner dot and letters, digits and dashes otherwise
/// (`_` for service labels such as `_dnslink`).
fn is_domain(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let tld = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && tld.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_cid_can_be_is_not_parsed() {
        assert!(
            parse_cid(b"bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e").is_some()
        );
        assert!(parse_cid(b"Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD").is_some());
        for bad in [
            &b"autorun.inf"[..],
            b".Trash",
            b"",
            b"bafy",
            b"Qm",
            b"\xff\xfe",
        ] {
            assert!(parse_cid(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_keys_or_domains() {
        assert!(is_name(
            "k51qzi5uqu5diamp7qnnvs1p1gzmku3eijkeijs3418j23j077zrkok63xdm8c"
        ));
        assert!(is_name(
            "12D3KooWLQzUv2FHWGVPXTXSZpdHs7oHbXub2G5WC8Tx4NQhyd2d"
        ));
        assert!(is_name("en.wikipedia-on-ipfs.org"));
        for bad in ["plain", ".hidden", "a..b", "1.2.3.4", "-", "a/b", ".git"] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn paths_split_into_their_parts() {
        assert_eq!(split("/ipfs/abc/d/e").unwrap(), ("ipfs", "abc", "/d/e"));
        assert_eq!(split("/ipns/abc").unwrap(), ("ipns", "abc", ""));
        for bad in ["ipfs/abc", "/ipfs", "/ipfs/", "/other/abc", ""] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}
