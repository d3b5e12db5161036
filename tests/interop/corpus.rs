//! Trees to add: random, and the same for the same seed.

use std::env;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Repeat a run with `CIDFS_TEST_SEED=N`.
pub(crate) fn seed() -> u64 {
    let given = env::var("CIDFS_TEST_SEED").ok();
    let seed = given.map_or(20_260_301, |text| {
        text.parse().expect("CIDFS_TEST_SEED is a number")
    });
    eprintln!("CIDFS_TEST_SEED={seed}");
    seed
}

/// SplitMix64: small, and good enough for bytes that must not compress or repeat.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// A temporary directory with one tree in it.
pub(crate) struct Corpus {
    dir: TempDir,
    name: &'static str,
    random: Random,
}

impl Corpus {
    fn new(name: &'static str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join(name)).unwrap();
        let salt = name.bytes().map(u64::from).sum::<u64>();
        Self {
            dir,
            name,
            random: Random(seed().wrapping_add(salt << 32)),
        }
    }

    /// The directory that holds the tree: where to run `add`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The name of the tree: what to add.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The tree itself.
    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join(self.name)
    }

    fn random_file(&mut self, name: &str, len: usize) {
        let bytes = self.random.bytes(len);
        self.file(name, &bytes);
    }

    fn file(&self, name: impl AsRef<Path>, bytes: &[u8]) {
        fs::write(self.tree().join(name), bytes).unwrap();
    }

    fn dir_in(&self, name: impl AsRef<Path>) {
        fs::create_dir_all(self.tree().join(name)).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.tree().join(name)).unwrap();
    }

    fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.tree().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn mtime(&self, name: &str, when: &str) {
        let mut touch = Command::new("touch");
        touch
            .args(["--no-dereference", "--date", when])
            .arg(self.tree().join(name));
        assert!(touch.status().unwrap().success());
    }
}

/// A few of everything: small enough to be added hundreds of times.
pub(crate) fn small() -> Corpus {
    let mut corpus = Corpus::new("small");
    corpus.dir_in("sub/inner");
    corpus.dir_in("sub/empty");
    corpus.dir_in(".hidden");
    corpus.file("empty", b"");
    corpus.file("one", b"1");
    corpus.file("hello.txt", b"hello world");
    corpus.file("in-line", &[b'i'; 32]);
    corpus.file("not-in-line", &[b'n'; 41]);
    corpus.file(".dot", b"hidden");
    corpus.file(".hidden/below", b"below a hidden directory");
    corpus.random_file("noise.bin", 70_001);
    corpus.file("sub/repeats.bin", &b"0123456789abcdef".repeat(20_000));
    corpus.random_file("sub/inner/more.bin", 262_145);
    corpus.file("sub/inner/x.txt", b"x");
    corpus.link("to-file", "hello.txt");
    corpus.link("to-dir", "sub/inner");
    corpus.link("to-nothing", "does/not/exist");
    corpus.link("sub/up", "../one");
    corpus.mode("one", 0o600);
    corpus.mode("hello.txt", 0o4755);
    corpus.mode("in-line", 0o444);
    corpus.mode("sub/inner", 0o2750);
    corpus.mode("sub/empty", 0o1777);
    // Last, innermost first: making an entry changes the time of its directory.
    corpus.mtime("hello.txt", "@1700000000.123456789");
    corpus.mtime("one", "@-86400");
    corpus.mtime("empty", "@0");
    corpus.mtime("to-file", "@1600000000.5");
    corpus.mtime("sub/up", "@1");
    corpus.mtime("sub/inner", "@4294967296.000000001");
    corpus.mtime("sub", "@1500000000");
    corpus
}

/// Files whose sizes lie at the edges of chunks and of nodes full of links.
pub(crate) fn sizes() -> Corpus {
    let mut corpus = Corpus::new("sizes");
    let mut sizes = vec![0, 1, 2, 127, 128, 4095, 4096, 65_535, 3_333_333];
    for edge in [262_144, 524_288, 1_048_576, 2_097_152] {
        sizes.extend([edge - 1, edge, edge + 1]);
    }
    for _ in 0..20 {
        sizes.push(corpus.random.below(1 << 19) as usize);
    }
    for size in sizes {
        corpus.random_file(&format!("{size}.bin"), size);
    }
    // The most links that one node has under the profile of 2015, and one more.
    let full = 174 * 262_144;
    corpus.file("full-2015.bin", &vec![b'f'; full]);
    corpus.file("full-2015-and-one.bin", &vec![b'f'; full + 1]);
    corpus
}

/// One directory in another, and again.
pub(crate) fn deep() -> Corpus {
    let mut corpus = Corpus::new("deep");
    let mut path = PathBuf::new();
    for level in 0..48 {
        path.push(format!("level {level}"));
        corpus.dir_in(&path);
        let bytes = corpus.random.bytes(level);
        corpus.file(path.join("file"), &bytes);
    }
    corpus
}

/// Many entries in one directory, of every kind.
pub(crate) fn wide() -> Corpus {
    let mut corpus = Corpus::new("wide");
    for number in 0..1500 {
        match corpus.random.below(8) {
            0 => corpus.dir_in(format!("entry {number}")),
            1 => corpus.link(&format!("entry {number}"), "entry 1"),
            _ => {
                let len = corpus.random.below(300) as usize;
                corpus.random_file(&format!("entry {number}"), len);
            }
        }
    }
    corpus
}

/// A directory of 20,000 entries, which both profiles spread over a HAMT.
pub(crate) fn hamt() -> Corpus {
    let mut corpus = Corpus::new("hamt");
    for number in 0..20_000 {
        let name = format!("{number:05}-{:016x}", corpus.random.next());
        let content = number.to_string();
        corpus.file(name, content.as_bytes());
    }
    corpus
}

/// Names that programs trip over. All are UTF-8: others do not get through Kubo's own client.
pub(crate) fn names() -> Corpus {
    let corpus = Corpus::new("names");
    let long = "n".repeat(255);
    let umlauts = "ü".repeat(127);
    let names = [
        " ",
        " leading and trailing ",
        "-rf",
        "--",
        "a\nb",
        "\n",
        "tab\there",
        "back\\slash",
        "quote\"d",
        "it's",
        "%41%00",
        "100%",
        "a?b*c[d]",
        "$HOME",
        "`id`",
        "a;b&c|d",
        "\u{1}\u{1b}[31m\u{7f}",
        "Grüße",
        "Gru\u{308}ße",
        "你好 мир مرحبا",
        "🦀🗃️",
        "\u{202e}txt.exe",
        "\u{feff}bom",
        "UPPER",
        "upper",
        "...",
        "..a",
        "a.",
        "~",
        "#hash#",
        "c:colon",
        &long,
        &umlauts,
    ];
    for (number, name) in names.iter().enumerate() {
        corpus.file(name, format!("file {number}").as_bytes());
    }
    corpus.dir_in("dir with\nline end/-n/ä");
    corpus.file("dir with\nline end/-n/ä/ö", b"deep");
    corpus
}

/// Symbolic links to all sorts of places.
pub(crate) fn links() -> Corpus {
    let corpus = Corpus::new("links");
    corpus.dir_in("dir");
    corpus.file("dir/file", b"content");
    corpus.link("relative", "dir/file");
    corpus.link("absolute", "/etc/hostname");
    corpus.link("directory", "dir");
    corpus.link("dangling", "nowhere");
    corpus.link("itself", "itself");
    corpus.link("up", "../../../..");
    corpus.link("odd", "a b\n\\c/ü/%2e");
    corpus.link("long", &"d/".repeat(2000));
    corpus.link("dir/back", "../relative");
    corpus
}

/// Files with holes: mostly zeroes, some bytes in the middle.
pub(crate) fn sparse() -> Corpus {
    let mut corpus = Corpus::new("sparse");
    for (name, len, at) in [
        ("hole-at-end", 9_000_000, 0),
        ("hole-at-start", 20_000_000, 19_999_000),
        ("middle", 33_554_432, 12_345_678),
    ] {
        let mut file = File::create(corpus.tree().join(name)).unwrap();
        file.set_len(len).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&corpus.random.bytes(1000)).unwrap();
    }
    corpus
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let (a, b, c) = (
        Random(1).bytes(1000),
        Random(1).bytes(1000),
        Random(2).bytes(1000),
    );
    assert_eq!(a, b);
    assert_ne!(a, c);
    assert_eq!(a.len(), 1000);
}
