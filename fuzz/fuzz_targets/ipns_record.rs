//! A record of any bytes is refused; one of any data that its key signed is
//! read or refused, and never lives longer than it says.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use cidfs::config::RECORD_TTL_MAX;
use cidfs::source::{IpnsName, IpnsRecord};
use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::from_bytes(&[7; 32]));

/// The key as libp2p writes it: kind Ed25519, then 32 bytes.
static PUBLIC: LazyLock<Vec<u8>> = LazyLock::new(|| {
    [&[8, 1, 18, 32], KEY.verifying_key().as_bytes().as_slice()].concat()
});

static NAME: LazyLock<IpnsName> = LazyLock::new(|| {
    let hash = [&[0, PUBLIC.len() as u8], PUBLIC.as_slice()].concat();
    let cid = [&[1, 0x72], hash.as_slice()].concat();
    let text = format!("f{}", cid.iter().map(|b| format!("{b:02x}")).collect::<String>());
    text.parse().expect("the name of a key")
});

fn field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut len = bytes.len();
    while len > 127 {
        out.push(len as u8 | 128);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// A record around `data` that the key signed; `rest` are fields that nobody did.
fn signed(data: &[u8], rest: &[u8]) -> Vec<u8> {
    let signature = KEY.sign(&[b"ipns-signature:", data].concat());
    let mut record = rest.to_vec();
    field(8, &signature.to_bytes(), &mut record);
    field(9, data, &mut record);
    record
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, bytes)) = input.split_first() else {
        return;
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let record = match mode % 4 {
        0 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(name) = text.parse::<IpnsName>()
            {
                assert_eq!(name.to_string().parse(), Ok(name), "a name reads as itself");
            }
            return;
        }
        1 => bytes.to_vec(),
        2 => signed(bytes, &[]),
        _ => {
            let cut = bytes.first().map_or(0, |at| usize::from(*at)).min(bytes.len());
            let (rest, data) = bytes.split_at(cut);
            signed(data, rest.get(1..).unwrap_or_default())
        }
    };
    if let Ok(record) = IpnsRecord::verify(&NAME, &record, now) {
        assert!(mode % 4 > 1, "nobody signed this");
        assert!(record.valid_until >= now);
        assert!(record.value.starts_with("/ipfs/") || record.value.starts_with("/ipns/"));
        let until = record.valid_until;
        let kept = record.into_name_record(now);
        assert!(kept.verified && kept.ttl <= RECORD_TTL_MAX && now + kept.ttl <= until);
    }
});
