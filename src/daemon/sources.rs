//! The sources of a repository, as the tree and the operations see them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::block::Cid;
use crate::cache::Blocks;
use crate::clock::{Clock, SystemClock};
use crate::control::{ErrorKind, OperationError, SourceAdmin};
use crate::repo::{self, CONFIG_NAME, ConfigFile, Repo};
use crate::source::{BlockSource, SourceError, SourceSpec, Sources, SpecError};
use crate::tree::{NameError, NameResolver, Resolved, RootLister};

/// All sources, and where their configuration is kept.
pub(super) struct SourceSet {
    sources: Arc<Sources>,
    clock: Arc<dyn Clock>,
    repo: PathBuf,
}

impl SourceSet {
    /// Opens the sources of the config file and of `specs`, in this order.
    pub(super) fn open(repo: &Repo, specs: &[String]) -> Result<Self, OperationError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut all = repo.config().source.clone();
        for text in specs {
            all.push(SourceSpec::parse(text)?);
        }
        let sources = Sources::open(&all, repo.config().fetch.strategy, &clock)?;
        Ok(Self {
            sources: Arc::new(sources),
            clock,
            repo: repo.dir().to_owned(),
        })
    }

    /// The sources as one.
    pub(super) fn source(&self) -> Arc<dyn BlockSource> {
        Arc::clone(&self.sources) as _
    }

    /// Gives the figures of the source `name`.
    fn figures_of(&self, name: &str) -> Value {
        let found = self
            .sources
            .figures()
            .into_iter()
            .find(|one| one.name == name);
        found.map_or_else(|| json!({"name": name}), |one| json!(one))
    }
}

#[async_trait]
impl NameResolver for SourceSet {
    async fn resolve(&self, name: &str) -> Result<Resolved, NameError> {
        let record = self
            .sources
            .resolve(name)
            .await
            .map_err(|error| match error {
                SourceError::NotFound { .. } => NameError::Unknown(name.to_owned()),
                SourceError::Timeout { .. } => NameError::Timeout(name.to_owned()),
                error @ (SourceError::Unreachable { .. }
                | SourceError::Limited { .. }
                | SourceError::Corrupt { .. }
                | SourceError::Unsupported { .. }
                | SourceError::Io { .. }) => NameError::Failed(error.to_string()),
            })?;
        Ok(Resolved {
            value: record.value,
            ttl: record.ttl,
        })
    }
}

#[async_trait]
impl SourceAdmin for SourceSet {
    fn list(&self) -> Vec<Value> {
        self.sources
            .figures()
            .into_iter()
            .map(|one| json!(one))
            .collect()
    }

    async fn test(&self, name: Option<&str>) -> Result<Value, OperationError> {
        if let Some(name) = name
            && !self.sources.names().iter().any(|one| one == name)
        {
            return Err(unknown(name));
        }
        let probes = self.sources.test(name).await;
        let results = probes.into_iter().map(|probe| {
            let error = probe.answer.err().map(|error| error.to_string());
            let ms = u64::try_from(probe.took.as_millis()).unwrap_or(u64::MAX);
            json!({"name": probe.name, "ok": error.is_none(), "ms": ms, "error": error})
        });
        Ok(results.collect())
    }

    async fn add(&self, text: &str, save: bool) -> Result<Value, OperationError> {
        let spec = SourceSpec::parse(text)?;
        self.sources.add_spec(&spec, &self.clock)?;
        let name = spec.name();
        if save && let Err(error) = save_added(&self.repo, &spec) {
            self.sources.remove(&name);
            return Err(error);
        }
        Ok(self.figures_of(&name))
    }

    async fn remove(&self, name: &str, save: bool) -> Result<Value, OperationError> {
        let figures = self.figures_of(name);
        if !self.sources.names().iter().any(|one| one == name) {
            return Err(unknown(name));
        }
        if save {
            save_removed(&self.repo, name)?;
        }
        self.sources.remove(name);
        Ok(figures)
    }
}

fn unknown(name: &str) -> OperationError {
    OperationError::not_found(format!("there is no source {name:?}"))
        .hint("`cidfs sources` lists their names")
}

impl From<SpecError> for OperationError {
    fn from(error: SpecError) -> Self {
        let message = error.to_string();
        match error {
            SpecError::Unknown(_) | SpecError::Field { .. } => Self::invalid(message),
            SpecError::Open { .. } => Self::new(ErrorKind::Unavailable, message),
            SpecError::Twice(_) => Self::new(ErrorKind::Busy, message),
            SpecError::TooMany => Self::new(ErrorKind::TooLarge, message),
        }
    }
}

/// Shows what pins keep and what sources name as their roots.
pub(super) struct Roots {
    pub(super) sources: Arc<dyn BlockSource>,
    pub(super) blocks: Arc<Blocks>,
    /// The repository's directory.
    pub(super) repo: PathBuf,
}

impl RootLister for Roots {
    fn roots(&self) -> Vec<Cid> {
        let pinned = self.blocks.pins().list().into_iter().map(|pin| pin.cid);
        pinned.chain(self.sources.roots()).collect()
    }

    /// When a pin or the configuration with its sources was last written, or the
    /// repository made.
    fn changed(&self) -> SystemTime {
        let written = |name| std::fs::metadata(self.repo.join(name)).and_then(|m| m.modified());
        let all = ["version", "config.toml", "pins"].map(written);
        let newest = all.into_iter().filter_map(Result::ok).max();
        newest.unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// Appends a source to the config file; what stands there stays as it is.
fn save_added(repo: &Path, spec: &SourceSpec) -> Result<(), OperationError> {
    let table =
        toml::to_string(spec).map_err(|error| OperationError::internal(error.to_string()))?;
    edit(repo, |text| {
        let gap = if text.is_empty() || text.ends_with("\n\n") {
            ""
        } else {
            "\n"
        };
        Ok(format!("{text}{gap}[[source]]\n{table}"))
    })
}

/// Takes a source out of the config file; one that is not there is no error.
fn save_removed(repo: &Path, name: &str) -> Result<(), OperationError> {
    let position = repo::read_config(repo)?
        .source
        .iter()
        .position(|one| one.name() == name);
    let Some(position) = position else {
        return Ok(());
    };
    edit(repo, |text| {
        let invalid = |why: String| OperationError::invalid(format!("{CONFIG_NAME}: {why}"));
        let mut document: toml_edit::DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| invalid(error.to_string()))?;
        let tables = document
            .get_mut("source")
            .and_then(|item| item.as_array_of_tables_mut());
        let Some(tables) = tables else {
            return Err(invalid(
                "the sources are not written as [[source]]".to_owned(),
            ));
        };
        tables.remove(position);
        Ok(document.to_string())
    })
}

/// Replaces the config file by what `change` makes of it, if that is valid.
fn edit(
    repo: &Path,
    change: impl FnOnce(&str) -> Result<String, OperationError>,
) -> Result<(), OperationError> {
    let path = repo.join(CONFIG_NAME);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let changed = change(&text)?;
    ConfigFile::parse(&changed)
        .map_err(|why| OperationError::invalid(format!("{CONFIG_NAME}: {why}")))?;
    let fresh = repo.join("config.toml.new");
    std::fs::write(&fresh, changed)?;
    std::fs::rename(&fresh, &path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_a_source_keeps_what_stands_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONFIG_NAME);
        std::fs::write(&path, "# mine\n[store]\nmemory_bytes_max = 5 # few\n").unwrap();
        let spec = SourceSpec::parse("gateway:https://example.net").unwrap();
        save_added(dir.path(), &spec).unwrap();
        let other = SourceSpec::parse("gateway:https://example.org").unwrap();
        save_added(dir.path(), &other).unwrap();
        let names = |dir| -> Vec<String> {
            repo::read_config(dir)
                .unwrap()
                .source
                .iter()
                .map(SourceSpec::name)
                .collect()
        };
        assert_eq!(names(dir.path()), [spec.name(), other.name()]);
        save_removed(dir.path(), &spec.name()).unwrap();
        assert_eq!(names(dir.path()), [other.name()]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("# mine\n[store]\nmemory_bytes_max = 5 # few\n"),
            "{text}"
        );
    }

    #[test]
    fn a_config_file_that_is_not_valid_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(CONFIG_NAME);
        std::fs::write(&path, "source = []\n").unwrap();
        let spec = SourceSpec::parse("gateway:https://example.net").unwrap();
        assert_eq!(
            save_added(dir.path(), &spec).unwrap_err().kind,
            ErrorKind::Invalid
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "source = []\n");
    }
}
