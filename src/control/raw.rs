//! Names of the tree as parameters: bytes, for which JSON has no word. Pure.

use std::borrow::Cow;
use std::fmt;

use multibase::Base;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Value, json};

/// A path or another name of the tree: bytes, mostly UTF-8.
///
/// In JSON it is text, or `{"bytes": "f636166e9"}`, multibase, where it is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Raw(Vec<u8>);

/// The field of a name that is not UTF-8.
const FIELD: &str = "bytes";

/// Gives bytes as a parameter carries them.
pub(crate) fn to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({FIELD: encoded(bytes)}),
    }
}

/// Bytes as text that JSON can carry beside a lossy form.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    multibase::encode(Base::Base16Lower, bytes)
}

/// The bytes of a parameter that is no text, if that is what it is.
pub(crate) fn from_json(value: &Value) -> Option<Vec<u8>> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    let text = fields.get(FIELD)?.as_str()?;
    multibase::decode(text).ok().map(|(_, bytes)| bytes)
}

/// Tells whether a parameter with this schema may be bytes that are not UTF-8.
pub(crate) fn takes_bytes(schema: Option<&Value>) -> bool {
    let forms = schema.and_then(|one| one.get("anyOf"));
    let mut forms = forms.and_then(Value::as_array).into_iter().flatten();
    forms.any(|form| form.pointer("/properties/bytes").is_some() || takes_bytes(Some(form)))
}

impl Raw {
    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&str> for Raw {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl JsonSchema for Raw {
    fn schema_name() -> Cow<'static, str> {
        "Raw".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "description": "Multibase, where it is not UTF-8.",
                "properties": {"bytes": {"type": "string"}},
                "required": ["bytes"],
            },
        ]})
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Forms)
    }
}

struct Forms;

impl<'de> Visitor<'de> for Forms {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, or {\"bytes\": …} in multibase")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::from(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut fields = serde_json::Map::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            fields.insert(name, value);
        }
        from_json(&Value::Object(fields))
            .map(Raw)
            .ok_or_else(|| A::Error::custom("only {\"bytes\": …} in multibase is a name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_over_json() {
        for bytes in [&b""[..], b"/caf\xc3\xa9", b"/caf\xe9", b"\xff\xfe/\0"] {
            let raw: Raw = serde_json::from_value(to_json(bytes)).unwrap();
            assert_eq!(raw.bytes(), bytes);
        }
        assert_eq!(to_json(b"/caf\xe9"), json!({"bytes": "f2f636166e9"}));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            json!(5),
            json!({"bytes": "not multibase"}),
            json!({"bytes": "f61", "more": 1}),
            json!(["f61"]),
        ] {
            assert!(serde_json::from_value::<Raw>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_schema_says_that_it_takes_bytes() {
        let mut generator = SchemaGenerator::default();
        let plain = Raw::json_schema(&mut generator).to_value();
        assert!(takes_bytes(Some(&plain)));
        let optional = <Option<Raw>>::json_schema(&mut generator).to_value();
        assert!(takes_bytes(Some(&optional)), "{optional}");
        let text = String::json_schema(&mut generator).to_value();
        assert!(!takes_bytes(Some(&text)));
    }
}
