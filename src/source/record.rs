//! IPNS records: parsed and verified.
//!
//! Format: <https://specs.ipfs.tech/ipns/ipns-record/>. The V2 signature alone
//! decides; the fields and the signature of V1 are never trusted, but where
//! they are present the fields must say the same.

use std::time::{Duration, SystemTime};

use ed25519_dalek::VerifyingKey;
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use serde::Deserialize;

use super::NameRecord;
use super::ipns::IpnsName;
use super::time::parse_rfc3339;
use crate::block::{Cid, SHA2_256, hash};
use crate::car::decode_varint;
use crate::config::{IPNS_RECORD_BYTES_MAX, NAME_TTL_DEFAULT, RECORD_TTL_MAX};

const SIGNATURE_PREFIX: &[u8] = b"ipns-signature:";

/// Why an IPNS record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is over [`IPNS_RECORD_BYTES_MAX`].
    #[error("IPNS record of {0} bytes is over the limit of {IPNS_RECORD_BYTES_MAX}")]
    TooLarge(usize),
    /// It is not a record.
    #[error("IPNS record is malformed: {0}")]
    Malformed(&'static str),
    /// It has no V2 signature.
    #[error("IPNS record has no V2 signature")]
    NoSignatureV2,
    /// Its public key is missing, of an unknown kind, or not that of the name.
    #[error("IPNS record: {0}")]
    Key(&'static str),
    /// The V2 signature is wrong.
    #[error("IPNS record has a wrong signature")]
    Signature,
    /// The unsigned V1 fields say something else than the signed ones.
    #[error("IPNS record contradicts itself: V1 {0} differs from what is signed")]
    Contradiction(&'static str),
    /// Its time has passed.
    #[error("IPNS record has expired")]
    Expired,
}

/// A record whose signature was checked against its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpnsRecord {
    /// `/ipfs/…` or `/ipns/…`.
    pub value: String,
    /// A record with a higher number replaces one with a lower.
    pub sequence: u64,
    /// How long it may be kept, as its maker says.
    pub ttl: Duration,
    /// Until when it is valid.
    pub valid_until: SystemTime,
}

impl IpnsRecord {
    /// Parses `bytes` and accepts them if they are a record of `name` that is
    /// valid at `now`.
    pub fn verify(name: &IpnsName, bytes: &[u8], now: SystemTime) -> Result<Self, RecordError> {
        if bytes.len() > IPNS_RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let entry = Entry::decode(bytes)?;
        if entry.signature_v2.is_empty() || entry.data.is_empty() {
            return Err(RecordError::NoSignatureV2);
        }
        let key = public_key(name, &entry)?;
        check_signature(key, entry.data, entry.signature_v2)?;
        let signed: Signed = serde_ipld_dagcbor::from_slice(entry.data)
            .map_err(|_| RecordError::Malformed("its data is not the dag-cbor of a record"))?;
        entry.check_v1(&signed)?;
        let record = signed.into_record()?;
        if record.valid_until < now {
            return Err(RecordError::Expired);
        }
        Ok(record)
    }

    /// What the name leads to, and for how long from `now` on.
    pub fn into_name_record(self, now: SystemTime) -> NameRecord {
        let left = self
            .valid_until
            .duration_since(now)
            .unwrap_or(Duration::ZERO);
        let ttl = if self.ttl.is_zero() {
            NAME_TTL_DEFAULT
        } else {
            self.ttl
        };
        NameRecord {
            value: self.value,
            ttl: ttl.min(left).min(RECORD_TTL_MAX),
            sequence: Some(self.sequence),
            verified: true,
        }
    }
}

/// The signed part.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Signed {
    #[serde(with = "serde_bytes")]
    value: Vec<u8>,
    #[serde(with = "serde_bytes")]
    validity: Vec<u8>,
    validity_type: u64,
    sequence: u64,
    #[serde(rename = "TTL")]
    ttl: u64,
}

impl Signed {
    fn into_record(self) -> Result<IpnsRecord, RecordError> {
        // 0 is "end of life", the only kind there is.
        if self.validity_type != 0 {
            return Err(RecordError::Malformed("its kind of validity is not known"));
        }
        let valid_until = std::str::from_utf8(&self.validity)
            .ok()
            .and_then(parse_rfc3339)
            .ok_or(RecordError::Malformed("its validity is not a time"))?;
        let value = String::from_utf8(self.value)
            .map_err(|_| RecordError::Malformed("its value is not text"))?;
        let value = content_path(value)?;
        let ttl = Duration::from_nanos(self.ttl);
        Ok(IpnsRecord {
            value,
            sequence: self.sequence,
            ttl,
            valid_until,
        })
    }
}

/// Accepts `/ipfs/…` and `/ipns/…`, and a bare CID as old publishers wrote it.
fn content_path(value: String) -> Result<String, RecordError> {
    let rest = value
        .strip_prefix("/ipfs/")
        .or_else(|| value.strip_prefix("/ipns/"));
    match rest {
        Some(rest) if !rest.is_empty() => Ok(value),
        None if value.parse::<Cid>().is_ok() => Ok(format!("/ipfs/{value}")),
        Some(_) | None => Err(RecordError::Malformed("its value is not a content path")),
    }
}

/// The protobuf around the signed part.
#[derive(Debug, Default)]
struct Entry<'a> {
    value: &'a [u8],
    signature_v1: &'a [u8],
    validity_type: u64,
    validity: &'a [u8],
    sequence: u64,
    ttl: u64,
    public_key: &'a [u8],
    signature_v2: &'a [u8],
    data: &'a [u8],
}

impl<'a> Entry<'a> {
    fn decode(mut rest: &'a [u8]) -> Result<Self, RecordError> {
        let mut entry = Self::default();
        while !rest.is_empty() {
            match field(&mut rest)? {
                (1, Value::Bytes(bytes)) => entry.value = bytes,
                (2, Value::Bytes(bytes)) => entry.signature_v1 = bytes,
                (3, Value::Number(number)) => entry.validity_type = number,
                (4, Value::Bytes(bytes)) => entry.validity = bytes,
                (5, Value::Number(number)) => entry.sequence = number,
                (6, Value::Number(number)) => entry.ttl = number,
                (7, Value::Bytes(bytes)) => entry.public_key = bytes,
                (8, Value::Bytes(bytes)) => entry.signature_v2 = bytes,
                (9, Value::Bytes(bytes)) => entry.data = bytes,
                (1..=9, _) => return Err(RecordError::Malformed("a field has the wrong type")),
                // Records may carry fields of later versions.
                _ => (),
            }
        }
        Ok(entry)
    }

    /// Compares the V1 fields, where they are used, with what is signed.
    fn check_v1(&self, signed: &Signed) -> Result<(), RecordError> {
        if self.signature_v1.is_empty() && self.value.is_empty() {
            return Ok(());
        }
        let pairs = [
            ("value", self.value == signed.value),
            ("validity", self.validity == signed.validity),
            ("validity type", self.validity_type == signed.validity_type),
            ("sequence", self.sequence == signed.sequence),
            ("TTL", self.ttl == signed.ttl),
        ];
        match pairs.into_iter().find(|(_, same)| !same) {
            Some((which, _)) => Err(RecordError::Contradiction(which)),
            None => Ok(()),
        }
    }
}

/// The key that the name stands for: from the record, or in the name itself.
fn public_key<'a>(name: &'a IpnsName, entry: &Entry<'a>) -> Result<&'a [u8], RecordError> {
    let inline = name.inline_key();
    if entry.public_key.is_empty() {
        return inline.ok_or(RecordError::Key("the public key is missing"));
    }
    let same = match inline {
        Some(key) => key == entry.public_key,
        None => hash(SHA2_256, entry.public_key).is_ok_and(|hash| hash == *name.hash()),
    };
    if same {
        Ok(entry.public_key)
    } else {
        Err(RecordError::Key("the key is not that of the name"))
    }
}

fn check_signature(key: &[u8], data: &[u8], signature: &[u8]) -> Result<(), RecordError> {
    let message = [SIGNATURE_PREFIX, data].concat();
    let (mut kind, mut bytes, mut rest) = (None, None, key);
    while !rest.is_empty() {
        match field(&mut rest)? {
            (1, Value::Number(number)) => kind = Some(number),
            (2, Value::Bytes(value)) => bytes = Some(value),
            _ => return Err(RecordError::Key("the public key is malformed")),
        }
    }
    match (kind, bytes) {
        (Some(0), Some(bytes)) => check_rsa(bytes, &message, signature),
        (Some(1), Some(bytes)) => check_ed25519(bytes, &message, signature),
        (Some(_), Some(_)) => Err(RecordError::Key("keys of this kind are not supported")),
        (None, _) | (_, None) => Err(RecordError::Key("the public key is malformed")),
    }
}

fn check_ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), RecordError> {
    let key: &[u8; 32] = key
        .try_into()
        .map_err(|_| RecordError::Key("the Ed25519 key has a wrong length"))?;
    let key = VerifyingKey::from_bytes(key)
        .map_err(|_| RecordError::Key("the Ed25519 key is not one"))?;
    let signature =
        ed25519_dalek::Signature::from_slice(signature).map_err(|_| RecordError::Signature)?;
    key.verify_strict(message, &signature)
        .map_err(|_| RecordError::Signature)
}

fn check_rsa(key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), RecordError> {
    use rsa::traits::PublicKeyParts;
    let key = rsa::RsaPublicKey::from_public_key_der(key)
        .map_err(|_| RecordError::Key("the RSA key is not one"))?;
    if key.size() < 256 {
        return Err(RecordError::Key("the RSA key has less than 2048 bits"));
    }
    let key = rsa::pkcs1v15::VerifyingKey::<rsa::sha2::Sha256>::new(key);
    let signature =
        rsa::pkcs1v15::Signature::try_from(signature).map_err(|_| RecordError::Signature)?;
    key.verify(message, &signature)
        .map_err(|_| RecordError::Signature)
}

/// What a protobuf field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Fixed widths, which no known field has.
    Other,
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), RecordError> {
    let key = number(rest)?;
    let value = match key & 7 {
        0 => Value::Number(number(rest)?),
        1 => {
            take(rest, 8)?;
            Value::Other
        }
        2 => {
            let len = number(rest)?;
            Value::Bytes(take(rest, len)?)
        }
        5 => {
            take(rest, 4)?;
            Value::Other
        }
        _ => return Err(RecordError::Malformed("a field has an unknown type")),
    };
    Ok((key >> 3, value))
}

fn number(rest: &mut &[u8]) -> Result<u64, RecordError> {
    let (value, len) = decode_varint(rest)
        .ok()
        .flatten()
        .ok_or(RecordError::Malformed("a number does not end"))?;
    *rest = rest.get(len..).unwrap_or_default();
    Ok(value)
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], RecordError> {
    let (taken, left) = usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(RecordError::Malformed("a field does not end"))?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
