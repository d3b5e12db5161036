use ed25519_dalek::{Signer, SigningKey};
use serde::Serialize;

use super::*;
use crate::block::{LIBP2P_KEY, hash};
use crate::car::encode_varint;

#[derive(Serialize, Clone)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(rename = "TTL")]
    ttl: u64,
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
    sequence: u64,
    #[serde(with = "serde_bytes")]
    validity: Vec<u8>,
    validity_type: u64,
}

fn data() -> Data {
    Data {
        ttl: 5_000_000_000,
        value: b"/ipns/example.net/a/b".to_vec(),
        sequence: 7,
        validity: b"2030-01-01T00:00:00.5Z".to_vec(),
        validity_type: 0,
    }
}

fn bytes_field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(number << 3 | 2, out);
    encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public_key_bytes() -> Vec<u8> {
    let mut out = vec![0x08, 0x01];
    bytes_field(2, signing_key().verifying_key().as_bytes(), &mut out);
    out
}

fn name() -> IpnsName {
    let hash = hash(0, &public_key_bytes()).unwrap();
    Cid::new_v1(LIBP2P_KEY, hash).to_string().parse().unwrap()
}

fn sign(data: &Data) -> Vec<u8> {
    let data = serde_ipld_dagcbor::to_vec(data).unwrap();
    let signature = signing_key()
        .sign(&[SIGNATURE_PREFIX, &data].concat())
        .to_bytes();
    let mut out = Vec::new();
    bytes_field(8, &signature, &mut out);
    bytes_field(9, &data, &mut out);
    out
}

fn at(text: &str) -> SystemTime {
    parse_rfc3339(text).unwrap()
}

fn verify(bytes: &[u8]) -> Result<IpnsRecord, RecordError> {
    IpnsRecord::verify(&name(), bytes, at("2026-01-01T00:00:00Z"))
}

#[test]
fn a_good_record_gives_its_value_with_its_path_until_it_expires() {
    let record = verify(&sign(&data())).unwrap();
    assert_eq!(record.value, "/ipns/example.net/a/b");
    assert_eq!((record.sequence, record.ttl), (7, Duration::from_secs(5)));

    let last = IpnsRecord::verify(&name(), &sign(&data()), at("2030-01-01T00:00:00Z")).unwrap();
    let kept = last.into_name_record(at("2030-01-01T00:00:00Z"));
    assert_eq!(kept.ttl, Duration::from_millis(500));
    assert!(kept.verified);
    let late = IpnsRecord::verify(&name(), &sign(&data()), at("2030-01-01T00:00:01Z"));
    assert_eq!(late, Err(RecordError::Expired));
}

#[test]
fn a_flipped_bit_anywhere_is_never_accepted_as_another_record() {
    let good = sign(&data());
    let expected = verify(&good).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(
            verify(&bad).is_err_and(|error| error != RecordError::Expired),
            "bit {bit}"
        );
    }
    assert_eq!(verify(&good), Ok(expected));
    for cut in 0..good.len() {
        assert!(verify(&good[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_record_of_another_key_is_refused() {
    let other = SigningKey::from_bytes(&[8; 32]);
    let mut key = vec![0x08, 0x01];
    bytes_field(2, other.verifying_key().as_bytes(), &mut key);
    let mut bytes = sign(&data());
    bytes_field(7, &key, &mut bytes);
    assert_eq!(
        verify(&bytes),
        Err(RecordError::Key("the key is not that of the name"))
    );
    let mut own = sign(&data());
    bytes_field(7, &public_key_bytes(), &mut own);
    assert!(verify(&own).is_ok());
}

#[test]
fn v1_fields_must_say_the_same_and_prove_nothing() {
    let mut same = sign(&data());
    let data = data();
    bytes_field(1, &data.value, &mut same);
    bytes_field(2, b"not a signature", &mut same);
    bytes_field(4, &data.validity, &mut same);
    same.extend([3 << 3, 0, 5 << 3, 7, 6 << 3]);
    encode_varint(data.ttl, &mut same);
    assert!(verify(&same).is_ok());

    let mut other = sign(&data);
    bytes_field(1, b"/ipfs/elsewhere", &mut other);
    assert_eq!(verify(&other), Err(RecordError::Contradiction("value")));
    let mut only_v1 = Vec::new();
    bytes_field(1, &data.value, &mut only_v1);
    bytes_field(2, b"signature", &mut only_v1);
    assert_eq!(verify(&only_v1), Err(RecordError::NoSignatureV2));
}

#[test]
fn signed_nonsense_is_refused() {
    for nonsense in [
        Data {
            validity_type: 1,
            ..data()
        },
        Data {
            validity: b"tomorrow".to_vec(),
            ..data()
        },
        Data {
            value: b"/etc/passwd".to_vec(),
            ..data()
        },
        Data {
            value: b"/ipfs/".to_vec(),
            ..data()
        },
        Data {
            value: vec![0xff, 0xfe],
            ..data()
        },
    ] {
        assert!(matches!(
            verify(&sign(&nonsense)),
            Err(RecordError::Malformed(_))
        ));
    }
}

#[test]
fn a_record_over_the_limit_is_refused() {
    let mut bytes = sign(&data());
    bytes_field(15, &vec![0; IPNS_RECORD_BYTES_MAX], &mut bytes);
    assert!(matches!(verify(&bytes), Err(RecordError::TooLarge(_))));
}
