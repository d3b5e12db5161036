//! Pins: the CIDs that a collection keeps, with how and under what name.
//!
//! They are user data, so they are in a file of their own, `pins`, which is
//! replaced as a whole: after a crash it is the old one or the new one. Its
//! first line is `cidfs pins 1 <sha2-256 of the rest>`, then one JSON object
//! `{"cid", "mode", "name"}` a line. A file that is damaged is never written
//! over: changing pins is an error, and nothing is collected.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multihash_codetable::{Code, MultihashDigest};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::block::Cid;
use crate::config::{PIN_NAME_BYTES_MAX, PINS_FILE_BYTES_MAX, PINS_MAX};
use crate::disk::{Disk, replace};

const FIRST_LINE: &str = "cidfs pins 1 ";

/// How much a pin keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PinMode {
    /// The block and all below it.
    Recursive,
    /// The one block.
    Direct,
}

/// A pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What is pinned.
    pub cid: Cid,
    /// How much of it.
    pub mode: PinMode,
    /// A name for people, if any; need not be unique.
    pub name: Option<String>,
}

/// Mode and name.
type Kept = (PinMode, Option<String>);

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    cid: String,
    mode: PinMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// The pins of a repository; one for each CID.
pub struct Pins {
    place: Option<(Arc<dyn Disk>, PathBuf)>,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    pins: BTreeMap<Cid, Kept>,
    /// Why the file cannot be used; what could be read of it is in `pins`.
    damage: Option<String>,
}

impl Pins {
    /// Reads the pins of a repository. That they are damaged stops changes and
    /// collections, and no read.
    pub(super) fn open(disk: Arc<dyn Disk>, repo_dir: &Path) -> Self {
        let path = repo_dir.join("pins");
        let held = match disk.read(&path, PINS_FILE_BYTES_MAX) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Held::default(),
            Err(error) => Held {
                damage: Some(error.to_string()),
                ..Held::default()
            },
        };
        if let Some(why) = &held.damage {
            let file = path.display();
            tracing::error!("{file}: {why}; nothing is collected and no pin is changed");
        }
        Self {
            place: Some((disk, path)),
            held: RwLock::new(held),
        }
    }

    /// Pins that are nowhere but in memory.
    pub(super) fn in_memory() -> Self {
        Self {
            place: None,
            held: RwLock::default(),
        }
    }

    /// Why the file of pins cannot be used, if it cannot.
    pub fn damage(&self) -> Option<String> {
        self.held.read().damage.clone()
    }

    /// All pins, in the order of their CIDs. Of a damaged file what can be read.
    pub fn list(&self) -> Vec<Pin> {
        let pin = |(cid, (mode, name)): (&Cid, &Kept)| Pin {
            cid: *cid,
            mode: *mode,
            name: name.clone(),
        };
        self.held.read().pins.iter().map(pin).collect()
    }

    /// How a CID is pinned, if it is.
    pub fn get(&self, cid: &Cid) -> Option<PinMode> {
        self.held.read().pins.get(cid).map(|(mode, _)| *mode)
    }

    /// Adds pins, all or none; durable when it returns.
    ///
    /// A recursive pin keeps more than a direct one, which does not weaken it;
    /// a name stays where the new pin has none.
    pub fn add(&self, added: &[Pin]) -> io::Result<()> {
        let too_long = |pin: &&Pin| {
            pin.name
                .as_ref()
                .is_some_and(|n| n.len() > PIN_NAME_BYTES_MAX)
        };
        if let Some(pin) = added.iter().find(too_long) {
            let why = format!("the name of {} is over {PIN_NAME_BYTES_MAX} bytes", pin.cid);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        self.change(|pins| {
            for pin in added {
                let (mode, name) = pins.get(&pin.cid).cloned().unwrap_or((pin.mode, None));
                let mode = match mode {
                    PinMode::Recursive => PinMode::Recursive,
                    PinMode::Direct => pin.mode,
                };
                pins.insert(pin.cid, (mode, pin.name.clone().or(name)));
            }
            if pins.len() > PINS_MAX {
                let why = format!("there would be over {PINS_MAX} pins");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            Ok(())
        })
    }

    /// Removes a pin, durably; false if there is none.
    pub fn remove(&self, cid: &Cid) -> io::Result<bool> {
        let mut found = false;
        self.change(|pins| {
            found = pins.remove(cid).is_some();
            Ok(())
        })?;
        Ok(found)
    }

    /// Writes first and changes then: a failure changes nothing.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<Cid, Kept>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut held = self.held.write();
        if let Some(why) = &held.damage {
            let why = format!("the file of pins is damaged: {why}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut changed = held.pins.clone();
        change(&mut changed)?;
        if changed == held.pins {
            return Ok(());
        }
        if let Some((disk, path)) = &self.place {
            replace(&**disk, path, &encode(&changed)?)?;
        }
        held.pins = changed;
        Ok(())
    }
}

fn checksum(body: &[u8]) -> String {
    let hash = Code::Sha2_256.digest(body);
    hash.digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn encode(pins: &BTreeMap<Cid, Kept>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    for (cid, (mode, name)) in pins {
        let line = Line {
            cid: cid.to_string(),
            mode: *mode,
            name: name.clone(),
        };
        serde_json::to_writer(&mut body, &line).map_err(io::Error::from)?;
        body.push(b'\n');
    }
    let mut out = format!("{FIRST_LINE}{}\n", checksum(&body)).into_bytes();
    out.extend(body);
    Ok(out)
}

fn decode(bytes: &[u8]) -> Held {
    let mut held = Held::default();
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (first, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let wanted = format!("{FIRST_LINE}{}", checksum(body));
    if first != wanted.as_bytes() || end == bytes.len() {
        held.damage = Some("its checksum is wrong".to_owned());
    }
    for line in body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let line: Result<Line, _> = serde_json::from_slice(line);
        match line.map(|line| (line.cid.parse::<Cid>(), (line.mode, line.name))) {
            Ok((Ok(cid), kept)) => drop(held.pins.insert(cid, kept)),
            Ok((Err(_), _)) | Err(_) => {
                held.damage = Some("a line of it is no pin".to_owned());
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn cids() -> Vec<Cid> {
        crate::car::tests::blocks(3)
            .iter()
            .map(|block| *block.cid())
            .collect()
    }

    fn pin(cid: Cid, mode: PinMode, name: &str) -> Pin {
        Pin {
            cid,
            mode,
            name: (!name.is_empty()).then(|| name.to_owned()),
        }
    }

    #[test]
    fn pins_are_there_after_a_restart_with_mode_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Pins::open(Arc::new(RealDisk), dir.path());
        let cids = cids();
        let mut wanted = vec![
            pin(cids[0], PinMode::Recursive, "a \"name\"\nof two lines"),
            pin(cids[1], PinMode::Direct, ""),
        ];
        wanted.sort_by_key(|pin| pin.cid);
        open().add(&wanted).unwrap();
        assert_eq!(open().list(), wanted);
        assert!(open().remove(&cids[0]).unwrap());
        assert!(!open().remove(&cids[2]).unwrap());
        assert_eq!(open().get(&cids[0]), None);
        assert_eq!(open().get(&cids[1]), Some(PinMode::Direct));
    }

    #[test]
    fn damaged_pins_are_neither_believed_nor_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins");
        let open = || Pins::open(Arc::new(RealDisk), dir.path());
        open()
            .add(&[pin(cids()[0], PinMode::Direct, "kept")])
            .unwrap();
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(open().damage().is_some(), "cut at {cut}");
            assert!(open().add(&[pin(cids()[1], PinMode::Direct, "")]).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), &good[..cut]);
        }
    }

    #[test]
    fn limits_refuse_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(Arc::new(RealDisk), dir.path());
        let long = "x".repeat(PIN_NAME_BYTES_MAX + 1);
        assert!(pins.add(&[pin(cids()[0], PinMode::Direct, &long)]).is_err());
        assert!(pins.list().is_empty());
    }

    #[test]
    fn a_direct_pin_does_not_weaken_a_recursive_one_nor_take_its_name() {
        let pins = Pins::in_memory();
        let cid = cids()[0];
        pins.add(&[pin(cid, PinMode::Recursive, "kept")]).unwrap();
        pins.add(&[pin(cid, PinMode::Direct, "")]).unwrap();
        assert_eq!(pins.list(), [pin(cid, PinMode::Recursive, "kept")]);
    }
}
