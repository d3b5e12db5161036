//! Standard input as the file to add.

use std::path::Path;

use crate::kubo::{Kubo, Profile};
use crate::product::Product;

#[test]
fn standard_input_gets_the_cid_that_kubo_gives() {
    let long = b"0123456789".repeat(150_000);
    let cases: &[&[&str]] = &[
        &[],
        &["-"],
        &["-w"],
        &["-w", "-"],
        &["--stdin-name=name"],
        &["-w", "--stdin-name=name"],
        &["-w", "--stdin-name=sp ace ü"],
        &["-n"],
        &["-n", "-w", "--stdin-name=name"],
        &["--trickle"],
        &["--inline"],
        &["--chunker=rabin"],
        &["--raw-leaves=false"],
        &["--raw-leaves=false", "--mode=0600"],
        &["--raw-leaves=false", "--mtime=5", "-w", "--stdin-name=name"],
        &["--raw-leaves=false", "--preserve-mode", "--preserve-mtime"],
        &["--pin=false"],
    ];
    let mut differences = Vec::new();
    for profile in Profile::ALL {
        let Some(kubo) = Kubo::start(profile) else {
            return;
        };
        let product = Product::new();
        for input in [&b""[..], b"hello", &long] {
            for args in cases {
                let theirs = [&["add", "-Q"], *args].concat();
                let theirs = kubo.run_in(Path::new("/"), &theirs, input).cid();
                let ours = [&["add", "-Q", "--profile", profile.name()], *args].concat();
                let ours = product.run_in(Path::new("/"), &ours, input).cid();
                if theirs.is_err() || theirs != ours {
                    let (name, len) = (profile.name(), input.len());
                    differences.push(format!(
                        "{name}, {len} bytes, {args:?}: Kubo {theirs:?}, cidfs {ours:?}"
                    ));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
