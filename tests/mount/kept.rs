//! What is known of content that is here no longer.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cidfs::block::{Block, Cid};
use cidfs::car::CarWriter;
use cidfs::testing::dag::Dag;
use cidfs::testing::http::HttpDouble;
use cidfs::unixfs::data::{Kind, Mtime, UnixFs};

use super::world::{World, noise};

fn car(path: &Path, root: &Cid, blocks: &[Block]) {
    let mut writer = CarWriter::new(File::create(path).unwrap(), &[*root]).unwrap();
    for block in blocks {
        writer.write(block).unwrap();
    }
}

/// A directory with one child of each kind; its root is the last block.
fn a_directory() -> (Cid, Vec<Block>) {
    let mut dag = Dag::default();
    let plain = dag.leaf(noise(1000, 1));
    let other = dag.leaf(noise(500, 2));
    let file = dag.file(&[(plain, 1000), (other, 500)]);
    let dated = dag.node(
        Vec::new(),
        &UnixFs {
            data: Some(Bytes::from_static(b"dated")),
            filesize: Some(5),
            mode: Some(0o750),
            mtime: Some(Mtime {
                seconds: 1_000_000_000,
                nanoseconds: 5,
            }),
            ..UnixFs::new(Kind::File)
        },
    );
    let target = dag.symlink("somewhere/else");
    let inside = dag.directory(&[("plain", plain)]);
    let entries = [
        ("dated", dated),
        ("file", file),
        ("inside", inside),
        ("plain", plain),
        ("target", target),
    ];
    let root = dag.directory(&entries);
    (root, dag.blocks)
}

#[test]
fn a_directory_is_listed_as_before_when_nobody_has_its_children_any_more() {
    let world = World::new(|dir| fs::write(dir.join("unrelated"), "x").unwrap());
    let (root, blocks) = a_directory();
    let (last, rest) = blocks.split_last().unwrap();
    let (first_car, rest_car) = (
        world.temp.path().join("1.car"),
        world.temp.path().join("2.car"),
    );
    car(&first_car, &root, std::slice::from_ref(last));
    car(&rest_car, &root, rest);
    world.cidfs(&["import", "--pin-roots=false", first_car.to_str().unwrap()]);
    let mount = world.temp.path().join("mnt");
    let mount = mount.to_str().unwrap();
    let spec = format!("car:{}", rest_car.display());
    world.cidfs(&["umount", mount]);
    world.cidfs(&["mount", "--source", &spec, mount]);
    let list = format!(
        r#"cd "{mount}/ipfs/{root}"; find . -maxdepth 1 -printf '%f %y %s %m %T@ %l\n' | sort
        TZ=UTC ls -l --time-style=full-iso"#
    );
    let before = world.sh(&list);
    for line in [
        "dated f 5 550 1000000000.0000000050 ",
        "file f 1500 444",
        "inside d 0 555",
        "plain f 1000 444",
        "target l 14",
    ] {
        assert!(before.contains(line), "{line}: {before}");
    }
    world.cidfs(&["umount", mount]);
    fs::remove_file(&rest_car).unwrap();
    world.cidfs(&["mount", mount]);
    // The target of a link is content, and gone with its block.
    let list = list
        .replace(" %l", "")
        .replace("TZ=UTC ls -l", "TZ=UTC ls -l --ignore=target");
    let before = before.replace(" somewhere/else", " ");
    let after = world.sh(&list);
    for line in after.lines().filter(|line| !line.starts_with("total")) {
        assert!(before.contains(line.trim_end()), "{line}: {before}");
    }
    assert_eq!(
        after.matches("\n").count(),
        before.matches("\n").count() - 1
    );
    // Nothing is served from what was only noted.
    for gone in ["file", "dated", "plain", "inside/plain"] {
        let script = format!(r#"cat "{mount}/ipfs/{root}/{gone}" 2>&1 || :"#);
        assert!(world.sh(&script).contains("Input/output error"), "{gone}");
    }
}

#[test]
fn a_directory_of_the_tree_is_listed_though_nobody_has_its_children() {
    let world = World::new(|dir| fs::write(dir.join("unrelated"), "x").unwrap());
    let (root, blocks) = a_directory();
    let first_car = world.temp.path().join("1.car");
    car(
        &first_car,
        &root,
        std::slice::from_ref(blocks.last().unwrap()),
    );
    world.cidfs(&["import", "--pin-roots=false", first_car.to_str().unwrap()]);
    let mount = world.temp.path().join("mnt");
    let mount = mount.to_str().unwrap();
    world.cidfs(&["umount", mount]);
    world.cidfs(&["mount", mount]);
    world.cidfs(&["tree", "mount", &root.to_string(), "/m"]);
    let dir = format!("{mount}/mfs/m");
    for _ in 0..2 {
        let listed = world.sh(&format!(r#"ls "{dir}" 2>&1"#));
        let names: Vec<_> = listed.split_whitespace().collect();
        assert_eq!(names, ["dated", "file", "inside", "plain", "target"]);
    }
    // What is used is looked at, and cannot be had.
    let used = world.sh(&format!(r#"cat "{dir}/plain" 2>&1 || :"#));
    assert!(used.contains("Input/output error"), "{used}");
    let listed = world.sh(&format!(r#"ls "{dir}" 2>&1"#));
    assert_eq!(listed.split_whitespace().count(), 5);
}

#[test]
fn what_nobody_has_is_removed_by_rm() {
    let world = World::new(|dir| fs::write(dir.join("unrelated"), "x").unwrap());
    let (root, blocks) = a_directory();
    let only = world.temp.path().join("1.car");
    car(&only, &root, std::slice::from_ref(blocks.last().unwrap()));
    world.cidfs(&["import", "--pin-roots=false", only.to_str().unwrap()]);
    let mount = world.temp.path().join("mnt");
    let mount = mount.to_str().unwrap();
    world.cidfs(&["tree", "mount", &root.to_string(), "/m"]);
    let dir = format!("{mount}/mfs/m");
    // It is no file to anybody who was not told so, and is never absent.
    for use_it in ["cat", "stat", "ls -l"] {
        let used = world.sh(&format!(r#"{use_it} "{dir}/inside" 2>&1 || :"#));
        assert!(used.contains("Input/output error"), "{use_it}: {used}");
    }
    let below = world.sh(&format!(r#"cat "{dir}/inside/plain" 2>&1 || :"#));
    assert!(below.contains("Input/output error"), "{below}");
    let removed = world.sh(&format!(r#"rm -r "{dir}" 2>&1; ls -A "{mount}/mfs""#));
    assert_eq!(removed, "");
}

/// An address that passes everything on, and each answer a while later.
fn slowed(to: &str, by: Duration) -> String {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", slow.local_addr().unwrap());
    let to = to.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for client in slow.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut asks, &mut asked));
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(len @ 1..) = server.read(&mut bytes) {
                    std::thread::sleep(by);
                    if client.write_all(&bytes[..len]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[test]
fn what_was_only_guessed_in_a_listing_is_waited_for_by_who_reads_it() {
    let world = World::new(|dir| fs::write(dir.join("unrelated"), "x").unwrap());
    let mut dag = Dag::default();
    let leaves: Vec<Cid> = (0..20).map(|seed| dag.leaf(noise(300, seed))).collect();
    let names: Vec<String> = (0..20).map(|number| format!("{number:02}")).collect();
    let entries: Vec<_> = names.iter().map(String::as_str).zip(leaves).collect();
    let root = dag.directory(&entries);
    let only = world.temp.path().join("1.car");
    car(
        &only,
        &root,
        std::slice::from_ref(dag.blocks.last().unwrap()),
    );
    world.cidfs(&["import", "--pin-roots=false", only.to_str().unwrap()]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gateway = runtime.block_on(HttpDouble::start()).unwrap();
    gateway.insert(dag.blocks.clone());
    let spec = slowed(&gateway.url(), Duration::from_millis(40));
    let mount = world.temp.path().join("mnt");
    let mount = mount.to_str().unwrap();
    world.cidfs(&["umount", mount]);
    world.cidfs(&["mount", "--source", &spec, mount]);
    world.cidfs(&["tree", "mount", &root.to_string(), "/m"]);
    // One thread lists it and reads what it was told of, as diff and find do too.
    let out = world.temp.path().join("out");
    let copied = world.sh(&format!(
        r#"cp -r "{mount}/mfs/m" "{}" 2>&1"#,
        out.display()
    ));
    assert_eq!(copied, "");
    for (seed, name) in names.iter().enumerate() {
        assert!(
            fs::read(out.join(name)).unwrap() == noise(300, seed as u64),
            "{name}"
        );
    }
}
