//! Paths as people write them. Pure.

use crate::block::Cid;
use crate::control::OperationError;

/// Brings `/ipfs/…`, `/ipns/…`, `/mfs[/…]`, `ipfs://…`, `ipns://…`, `<cid>[/…]`
/// into the form that the tree takes.
pub(super) fn normal(path: &str) -> Result<String, OperationError> {
    let whole = ["/ipfs/", "/ipns/", "/mfs/"];
    if path == "/mfs" || whole.iter().any(|start| path.starts_with(start)) {
        return Ok(path.to_owned());
    }
    for space in ["ipfs", "ipns"] {
        let rest = path
            .strip_prefix(space)
            .and_then(|rest| rest.strip_prefix("://"));
        if let Some(rest) = rest {
            return Ok(format!("/{space}/{rest}"));
        }
    }
    let first = path.split('/').next().unwrap_or_default();
    if Cid::try_from(first).is_ok() {
        return Ok(format!("/ipfs/{path}"));
    }
    Err(
        OperationError::invalid(format!("{path:?} is not a path of IPFS"))
            .hint("write /ipfs/<cid>[/path], /ipns/<name>[/path], /mfs[/path] or <cid>[/path]"),
    )
}

/// The name under which a path's content is kept by default: its last part.
pub(super) fn last_part(path: &str) -> String {
    path.rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or("content")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

    #[test]
    fn every_usual_form_is_understood() {
        let wanted = format!("/ipfs/{CID}/a b");
        for form in [
            format!("/ipfs/{CID}/a b"),
            format!("ipfs://{CID}/a b"),
            format!("{CID}/a b"),
        ] {
            assert_eq!(normal(&form).unwrap(), wanted);
        }
        assert_eq!(normal("ipns://example.net").unwrap(), "/ipns/example.net");
        assert_eq!(normal("/mfs").unwrap(), "/mfs");
        assert_eq!(normal("/mfs/a b").unwrap(), "/mfs/a b");
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_forms() {
        for bad in ["", "/", "a/b", "/mnt/x", "ipfs:/x", "/mfsx"] {
            let refused = normal(bad).unwrap_err();
            assert!(
                refused
                    .hint
                    .is_some_and(|hint| hint.contains("/ipfs/<cid>")),
                "{bad}"
            );
        }
    }
}
