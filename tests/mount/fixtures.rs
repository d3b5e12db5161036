//! The CAR files of the gateway conformance suite, read through a real mount.

use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use cidfs::block::{SHA2_256, hash};
use serde::Deserialize;

use crate::harness::{Memory, Mounted, fixtures};

#[derive(Deserialize)]
struct Root {
    car: String,
    root: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    kind: String,
    cid: String,
    size: Option<u64>,
    sha256: Option<String>,
    target: Option<String>,
    readable: Option<Vec<(u64, u64)>>,
}

#[test]
fn every_fixture_reads_as_its_manifest_says() {
    let Some(dir) = fixtures() else { return };
    let manifest = fs::read_to_string(dir.join("manifest.jsonl")).unwrap();
    let (mut roots, mut entries) = (0, 0);
    for line in manifest.lines() {
        let root: Root = serde_json::from_str(line).unwrap();
        let memory = Memory::of_car(&dir.join(&root.car));
        let mounted = Mounted::new(Arc::new(memory), "");
        let base = mounted.dir.join("ipfs").join(&root.root);
        let (hostile, good): (Vec<&Entry>, Vec<&Entry>) = root
            .entries
            .iter()
            .partition(|e| e.path.split('/').any(|part| part == ".."));
        for entry in &good {
            let path = if entry.path.is_empty() {
                base.clone()
            } else {
                base.join(&entry.path)
            };
            match &entry.readable {
                None => check(&path, entry),
                Some(ranges) => check_damaged(&path, entry, ranges),
            }
            entries += 1;
        }
        if root.kind == "directory" {
            // What a name with `..` would lead to is neither listed nor reached.
            let named = good.iter().filter(|e| !e.path.is_empty()).count();
            assert_eq!(walk(&base), named, "{} hides {}", root.car, hostile.len());
        }
        roots += 1;
    }
    println!("{roots} roots, {entries} entries");
    assert!(roots > 20 && entries > 100);
}

fn check(path: &Path, entry: &Entry) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kind = meta.file_type();
    assert!(!kind.is_fifo());
    match entry.kind.as_str() {
        "file" => {
            assert!(kind.is_file());
            assert_eq!(Some(meta.len()), entry.size, "{}", path.display());
            let bytes = fs::read(path).unwrap();
            let digest = hash(SHA2_256, &bytes).unwrap();
            let hex: String = digest.digest().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(Some(&hex), entry.sha256.as_ref(), "{}", path.display());
        }
        "directory" => assert!(kind.is_dir()),
        _ => {
            assert!(kind.is_symlink());
            let target = fs::read_link(path).unwrap();
            assert_eq!(target.to_str(), entry.target.as_deref());
        }
    }
    assert_eq!(xattr(path, "ipfs.cid"), entry.cid, "{}", path.display());
}

/// The rest of a damaged file still reads, and the damage is an error, never
/// zeros. The kernel's cache works in pages, so ranges below 4 KiB show only
/// past it.
fn check_damaged(path: &Path, entry: &Entry, ranges: &[(u64, u64)]) {
    let direct = fs::File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .unwrap();
    let size = entry.size.unwrap();
    assert_eq!(direct.metadata().unwrap().len(), size);
    for at in (0..size).step_by(1024) {
        let good = ranges.iter().any(|(from, to)| (*from..*to).contains(&at));
        let got = direct.read_exact_at(&mut [0; 1024], at);
        assert_eq!(got.is_ok(), good, "at {at}: {got:?}");
        if let Err(error) = got {
            assert_eq!(error.raw_os_error(), Some(libc::EIO));
        }
    }
    let whole = fs::read(path).unwrap_err();
    assert_eq!(whole.raw_os_error(), Some(libc::EIO));
}

/// Counts what a walk finds below `dir`.
fn walk(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let below = entry.file_type().unwrap().is_dir();
            1 + if below { walk(&entry.path()) } else { 0 }
        })
        .sum()
}

/// Reads an extended attribute of the path itself.
#[allow(unsafe_code)]
fn xattr(path: &Path, name: &str) -> String {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    let mut out = [0u8; 256];
    // SAFETY: both strings end in NUL, and the length given is that of the buffer.
    let len = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            out.as_mut_ptr().cast(),
            out.len(),
        )
    };
    assert!(len > 0, "no attribute: {}", std::io::Error::last_os_error());
    String::from_utf8(out[..len as usize].to_vec()).unwrap()
}
