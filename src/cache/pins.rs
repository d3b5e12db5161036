//! Pins: the CIDs that a collection keeps, with how and under what name.
//!
//! They are user data, so they are in a file of their own, `pins`, which is
//! replaced as a whole: after a crash it is the old one or the new one. Its
//! first line is `cidfs pins 1 <sha2-256 of the rest>`, then one JSON object
//! `{"cid", "mode", "name"}` a line. A file that is damaged is never written
//! over: listing and changing are errors, and nothing is collected.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use multihash_codetable::{Code, MultihashDigest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::error::CacheError;
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
    /// A name for people; may be empty, need not be unique.
    pub name: String,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    cid: String,
    mode: PinMode,
    #[serde(default)]
    name: String,
}

/// The pins of a repository; one for each CID.
pub struct Pins {
    place: Option<(Arc<dyn Disk>, PathBuf)>,
    pins: Mutex<Result<BTreeMap<Cid, (PinMode, String)>, String>>,
}

impl Pins {
    /// Reads the pins of a repository. Damage shows when they are used.
    pub(super) fn open(disk: Arc<dyn Disk>, repo_dir: &Path) -> Self {
        let path = repo_dir.join("pins");
        let pins = match disk.read(&path, PINS_FILE_BYTES_MAX) {
            Ok(bytes) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error.to_string()),
        };
        let pins = pins.map_err(|why| format!("{} cannot be used: {why}", path.display()));
        if let Err(why) = &pins {
            tracing::error!("{why}; nothing is collected and no pin is changed");
        }
        Self {
            place: Some((disk, path)),
            pins: Mutex::new(pins),
        }
    }

    /// Pins of a store without a disk: there are none.
    pub(super) fn nowhere() -> Self {
        Self {
            place: None,
            pins: Mutex::new(Ok(BTreeMap::new())),
        }
    }

    /// Lists all pins, by CID.
    pub fn list(&self) -> Result<Vec<Pin>, CacheError> {
        let pins = self.pins.lock();
        let pins = pins.as_ref().map_err(|why| CacheError::Pins(why.clone()))?;
        let pin = |(cid, (mode, name)): (&Cid, &(PinMode, String))| Pin {
            cid: *cid,
            mode: *mode,
            name: name.clone(),
        };
        Ok(pins.iter().map(pin).collect())
    }

    /// Gives the pin of a CID.
    pub fn get(&self, cid: &Cid) -> Result<Option<Pin>, CacheError> {
        let pins = self.pins.lock();
        let pins = pins.as_ref().map_err(|why| CacheError::Pins(why.clone()))?;
        Ok(pins.get(cid).map(|(mode, name)| Pin {
            cid: *cid,
            mode: *mode,
            name: name.clone(),
        }))
    }

    /// Adds pins, durably, all or none. One that is there gets the new mode
    /// and name.
    pub fn add(&self, added: &[Pin]) -> Result<(), CacheError> {
        if let Some(pin) = added.iter().find(|pin| pin.name.len() > PIN_NAME_BYTES_MAX) {
            let why = format!("the name of {} is over {PIN_NAME_BYTES_MAX} bytes", pin.cid);
            return Err(CacheError::Pins(why));
        }
        self.change(|pins| {
            for pin in added {
                pins.insert(pin.cid, (pin.mode, pin.name.clone()));
            }
            if pins.len() > PINS_MAX {
                return Err(CacheError::Pins(format!("there would be over {PINS_MAX}")));
            }
            Ok(())
        })
    }

    /// Removes pins, durably; tells how many were there.
    pub fn remove(&self, cids: &[Cid]) -> Result<usize, CacheError> {
        let mut removed = 0;
        self.change(|pins| {
            removed = cids.iter().filter(|cid| pins.remove(cid).is_some()).count();
            Ok(())
        })?;
        Ok(removed)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<Cid, (PinMode, String)>) -> Result<(), CacheError>,
    ) -> Result<(), CacheError> {
        let (disk, path) = self.place.as_ref().ok_or(CacheError::NoRepository)?;
        let mut held = self.pins.lock();
        let pins = held.as_ref().map_err(|why| CacheError::Pins(why.clone()))?;
        let mut changed = pins.clone();
        change(&mut changed)?;
        if changed == *pins {
            return Ok(());
        }
        replace(&**disk, path, &encode(&changed)?)?;
        *held = Ok(changed);
        Ok(())
    }
}

fn checksum(body: &[u8]) -> String {
    let hash = Code::Sha2_256.digest(body);
    hash.digest().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(pins: &BTreeMap<Cid, (PinMode, String)>) -> Result<Vec<u8>, CacheError> {
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

fn decode(bytes: &[u8]) -> Result<BTreeMap<Cid, (PinMode, String)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let (first, body) = text.split_once('\n').ok_or("it has no first line")?;
    let sum = first.strip_prefix(FIRST_LINE).ok_or("its first line is not ours")?;
    if sum != checksum(body.as_bytes()) {
        return Err("its checksum is wrong".to_owned());
    }
    let mut pins = BTreeMap::new();
    for line in body.lines() {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let cid = line.cid.parse::<Cid>().map_err(|error| error.to_string())?;
        pins.insert(cid, (line.mode, line.name));
    }
    Ok(pins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::HostDisk;

    fn cids() -> Vec<Cid> {
        crate::car::tests::blocks(3).iter().map(|block| *block.cid()).collect()
    }

    fn pin(cid: Cid, mode: PinMode, name: &str) -> Pin {
        Pin {
            cid,
            mode,
            name: name.to_owned(),
        }
    }

    #[test]
    fn pins_are_there_after_a_restart_with_mode_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Pins::open(Arc::new(HostDisk), dir.path());
        let cids = cids();
        let mut wanted = vec![
            pin(cids[0], PinMode::Recursive, "a \"name\"\nof two lines"),
            pin(cids[1], PinMode::Direct, ""),
        ];
        wanted.sort_by_key(|pin| pin.cid);
        open().add(&wanted).unwrap();
        assert_eq!(open().list().unwrap(), wanted);
        assert_eq!(open().remove(&[cids[0], cids[2]]).unwrap(), 1);
        assert_eq!(open().get(&cids[0]).unwrap(), None);
        assert!(open().get(&cids[1]).unwrap().is_some());
    }

    #[test]
    fn damaged_pins_are_neither_believed_nor_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pins");
        let open = || Pins::open(Arc::new(HostDisk), dir.path());
        open().add(&[pin(cids()[0], PinMode::Direct, "kept")]).unwrap();
        let good = std::fs::read(&path).unwrap();
        for cut in 0..good.len() {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(open().list().is_err(), "cut at {cut}");
            assert!(open().add(&[pin(cids()[1], PinMode::Direct, "")]).is_err());
            assert_eq!(std::fs::read(&path).unwrap(), &good[..cut]);
        }
    }

    #[test]
    fn limits_refuse_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(Arc::new(HostDisk), dir.path());
        let long = "x".repeat(PIN_NAME_BYTES_MAX + 1);
        assert!(pins.add(&[pin(cids()[0], PinMode::Direct, &long)]).is_err());
        assert!(pins.list().unwrap().is_empty());
        let nowhere = Pins::nowhere();
        let refused = nowhere.add(&[pin(cids()[0], PinMode::Direct, "")]);
        assert!(matches!(refused, Err(CacheError::NoRepository)));
    }
}
