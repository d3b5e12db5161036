//! The gateway conformance suite's records and CAR files, where they are.
//!
//! They stand beside the project, in `../shared/fixtures`, or where
//! `CIDFS_FIXTURES` says; elsewhere these tests skip aloud.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cidfs::car::CarReader;
use cidfs::clock::{Clock, SystemClock};
use cidfs::source::{BlockSource, CarSource, Gateway, IpnsName, IpnsRecord};
use cidfs::testing::http::HttpDouble;

fn fixtures() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let dir = std::env::var_os("CIDFS_FIXTURES").map_or(beside, PathBuf::from);
    let dir = dir.join("gateway-conformance");
    if !dir.is_dir() {
        eprintln!("SKIPPED: no fixtures at {}", dir.display());
        return None;
    }
    Some(dir)
}

/// All files below a directory that end in `suffix`.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, suffix));
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The name in a record's file name, and what follows it.
fn name_and_kind(path: &Path) -> (IpnsName, String) {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let (name, kind) = stem.split_once('_').unwrap_or((stem, ""));
    (name.parse().unwrap(), kind.to_owned())
}

/// The records are valid until 2123, so no clock has to be set for them.
#[test]
fn ipns_records_meet_the_verdicts_of_the_conformance_suite() {
    let Some(dir) = fixtures() else { return };
    let verdicts = [
        ("v1", false),
        ("v2", true),
        ("v1-v2", true),
        ("v1-v2-broken-signature-v1", true),
        ("v1-v2-broken-signature-v2", false),
        ("v1-v2-broken-v1-value", false),
    ];
    let mut seen = HashSet::new();
    for path in files(&dir.join("ipns_records"), ".ipns-record") {
        let (name, kind) = name_and_kind(&path);
        let valid = verdicts
            .iter()
            .find(|(verdict, _)| *verdict == kind)
            .unwrap()
            .1;
        let result = IpnsRecord::verify(&name, &fs::read(&path).unwrap(), SystemTime::now());
        assert_eq!(result.is_ok(), valid, "{kind}: {result:?}");
        seen.insert(kind);
    }
    assert_eq!(seen.len(), verdicts.len());
}

#[test]
fn records_of_rsa_and_ed25519_keys_prove_their_legacy_names() {
    let Some(dir) = fixtures() else { return };
    let mut seen = Vec::new();
    for path in files(&dir.join("subdomain_gateway"), ".ipns-record") {
        let (name, _) = name_and_kind(&path);
        let bytes = fs::read(&path).unwrap();
        let record = IpnsRecord::verify(&name, &bytes, SystemTime::now()).unwrap();
        assert!(record.value.starts_with("/ipfs/"), "{}", record.value);
        let late = SystemTime::now() + Duration::from_secs(200 * 365 * 24 * 3600);
        assert!(IpnsRecord::verify(&name, &bytes, late).is_err());
        seen.push(path.file_stem().unwrap().to_str().unwrap()[..2].to_owned());
    }
    assert_eq!(seen, ["12", "Qm"]);
}

#[tokio::test]
async fn a_record_from_a_gateway_is_proved_and_a_broken_one_is_refused() {
    let Some(dir) = fixtures() else { return };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let double = HttpDouble::start().await.unwrap();
    let gateway = Gateway::new("gateway".to_owned(), &double.url(), None, clock).unwrap();
    for path in files(&dir.join("ipns_records"), ".ipns-record") {
        let (name, kind) = name_and_kind(&path);
        let target = format!("/ipns/{name}?format=ipns-record");
        double.answer(&target, "", fs::read(&path).unwrap());
        let result = gateway.resolve(&name.to_string()).await;
        match kind.as_str() {
            "v2" | "v1-v2" | "v1-v2-broken-signature-v1" => {
                assert!(result.unwrap().verified, "{kind}");
            }
            _ => assert!(result.is_err(), "{kind}"),
        }
    }
}

#[tokio::test]
async fn every_block_of_every_car_is_served_from_where_it_lies() {
    let Some(dir) = fixtures() else { return };
    let mut count = 0;
    for path in files(&dir, ".car") {
        let source = CarSource::open("car".to_owned(), &path).unwrap();
        let mut reader = CarReader::new(fs::File::open(&path).unwrap()).unwrap();
        assert!(
            reader
                .header()
                .roots
                .iter()
                .all(|root| source.roots().contains(root))
        );
        while let Some(section) = reader.next_section().unwrap() {
            let fetched = source.get(section.cid()).await.unwrap();
            assert_eq!(fetched.block.data(), &section.data);
            count += 1;
        }
        assert_eq!(source.damages(), Vec::<String>::new(), "{}", path.display());
    }
    assert!(count > 100, "{count} blocks");
}
