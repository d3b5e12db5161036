//! What a configuration says about a node that the tree is pushed to.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::spec::without_password;
use super::{KuboAddress, KuboPush, SourceKind, SourceSpec, SpecError};
use crate::clock::Clock;
use crate::config::PIN_NAME_BYTES_MAX;

/// Name of the pins at a node where none is configured.
const PIN_NAME: &str = "cidfs";

/// One node as it is configured: a `[[push]]` table, or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushSpec {
    /// What it is: a Kubo node.
    pub kind: SourceKind,
    /// Its RPC: an URL or a multiaddr. A user and password in it are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its repository, whose file `api` names the RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its name in figures and logs; else kind and address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name that the pins get there; else `cidfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_name: Option<String>,
    /// A PEM file of the only certificates to trust, where the URL is https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Fetch what the tree only links to, and send that too.
    #[serde(default)]
    pub fetch: bool,
}

impl PushSpec {
    /// Reads `kubo:ADDRESS`, where the address is an URL, a multiaddr or the
    /// directory of a node's repository.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let source = SourceSpec::parse(text)?;
        let spec = Self {
            kind: source.kind,
            url: source.url,
            path: source.path,
            name: None,
            pin_name: None,
            ca: None,
            fetch: false,
        };
        spec.check()?;
        Ok(spec)
    }

    /// Its name: the one that was given, or kind and address.
    pub fn name(&self) -> String {
        let place = self.url.as_deref().or(self.path.as_deref());
        let place = place.unwrap_or_default();
        let shown = || format!("{} {}", self.kind.word(), without_password(place));
        self.name.clone().unwrap_or_else(shown)
    }

    /// Makes a client for it. Sends nothing.
    pub fn open(&self, clock: Arc<dyn Clock>) -> Result<KuboPush, SpecError> {
        self.check()?;
        let name = self.name();
        let place = self.url.as_deref().or(self.path.as_deref());
        let pin_name = self.pin_name.clone().unwrap_or_else(|| PIN_NAME.to_owned());
        let ca = self.ca.as_deref().map(Path::new);
        KuboAddress::parse(place.unwrap_or_default())
            .and_then(|address| KuboPush::new(name.clone(), address, pin_name, ca, clock))
            .map_err(|why| SpecError::Open { name, why })
    }

    fn check(&self) -> Result<(), SpecError> {
        let refuse = |why: &str| {
            Err(SpecError::Field {
                name: self.name(),
                why: why.to_owned(),
            })
        };
        if self.kind != SourceKind::Kubo {
            return refuse("only a Kubo node can be pushed to: write kubo:ADDRESS");
        }
        if self.url.is_some() == self.path.is_some() {
            return refuse("it needs a url or a path");
        }
        let secure = self
            .url
            .as_deref()
            .is_some_and(|url| url.starts_with("https://"));
        if self.ca.is_some() && !secure {
            return refuse("ca goes with an https url only");
        }
        let fits = |name: &String| (1..=PIN_NAME_BYTES_MAX).contains(&name.len());
        if !self.pin_name.as_ref().is_none_or(fits) {
            return refuse("pin_name must have from 1 to 255 bytes");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn only_kubo_nodes_can_be_pushed_to() {
        let spec = PushSpec::parse("kubo:http://u:secret@127.0.0.1:5001").unwrap();
        assert_eq!(spec.name(), "kubo http://127.0.0.1:5001");
        assert!(spec.open(Arc::new(SystemClock)).is_ok());
        for text in ["gateway:https://example.net", "car:x.car", "nonsense"] {
            assert!(PushSpec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_of_the_configuration_are_checked() {
        let good = "kind = \"kubo\"\npath = \"/home/u/.ipfs\"\npin_name = \"mine\"\nfetch = true";
        let spec: PushSpec = toml::from_str(good).unwrap();
        assert_eq!(spec.check(), Ok(()));
        for bad in [
            "kind = \"car\"\npath = \"x\"",
            "kind = \"kubo\"",
            "kind = \"kubo\"\nurl = \"http://x\"\npath = \"x\"",
            "kind = \"kubo\"\nurl = \"http://x\"\nca = \"y\"",
            "kind = \"kubo\"\nurl = \"http://x\"\npin_name = \"\"",
        ] {
            let spec: PushSpec = toml::from_str(bad).unwrap();
            assert!(spec.check().is_err(), "{bad}");
        }
        assert!(toml::from_str::<PushSpec>("kind = \"kubo\"\nurk = \"x\"").is_err());
    }
}
