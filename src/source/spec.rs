//! What a configuration says about a source, and how one is built from it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    BlockSource, CarSource, Deadline, Gateway, Kubo, KuboAddress, KuboRepo, Limit, Meter, Metered,
    Retry,
};
use crate::clock::Clock;
use crate::config::{SOURCE_CONCURRENCY, SOURCE_DEADLINE, SOURCE_RETRIES};

/// Why a source cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text names no kind of source.
    #[error("{0:?} is no source: write car:FILE, gateway:URL, kubo:ADDRESS or kubo-repo:DIR")]
    Unknown(String),
    /// A field is missing, superfluous, or out of its range.
    #[error("source {name}: {why}")]
    Field {
        /// Which source.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The source cannot be opened.
    #[error("source {name}: {why}")]
    Open {
        /// Which source.
        name: String,
        /// Cause in words.
        why: String,
    },
    /// Two sources have one name.
    #[error("there is a source {0} already")]
    Twice(String),
    /// There are as many as may be.
    #[error("there are {max} sources already", max = crate::config::SOURCES_MAX)]
    TooMany,
}

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A CAR file, or a directory of them: `path`.
    Car,
    /// A trustless gateway: `url`.
    Gateway,
    /// The RPC of a Kubo node: `url` (an URL or a multiaddr), or `path` (its repository).
    Kubo,
    /// A Kubo repository on disk: `path`.
    KuboRepo,
}

impl SourceKind {
    /// The word before the colon.
    pub fn word(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Gateway => "gateway",
            Self::Kubo => "kubo",
            Self::KuboRepo => "kubo-repo",
        }
    }
}

/// One source as it is configured: a `[[source]]` table, or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// What it is.
    pub kind: SourceKind,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Its place on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its name in figures and logs; else kind and address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seconds for one block, retries included; else [`SOURCE_DEADLINE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<u64>,
    /// Requests at once; else [`SOURCE_CONCURRENCY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// How often a failed request is sent again; else [`SOURCE_RETRIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// A PEM file of the only certificates to trust, where the URL is https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Ask a Kubo node only for what it holds.
    #[serde(default)]
    pub offline: bool,
}

/// A source that was built, with its counters.
pub(super) struct Built {
    pub(super) source: Arc<dyn BlockSource>,
    pub(super) meter: Arc<Meter>,
}

impl SourceSpec {
    /// Reads `car:PATH`, `gateway:URL`, `kubo:ADDRESS`, `kubo-repo:DIR`; also
    /// plain `https://…` (a gateway) and `….car`.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let kinds = [
            SourceKind::Car,
            SourceKind::Gateway,
            SourceKind::Kubo,
            SourceKind::KuboRepo,
        ];
        let named = text.split_once(':').and_then(|(word, rest)| {
            let kind = kinds.into_iter().find(|kind| kind.word() == word)?;
            (!rest.is_empty()).then_some((kind, rest))
        });
        let plain = || {
            let web = text.starts_with("https://") || text.starts_with("http://");
            let car = Path::new(text)
                .extension()
                .is_some_and(|extension| extension == "car");
            match (web, car) {
                (true, _) => Some((SourceKind::Gateway, text)),
                (false, true) => Some((SourceKind::Car, text)),
                (false, false) => None,
            }
        };
        let (kind, rest) = named
            .or_else(plain)
            .ok_or_else(|| SpecError::Unknown(text.to_owned()))?;
        let on_disk = match kind {
            SourceKind::Car | SourceKind::KuboRepo => true,
            SourceKind::Gateway | SourceKind::Kubo => false,
        };
        let spec = Self::new(kind);
        let rest = Some(rest.to_owned());
        Ok(if on_disk {
            Self { path: rest, ..spec }
        } else {
            Self { url: rest, ..spec }
        })
    }

    fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            url: None,
            path: None,
            name: None,
            deadline_s: None,
            concurrency: None,
            retries: None,
            ca: None,
            offline: false,
        }
    }

    /// Its name: the one that was given, or kind and address.
    pub fn name(&self) -> String {
        let place = self
            .url
            .as_deref()
            .or(self.path.as_deref())
            .unwrap_or_default();
        let shown = || format!("{} {}", self.kind.word(), without_password(place));
        self.name.clone().unwrap_or_else(shown)
    }

    /// Builds the source with its decorators. Opens files, sends nothing.
    pub(super) fn open(&self, clock: &Arc<dyn Clock>) -> Result<Built, SpecError> {
        self.check()?;
        let name = self.name();
        let bare = self.bare(name.clone(), clock);
        let bare = bare.map_err(|why| SpecError::Open { name, why })?;
        let deadline = self.deadline_s.map_or(SOURCE_DEADLINE, Duration::from_secs);
        let local = bare.is_local();
        // One attempt gets half, so that a connection that hangs can be given up for another.
        let attempt = if local { deadline } else { deadline / 2 };
        let metered = Metered::new(Arc::new(Deadline::new(bare, attempt)));
        let meter = metered.meter();
        let concurrency = self.concurrency.unwrap_or(SOURCE_CONCURRENCY);
        let limited: Arc<dyn BlockSource> = Arc::new(Limit::new(Arc::new(metered), concurrency));
        if local {
            return Ok(Built {
                source: limited,
                meter,
            });
        }
        let retry = Retry::new(limited, self.retries.unwrap_or(SOURCE_RETRIES));
        Ok(Built {
            source: Arc::new(Deadline::new(Arc::new(retry), deadline)),
            meter,
        })
    }

    fn bare(&self, name: String, clock: &Arc<dyn Clock>) -> Result<Arc<dyn BlockSource>, String> {
        let url = self.url.as_deref().unwrap_or_default();
        let path = self.path.as_deref().unwrap_or_default();
        let ca = self.ca.as_deref().map(Path::new);
        let clock = Arc::clone(clock);
        Ok(match self.kind {
            SourceKind::Car => Arc::new(CarSource::open(name, Path::new(path))?),
            SourceKind::Gateway => Arc::new(Gateway::new(name, url, ca, clock)?),
            SourceKind::Kubo => {
                let address = KuboAddress::parse(self.url.as_deref().unwrap_or(path))?;
                Arc::new(Kubo::new(name, address, self.offline, ca, clock)?)
            }
            SourceKind::KuboRepo => Arc::new(KuboRepo::open(name, Path::new(path))?),
        })
    }

    fn check(&self) -> Result<(), SpecError> {
        let refuse = |why: &str| {
            Err(SpecError::Field {
                name: self.name(),
                why: why.to_owned(),
            })
        };
        let (url, path) = (self.url.is_some(), self.path.is_some());
        match self.kind {
            SourceKind::Car | SourceKind::KuboRepo if url || !path => {
                return refuse("it needs a path, and no url");
            }
            SourceKind::Gateway if path || !url => return refuse("it needs a url, and no path"),
            SourceKind::Kubo if path == url => return refuse("it needs a url or a path"),
            SourceKind::Car | SourceKind::KuboRepo | SourceKind::Gateway | SourceKind::Kubo => (),
        }
        let secure = self
            .url
            .as_deref()
            .is_some_and(|url| url.starts_with("https://"));
        if self.ca.is_some() && !secure {
            return refuse("ca goes with an https url only");
        }
        if self
            .deadline_s
            .is_some_and(|seconds| !(1..=3600).contains(&seconds))
        {
            return refuse("deadline_s must be between 1 and 3600");
        }
        if self
            .concurrency
            .is_some_and(|count| !(1..=1024).contains(&count))
        {
            return refuse("concurrency must be between 1 and 1024");
        }
        if self.retries.is_some_and(|count| count > 10) {
            return refuse("retries must be at most 10");
        }
        Ok(())
    }
}

/// An address as it may be shown: without user and password.
pub fn without_password(place: &str) -> String {
    match (place.split_once("://"), place.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_their_kind_or_show_it() {
        for (text, kind, place) in [
            ("car:/a/b", SourceKind::Car, "/a/b"),
            ("a/b.car", SourceKind::Car, "a/b.car"),
            (
                "gateway:https://example.net",
                SourceKind::Gateway,
                "https://example.net",
            ),
            (
                "https://example.net/x",
                SourceKind::Gateway,
                "https://example.net/x",
            ),
            (
                "kubo:http://127.0.0.1:5001",
                SourceKind::Kubo,
                "http://127.0.0.1:5001",
            ),
            (
                "kubo:/ip4/127.0.0.1/tcp/5001",
                SourceKind::Kubo,
                "/ip4/127.0.0.1/tcp/5001",
            ),
            (
                "kubo-repo:/home/u/.ipfs",
                SourceKind::KuboRepo,
                "/home/u/.ipfs",
            ),
        ] {
            let spec = SourceSpec::parse(text).unwrap();
            assert_eq!(spec.kind, kind, "{text}");
            assert_eq!(spec.url.or(spec.path).as_deref(), Some(place), "{text}");
        }
        for text in ["", "car:", "nonsense", "ftp://example.net", "/some/dir"] {
            assert!(SourceSpec::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn tables_of_the_configuration_are_read_and_checked() {
        let text = "kind = \"gateway\"\nurl = \"https://u:secret@example.net\"\ndeadline_s = 9";
        let spec: SourceSpec = toml::from_str(text).unwrap();
        assert_eq!(spec.name(), "gateway https://example.net");
        assert_eq!(spec.check(), Ok(()));
        assert!(toml::from_str::<SourceSpec>("kind = \"gateway\"\nurk = \"x\"").is_err());
        for (kind, rest) in [
            ("gateway", "path = \"x\""),
            ("car", "url = \"x\""),
            ("kubo", ""),
            ("car", "path = \"x\"\nretries = 11"),
            ("car", "path = \"x\"\nca = \"y\""),
            ("gateway", "url = \"http://x\"\nca = \"y\""),
            ("car", "path = \"x\"\nconcurrency = 0"),
            ("car", "path = \"x\"\ndeadline_s = 0"),
        ] {
            let spec: SourceSpec = toml::from_str(&format!("kind = \"{kind}\"\n{rest}")).unwrap();
            assert!(spec.check().is_err(), "{kind} {rest}");
        }
    }
}
