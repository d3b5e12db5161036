//! Pins: what garbage collection keeps.
//!
//! A file of their own, replaced whole and durable: a pin that was answered
//! is there after a loss of power. Not in sled, which may lose what it holds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::block::Cid;
use crate::config::{PIN_NAME_BYTES_MAX, PINS_BYTES_MAX};
use crate::disk::Disk;

/// How much a pin keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinMode {
    /// The block and all below it.
    Recursive,
    /// The block alone.
    Direct,
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What is kept.
    pub cid: Cid,
    /// How much of it.
    pub mode: PinMode,
    /// A name for people, if any.
    pub name: Option<String>,
}

/// The pins of a repository.
pub struct Pins {
    pins: RwLock<BTreeMap<Cid, (PinMode, Option<String>)>>,
    place: Option<(PathBuf, Arc<dyn Disk>)>,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    cid: String,
    mode: PinMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl Pins {
    /// Reads the pins of a repository; none if the file is not there.
    ///
    /// A file that is damaged is an error, so that nothing is collected.
    pub(super) fn open(path: &Path, disk: Arc<dyn Disk>) -> io::Result<Self> {
        let bytes = match disk.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        if bytes.len() > PINS_BYTES_MAX {
            return Err(io::Error::other("the file of pins is over its limit"));
        }
        let mut pins = BTreeMap::new();
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let bad = |why: String| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{}: {why}", path.display()),
                )
            };
            let line: Line = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
            let cid = Cid::try_from(line.cid.as_str()).map_err(|e| bad(e.to_string()))?;
            pins.insert(cid, (line.mode, line.name));
        }
        Ok(Self {
            pins: RwLock::new(pins),
            place: Some((path.into(), disk)),
        })
    }

    /// Pins that are nowhere but in memory.
    pub(super) fn in_memory() -> Self {
        Self {
            pins: RwLock::default(),
            place: None,
        }
    }

    /// Adds pins, or changes those that are there; durable when it returns.
    pub fn add(&self, added: &[Pin]) -> io::Result<()> {
        if added.iter().any(|p| {
            p.name
                .as_ref()
                .is_some_and(|n| n.len() > PIN_NAME_BYTES_MAX)
        }) {
            let text = format!("a pin's name has at most {PIN_NAME_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.change(|pins| {
            for pin in added {
                let known = pins.get(&pin.cid);
                // A recursive pin keeps more: a direct one does not weaken it.
                let mode = match known {
                    Some((PinMode::Recursive, _)) => PinMode::Recursive,
                    Some((PinMode::Direct, _)) | None => pin.mode,
                };
                let name = pin
                    .name
                    .clone()
                    .or_else(|| known.and_then(|(_, name)| name.clone()));
                pins.insert(pin.cid, (mode, name));
            }
            true
        })
    }

    /// Removes a pin; false if there is none.
    pub fn remove(&self, cid: &Cid) -> io::Result<bool> {
        let mut found = false;
        self.change(|pins| {
            found = pins.remove(cid).is_some();
            found
        })?;
        Ok(found)
    }

    /// All pins, in the order of their CIDs.
    pub fn list(&self) -> Vec<Pin> {
        let pins = self.pins.read();
        let pin = |(cid, (mode, name)): (&Cid, &(PinMode, Option<String>))| Pin {
            cid: *cid,
            mode: *mode,
            name: name.clone(),
        };
        pins.iter().map(pin).collect()
    }

    /// How a CID is pinned, if it is.
    pub fn get(&self, cid: &Cid) -> Option<PinMode> {
        self.pins.read().get(cid).map(|(mode, _)| *mode)
    }

    /// Writes first and changes then: a failure changes nothing.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<Cid, (PinMode, Option<String>)>) -> bool,
    ) -> io::Result<()> {
        let mut pins = self.pins.write();
        let mut changed = pins.clone();
        if !change(&mut changed) {
            return Ok(());
        }
        if let Some((path, disk)) = &self.place {
            let mut bytes = Vec::new();
            for (cid, (mode, name)) in &changed {
                let line = Line {
                    cid: cid.to_string(),
                    mode: *mode,
                    name: name.clone(),
                };
                serde_json::to_writer(&mut bytes, &line)?;
                bytes.push(b'\n');
            }
            disk.replace(path, &bytes)?;
        }
        *pins = changed;
        Ok(())
    }
}
