//! Imports against known answers of Kubo 0.42.0, and how the engine behaves.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cidfs::block::{Block, BlockSink, Cid};
use cidfs::unixfs::builder::{
    AddError, AddEvent, AddOptions, AddRefused, Added, AddedKind, Adder, Input,
};
use cidfs::unixfs::links::links;
use cidfs::unixfs::profile::Profile;

#[derive(Default)]
struct Kept(Mutex<BTreeMap<Vec<u8>, Block>>);

impl BlockSink for Kept {
    fn put(&self, block: Block) -> io::Result<()> {
        self.0
            .lock()
            .unwrap()
            .insert(block.cid().hash().to_bytes(), block);
        Ok(())
    }
}

impl Kept {
    /// Walks everything below `root`; what is missing panics.
    fn count_below(&self, root: &Cid) -> usize {
        let block = match Block::inline(root) {
            Some(inline) => inline.unwrap(),
            None => self.0.lock().unwrap()[&root.hash().to_bytes()].clone(),
        };
        let below = links(&block).unwrap();
        1 + below.iter().map(|cid| self.count_below(cid)).sum::<usize>()
    }
}

/// Bytes that look random and never change.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(step).collect()
}

/// Options as they stand on a command line, the profile first.
fn options(line: &str) -> AddOptions {
    let mut words = line.split_whitespace();
    let profile: Profile = words.next().unwrap().parse().unwrap();
    let mut json = serde_json::to_value(AddOptions::from_profile(profile)).unwrap();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, "true"));
        let name = match name {
            "-r" => "recursive",
            "-w" => "wrap-with-directory",
            name => name.trim_start_matches("--"),
        };
        let octal = value
            .strip_prefix('0')
            .and_then(|v| u32::from_str_radix(v, 8).ok());
        let value = match octal {
            Some(mode) if name == "mode" => mode.into(),
            _ => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        };
        json[name] = value;
    }
    serde_json::from_value(json).unwrap()
}

fn add(line: &str, path: &Path) -> Result<Added, AddError> {
    let sink = Arc::new(Kept::default());
    let added = Adder::new(options(line), sink.clone())?.add_path(path, None, &|_| {})?;
    sink.count_below(&added.cid);
    Ok(added)
}

fn check(path: &Path, answers: &[(&str, &str)]) {
    for (line, wanted) in answers {
        assert_eq!(add(line, path).unwrap().cid.to_string(), *wanted, "{line}");
    }
}

fn set_time(path: &Path, nanoseconds: i64) {
    let epoch = SystemTime::UNIX_EPOCH;
    let offset = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time = if nanoseconds < 0 {
        epoch - offset
    } else {
        epoch + offset
    };
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// The directory that the answers below are about.
fn tree(parent: &Path) -> PathBuf {
    let root = parent.join("tree");
    fs::create_dir_all(root.join("sub/empty")).unwrap();
    let write = |name: &str, data: &[u8], mode, time| {
        let path = root.join(name);
        fs::write(&path, data).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_time(&path, time);
    };
    write("a", b"hello", 0o640, 5_000_000_007);
    write("sub/b", &[b'b'; 1000], 0o755, -4_999_999_997);
    write(".hidden", b"h", 0o600, 0);
    symlink("sub/b", root.join("link")).unwrap();
    let touched = Command::new("touch")
        .args(["-h", "-d", "@1"])
        .arg(root.join("link"))
        .status();
    assert!(touched.unwrap().success());
    for (name, mode, time) in [
        ("sub/empty", 0o700, 77),
        ("sub", 0o1777, 4_000_000_000),
        ("", 0o755, 3_000_000_000),
    ] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        set_time(&root.join(name), time);
    }
    root
}

/// `ipfs add -Q <options> noise`, Kubo 0.42.0 initialised with the profile.
#[test]
fn a_file_gets_the_cid_that_kubo_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("noise");
    fs::write(&path, noise(3_000_000, 7)).unwrap();
    check(
        &path,
        &[
            (
                "unixfs-v1-2025 --chunker=rabin",
                "bafybeidsudeutzm43w3gonrqfb2p7r53zleqjr4otfcjiycjnompxgx45a",
            ),
            (
                "unixfs-v1-2025 --chunker=rabin-1000-5000-9000",
                "bafybeiackj347stopyma7ouaqbcst7765dk44rwstro2adc2qphytxxsqq",
            ),
            (
                "unixfs-v1-2025 --chunker=buzhash",
                "bafybeia4oz34tipx5f74e3fhs6pvvdko7xh7gks4uc5n2aznpz5bts23pm",
            ),
            (
                "unixfs-v0-2015 --chunker=buzhash",
                "QmVwpsuMA2bqffb6Ybt5Z9Y6e5YLSaFq6DG6VS7aEJFoxK",
            ),
            (
                "unixfs-v0-2015 --chunker=rabin-16-64-4096 --max-file-links=3",
                "QmQsQFAd3kZLaeGcTP8aqBfN1Nba65gMRMXE4EYiPe3CNV",
            ),
            (
                "unixfs-v1-2025 --chunker=size-1000 --trickle",
                "bafybeieb74vyfcql367yh43qbke5xuf2tytd24zyf4xncrhthokjw2k5ue",
            ),
            (
                "unixfs-v0-2015 --chunker=size-1000 --trickle --max-file-links=5",
                "QmTfUxbBPHFARsFPoLThEKxFxiX5rTvdLWwowyGMhHwECs",
            ),
            (
                "unixfs-v0-2015 --trickle --mode=0600",
                "QmaKL3ybMPnd8s2mkar1G8newZkLhSFwfXayYSrcoR9UJg",
            ),
            (
                "unixfs-v1-2025 --hash=blake3",
                "bafyb4idlek5vca3jtyurhwghlo5opmgnceipnrhfyrakwj5hzxoequzgr4",
            ),
            (
                "unixfs-v1-2025 --cid-version=0",
                "QmcxwKKvwL5S9LdxgSnTF2zeNsHJc1NNCAjG3ieBkKMuee",
            ),
            (
                "unixfs-v0-2015 --mtime=5 --mtime-nsecs=6",
                "Qmb3R1aYh1ZN3T2xFEubMPEQtqp53tvW4PW346E3NkhjpM",
            ),
        ],
    );
}

/// `ipfs add -Q <options> tree`, Kubo 0.42.0 initialised with the profile.
#[test]
fn a_directory_gets_the_cid_that_kubo_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    check(
        &tree(dir.path()),
        &[
            (
                "unixfs-v1-2025 -r",
                "bafybeiflk5kgq6vxt5t5qegdmmh6trwavd6nofoa37bnvv26yj6y3zrmem",
            ),
            (
                "unixfs-v0-2015 -r",
                "QmcWxDCLUGgveh9tcDae7dbwtQTRjhMRRcaYPzvoqEHcdL",
            ),
            (
                "unixfs-v0-2015 -r --hidden --preserve-mode --preserve-mtime",
                "QmQ2gqtqARmRai5gydYKMrwWAT7X4phaeGnxE7gfPiPmeH",
            ),
            (
                "unixfs-v0-2015 -r -w --preserve-mode",
                "QmYKAX9jo5z6rNFgJQYdreaZ7qzeLgZ1hgWb2SYPPg9gnx",
            ),
            (
                "unixfs-v0-2015 -r --mode=0644 --mtime=1000",
                "QmRMc6i6LBwUqYVYwGSH3Z7Yt7HWgYV3Y7Z7itKuUPBpo6",
            ),
            (
                "unixfs-v1-2025 -r --inline",
                "bafybeighzi5uodzdrmw7cawfqxu3iwbdxz6uxcwhcyj4puwff6qxjxfsqq",
            ),
            (
                "unixfs-v1-2025 -r --inline --inline-limit=128 --raw-leaves=false",
                "bafybeicbl2y2h44zbgdlihdo6tf5prdq7vx75jm5yx776b3bnrxstr2hoi",
            ),
            (
                "unixfs-v0-2015 -r --inline --trickle",
                "QmYoJcHwHX81UA3yzr3JZmDkdXHN84FwWmxdiQkjugRDuV",
            ),
            (
                "unixfs-v1-2025 -r --dereference-symlinks --empty-dirs=false",
                "bafybeibsegh7htgdbb6lvimgrjozy26ghklyx2thdxecazh7fsknmpxi4q",
            ),
            (
                "unixfs-v0-2015 -r --max-directory-links=1 --max-hamt-fanout=1024 --preserve-mode",
                "QmemJ7sDiTHBNrh8Gnca95axDb4He5Jqna4Wyk8tyXArtz",
            ),
        ],
    );
}

/// `ipfs add -Q <options> wide`, Kubo 0.42.0 initialised with the profile.
#[test]
fn a_directory_over_its_most_links_gets_the_hamt_that_kubo_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let wide = dir.path().join("wide");
    fs::create_dir(&wide).unwrap();
    for number in 0..300 {
        fs::write(wide.join(format!("entry {number}")), "x").unwrap();
    }
    check(
        &wide,
        &[
            (
                "unixfs-v1-2025 -r --max-directory-links=2 --max-hamt-fanout=8",
                "bafybeihi7yf6zt5cdxpps234hhgvgbhnvtznpunk3rhajdaz32to5u27zy",
            ),
            (
                "unixfs-v1-2025 -r --max-directory-links=299",
                "bafybeibochn3l7nzgoatay2yis4b24l2m6fqydojcy5po5pmtfjmt5tgpi",
            ),
            (
                "unixfs-v1-2025 -r --max-directory-links=300",
                "bafybeihsqoboyxy4hud5aypbbmtfdr42rraw37p3xiadhyugve7mr7xcau",
            ),
        ],
    );
}

#[test]
fn a_stream_and_a_file_of_the_same_bytes_have_the_same_cid_at_every_edge() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let data = noise((2 << 20) + 1, 9);
    for line in [
        "unixfs-v1-2025 --chunker=size-100000",
        "unixfs-v0-2015 --mtime=9",
        "unixfs-v0-2015 --trickle",
        "unixfs-v1-2025 --chunker=rabin-1000-50000-90000",
        "unixfs-v1-2025 --chunker=buzhash",
        "unixfs-v0-2015 --chunker=size-2000000 --mode=0600",
    ] {
        let adder = Adder::new(options(line), Arc::new(Kept::default())).unwrap();
        let edge = 1 << 20;
        for len in [
            0,
            1,
            edge - 1,
            edge,
            edge + 1,
            2_000_000,
            2_000_001,
            2 * edge,
            data.len(),
        ] {
            fs::write(&path, &data[..len]).unwrap();
            let file = adder.add_path(&path, None, &|_| {}).unwrap();
            let stream = adder
                .add_reader(&data[..len], Some(b"file"), &|_| {})
                .unwrap();
            assert_eq!(file, stream, "{line}, {len} bytes");
            assert_eq!(file.size, len as u64);
        }
    }
}

#[test]
fn entries_are_told_of_in_order_with_children_before_their_directory() {
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    let events = Mutex::new(Vec::new());
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Kept::default())).unwrap();
    let progress = |event| events.lock().unwrap().push(event);
    let added = adder.add_path(&root, Some(b"root"), &progress).unwrap();
    let events = events.into_inner().unwrap();
    let mut names = Vec::new();
    let mut last = None;
    for event in &events {
        match event {
            AddEvent::Entry(entry) => {
                names.push(String::from_utf8(entry.name.clone()).unwrap());
                last = Some(entry);
            }
            AddEvent::Progress { name, bytes } => {
                assert!(*bytes == if name.ends_with(b"a") { 5 } else { 1000 });
            }
        }
    }
    let wanted = [
        "root/a",
        "root/link",
        "root/sub/b",
        "root/sub/empty",
        "root/sub",
        "root",
    ];
    assert_eq!(names, wanted);
    assert_eq!(last.map(|last| &**last), Some(&added));
    assert_eq!(
        (added.kind, added.size),
        (AddedKind::Directory, 5 + 5 + 1000)
    );
}

#[test]
fn several_inputs_are_sorted_repeated_ones_dropped_and_ambiguous_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    for name in ["b", "a", "other/a"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let adder = |line| Adder::new(options(line), Arc::new(Kept::default())).unwrap();
    let inputs = |names: &[&str]| -> Vec<Input<'static>> {
        names
            .iter()
            .map(|name| Input::path(&dir.path().join(name)))
            .collect()
    };
    let plain = adder("unixfs-v1-2025");
    let added = plain
        .add_all(inputs(&["b", "./a", "other/../b"]), &|_| {})
        .unwrap();
    let names: Vec<_> = added.iter().map(|a| a.name.clone()).collect();
    assert_eq!(names, [b"a", b"b"]);
    let ambiguous = plain.add_all(inputs(&["a", "other/a"]), &|_| {});
    let refused = matches!(
        ambiguous,
        Err(AddError::Refused(AddRefused::SameName { .. }))
    );
    assert!(refused);
    let directory = plain.add_all(inputs(&["other"]), &|_| {});
    let refused = matches!(directory, Err(AddError::Refused(AddRefused::Directory(_))));
    assert!(refused, "a directory needs -r");
    let nothing = plain.add_all(Vec::new(), &|_| {});
    assert!(matches!(
        nothing,
        Err(AddError::Refused(AddRefused::Nothing))
    ));
    let mut wrapped = inputs(&["b", "a"]);
    wrapped.push(Input::reader(&b"stdin"[..]));
    let wrapped = adder("unixfs-v1-2025 -w")
        .add_all(wrapped, &|_| {})
        .unwrap();
    assert_eq!(wrapped.len(), 1);
    assert_eq!(
        (wrapped[0].kind, wrapped[0].size),
        (AddedKind::Directory, 1 + 1 + 5)
    );
}

#[test]
fn a_stream_without_a_name_is_named_by_its_cid() {
    let adder = Adder::new(options("unixfs-v1-2025"), Arc::new(Kept::default())).unwrap();
    let added = adder
        .add_reader(&b"hello world"[..], None, &|_| {})
        .unwrap();
    assert_eq!(added.name, added.cid.to_string().into_bytes());
}

/// Does something to a file when the first block arrives.
struct Meddler<F>(Mutex<Option<F>>);

impl<F: FnOnce() + Send> BlockSink for Meddler<F> {
    fn put(&self, _: Block) -> io::Result<()> {
        if let Some(meddle) = self.0.lock().unwrap().take() {
            meddle();
        }
        Ok(())
    }
}

fn add_while(meddle: impl FnOnce(File) + Send + 'static) -> Result<Added, AddError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, noise(64 * 100_000, 3)).unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let sink = Meddler(Mutex::new(Some(move || meddle(file))));
    let line = "unixfs-v1-2025 --chunker=size-100000";
    Adder::new(options(line), Arc::new(sink))?.add_path(&path, None, &|_| {})
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let shrunk = add_while(|file| file.set_len(10).unwrap());
    assert!(matches!(shrunk, Err(AddError::Changed(_))), "{shrunk:?}");
}

#[test]
fn a_file_that_grows_while_it_is_read_is_read_to_its_end() {
    let grown = add_while(|mut file| file.write_all(&[1; 250_000]).unwrap());
    assert_eq!(grown.unwrap().size, 64 * 100_000 + 250_000);
}

#[test]
fn a_sink_that_fails_ends_the_import() {
    struct Full;
    impl BlockSink for Full {
        fn put(&self, _: Block) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Full)).unwrap();
    let failed = adder.add_path(&root, None, &|_| {});
    assert!(matches!(failed, Err(AddError::Sink(_))), "{failed:?}");
}

#[test]
fn hashing_only_keeps_nothing_and_gives_the_same_cid() {
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    for line in [
        "unixfs-v1-2025 -r",
        "unixfs-v0-2015 -r --max-directory-links=1",
    ] {
        let sink = Arc::new(Kept::default());
        let only = options(&format!("{line} --only-hash"));
        let hashed = Adder::new(only, sink.clone())
            .unwrap()
            .add_path(&root, None, &|_| {});
        assert!(sink.0.lock().unwrap().is_empty());
        assert_eq!(hashed.unwrap().cid, add(line, &root).unwrap().cid, "{line}");
    }
}

#[test]
fn metadata_of_a_directory_that_is_only_hashed_is_refused_as_kubo_does() {
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    for flag in [
        "--preserve-mode",
        "--preserve-mtime",
        "--mode=0640",
        "--mtime=5",
    ] {
        let line = format!("unixfs-v0-2015 -r --only-hash {flag}");
        let refused = Adder::new(options(&line), Arc::new(Kept::default()))
            .unwrap()
            .add_path(&root, None, &|_| {});
        let wanted = AddRefused::OnlyHashMetadata;
        assert!(
            matches!(&refused, Err(AddError::Refused(why)) if *why == wanted),
            "{flag}: {refused:?}"
        );
    }
}

#[test]
fn blocks_inside_their_cids_never_reach_the_sink() {
    let sink = Arc::new(Kept::default());
    let adder = Adder::new(options("unixfs-v1-2025 --inline"), sink.clone()).unwrap();
    let added = adder.add_reader(&b"small"[..], None, &|_| {}).unwrap();
    assert_eq!(added.cid.hash().digest(), b"small");
    assert!(sink.0.lock().unwrap().is_empty());
}

#[test]
fn a_cancelled_import_ends_with_that_error() {
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Kept::default())).unwrap();
    let cancelled = adder.add_path(&root, None, &|_| adder.cancel());
    assert!(
        matches!(cancelled, Err(AddError::Cancelled)),
        "{cancelled:?}"
    );
}

#[test]
fn a_missing_path_and_a_pipe_inside_a_directory_are_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Kept::default())).unwrap();
    let missing = adder
        .add_path(&dir.path().join("gone"), None, &|_| {})
        .unwrap_err();
    assert!(
        missing.to_string().contains("/gone: No such file"),
        "{missing}"
    );
    let made = Command::new("mkfifo").arg(dir.path().join("pipe")).status();
    assert!(made.unwrap().success());
    let pipe = adder.add_path(dir.path(), None, &|_| {}).unwrap_err();
    assert!(pipe.to_string().contains("/pipe: a named pipe"), "{pipe}");
}

#[test]
fn what_there_is_to_add_is_measured_by_the_same_rules() {
    let dir = tempfile::tempdir().unwrap();
    let root = tree(dir.path());
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Kept::default())).unwrap();
    let measure = adder.measure(&[&root]);
    assert_eq!((measure.files, measure.bytes), (2, 1005));
}

/// Files of a directory are built some at a time; what they are told of, and
/// their CIDs, are as if each was added alone.
#[test]
fn many_files_beside_large_ones_come_in_order_and_as_if_each_was_alone() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("n40")).unwrap();
    let mut lens = std::collections::BTreeMap::new();
    for number in 10..90 {
        let len = match number {
            30 => 3 << 20,
            50 => 100_000,
            number => number * number,
        };
        fs::write(root.join(format!("n{number}x")), noise(len, number as u64)).unwrap();
        lens.insert(format!("n{number}x"), len as u64);
    }
    for number in 10..50 {
        fs::write(root.join(format!("n40/{number}")), number.to_string()).unwrap();
        lens.insert(format!("n40/{number}"), 2);
    }
    let told = Mutex::new(Vec::new());
    let adder = Adder::new(options("unixfs-v1-2025 -r"), Arc::new(Kept::default())).unwrap();
    let progress = |event| {
        if let AddEvent::Entry(added) = event {
            told.lock().unwrap().push(*added);
        }
    };
    adder.add_path(&root, Some(b""), &progress).unwrap();
    let told = told.into_inner().unwrap();
    let files: Vec<_> = told.iter().filter(|a| a.kind == AddedKind::File).collect();
    let names: Vec<_> = files
        .iter()
        .map(|a| String::from_utf8(a.name.clone()).unwrap())
        .collect();
    let mut wanted: Vec<_> = lens.keys().cloned().collect();
    // A directory stands where its own name does.
    wanted.sort_by_key(|name| name.split('/').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(names, wanted);
    for (added, name) in files.iter().zip(&names) {
        assert_eq!(added.size, lens[name], "{name}");
        let alone = adder.add_path(&root.join(name), None, &|_| {}).unwrap();
        assert_eq!(alone.cid, added.cid, "{name}");
    }
}
