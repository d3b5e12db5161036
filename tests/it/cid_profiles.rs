//! The vectors of IPIP-499, byte for byte, through the whole engine.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use cidfs::block::{Block, BlockSink, hash};
use cidfs::unixfs::builder::{AddOptions, Adder};
use cidfs::unixfs::profile::Profile;

/// The vectors' bytes: a ChaCha20 keystream whose key is the hash of a seed.
struct Keystream {
    cipher: ChaCha20,
    left: u64,
}

fn keystream(seed: &str, bytes: u64) -> Keystream {
    let key = hash(0x12, seed.as_bytes()).unwrap();
    let key: [u8; 32] = key.digest().try_into().unwrap();
    Keystream {
        cipher: ChaCha20::new(&key.into(), &[0; 12].into()),
        left: bytes,
    }
}

impl Read for Keystream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(usize::try_from(self.left).unwrap());
        out[..count].fill(0);
        self.cipher.apply_keystream(&mut out[..count]);
        self.left -= count as u64;
        Ok(count)
    }
}

struct Dropped;

impl BlockSink for Dropped {
    fn put(&self, _: Block) -> io::Result<()> {
        Ok(())
    }
}

fn adder(profile: Profile) -> Adder {
    let options = AddOptions {
        recursive: true,
        ..AddOptions::from_profile(profile)
    };
    Adder::new(options, Arc::new(Dropped)).unwrap()
}

fn file(profile: Profile, reader: impl Read) -> String {
    let added = adder(profile).add_reader(reader, Some(b"file"), &|_| {});
    added.unwrap().cid.to_string()
}

/// A directory of files with the one byte `x`, named from the keystream.
fn directory(profile: Profile, seed: &str, lengths: impl Iterator<Item = usize>) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz01234567890-_";
    let dir = tempfile::tempdir().unwrap();
    let mut stream = keystream(seed, u64::MAX >> 1);
    for length in lengths {
        let mut name = vec![0; length];
        stream.read_exact(&mut name).unwrap();
        let name: Vec<u8> = name.iter().map(|b| LETTERS[usize::from(b % 39)]).collect();
        fs::write(
            dir.path()
                .join(Path::new(std::str::from_utf8(&name).unwrap())),
            "x",
        )
        .unwrap();
    }
    let added = adder(profile).add_path(dir.path(), None, &|_| {});
    added.unwrap().cid.to_string()
}

const MIB: u64 = 1 << 20;

#[test]
fn v1_chunk_edges() {
    let v1 = Profile::UnixfsV1_2025;
    let edge = |bytes| file(v1, keystream("chunk-v1-seed", bytes));
    assert_eq!(
        file(v1, &b"hello world"[..]),
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    );
    assert_eq!(
        edge(MIB),
        "bafkreiacndfy443ter6qr2tmbbdhadvxxheowwf75s6zehscklu6ezxmta"
    );
    assert_eq!(
        edge(MIB + 1),
        "bafybeigmix7t42i6jacydtquhet7srwvgpizfg7gjbq7627d35mjomtu64"
    );
}

#[test]
fn v1_full_root() {
    let cid = file(
        Profile::UnixfsV1_2025,
        keystream("v1-2025-seed", 1024 * MIB),
    );
    assert_eq!(
        cid,
        "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"
    );
}

#[test]
fn v1_second_level() {
    let cid = file(
        Profile::UnixfsV1_2025,
        keystream("v1-2025-seed", 1024 * MIB + 1),
    );
    assert_eq!(
        cid,
        "bafybeibdsi225ugbkmpbdohnxioyab6jsqrmkts3twhpvfnzp77xtzpyhe"
    );
}

#[test]
fn v1_directory_at_and_over_the_threshold() {
    let names = |last| (0..4766).map(move |n| if n == 4765 { last } else { 11 });
    let built = |last| directory(Profile::UnixfsV1_2025, "hamt-unixfs-v1-2025", names(last));
    assert_eq!(
        built(21),
        "bafybeic3h7rwruealwxkacabdy45jivq2crwz6bufb5ljwupn36gicplx4"
    );
    assert_eq!(
        built(22),
        "bafybeiegvuterwurhdtkikfhbxcldohmxp566vpjdofhzmnhv6o4freidu"
    );
}

#[test]
fn v0_chunk_edges() {
    let v0 = Profile::UnixfsV0_2015;
    let edge = |bytes| file(v0, keystream("chunk-v0-seed", bytes));
    let hello = file(v0, &b"hello world"[..]);
    assert_eq!(hello, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    assert_eq!(
        edge(MIB / 4),
        "QmWmRj3dFDZdb6ABvbmKhEL6TmPbAfBZ1t5BxsEyJrcZhE"
    );
    assert_eq!(
        edge(MIB / 4 + 1),
        "QmYyLxtzZyW22zpoVAtKANLRHpDjZtNeDjQdJrcQNWoRkJ"
    );
}

#[test]
fn v0_full_root_and_second_level() {
    let built = |bytes| file(Profile::UnixfsV0_2015, keystream("v0-seed", bytes));
    let full = 174 * MIB / 4;
    assert_eq!(
        built(full),
        "QmUbBALi174SnogsUzLpYbD4xPiBSFANF4iztWCsHbMKh2"
    );
    assert_eq!(
        built(full + 1),
        "QmV81WL765sC8DXsRhE5fJv2rwhS4icHRaf3J9Zk5FdRnW"
    );
}

#[test]
fn v0_directory_at_and_over_the_threshold() {
    let built = |count, length| {
        let names = std::iter::repeat_n(length, count);
        directory(Profile::UnixfsV0_2015, "hamt-unixfs-v0-2015", names)
    };
    assert_eq!(
        built(4096, 30),
        "QmX5GtRk3TSSEHtdrykgqm4eqMEn3n2XhfkFAis5fjyZmN"
    );
    assert_eq!(
        built(4033, 31),
        "QmeMiJzmhpJAUgynAcxTQYek5PPKgdv3qEvFsdV3XpVnvP"
    );
}
