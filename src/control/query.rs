//! Query strings as parameters: text becomes what the schema asks for. Pure.

use serde_json::{Map, Value};

use super::OperationError;
use super::raw;

/// Takes a query string apart, percent-decoded: values are bytes.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, Vec<u8>)>, OperationError> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = String::from_utf8(decoded(name))
            .map_err(|_| OperationError::invalid("the name of a parameter is not UTF-8"))?;
        Ok((name, decoded(value)))
    };
    parts.map(pair).collect()
}

/// Gives the bytes that a form's encoding stands for.
fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| *first == b'%');
        // A sign would be taken for part of a number.
        let digits = digits.filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|two| std::str::from_utf8(two).ok());
        if let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            out.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(if *first == b'+' { b' ' } else { *first });
            rest = tail;
        }
    }
    out
}

/// Writes bytes so that [`pairs`] gives them back.
pub(crate) fn encoded(bytes: &[u8]) -> String {
    let each = bytes.iter().map(|byte| match byte {
        b'-' | b'.' | b'_' | b'/' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    each.collect()
}

/// Turns pairs of a query string into a parameter object.
///
/// A name given twice becomes a list where the schema has a list. What does
/// not fit stays text, so that decoding refuses it by name. Bytes that are not
/// UTF-8 are refused where the schema has text: another name is another file.
pub(crate) fn to_params(
    pairs: Vec<(String, Vec<u8>)>,
    schema: &Value,
) -> Result<Value, OperationError> {
    let mut params = Map::new();
    for (name, bytes) in pairs {
        let property = schema.pointer(&format!("/properties/{}", escape(&name)));
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) if raw::takes_bytes(property) => {
                params.insert(name, raw::to_json(error.as_bytes()));
                continue;
            }
            Err(_) => return Err(OperationError::invalid(format!("{name} is not UTF-8"))),
        };
        if is_of(property, "array") {
            let items = property.and_then(|one| one.get("items"));
            let value = convert(text, items);
            match params
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                Value::Array(list) => list.push(value),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_) => {}
            }
        } else {
            params.insert(name, convert(text, property));
        }
    }
    Ok(Value::Object(params))
}

/// Escapes a name for a JSON pointer.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Reads `text` as the schema's type says.
fn convert(text: String, schema: Option<&Value>) -> Value {
    if is_of(schema, "integer") {
        if let Ok(number) = text.parse::<u64>() {
            return number.into();
        }
        if let Ok(number) = text.parse::<i64>() {
            return number.into();
        }
    }
    if is_of(schema, "boolean") {
        // `?long` means `?long=true`, as curl users write it.
        match text.as_str() {
            "" | "true" | "1" => return true.into(),
            "false" | "0" => return false.into(),
            _ => {}
        }
    }
    if is_of(schema, "object")
        && let Ok(value @ Value::Object(_)) = serde_json::from_str(&text)
    {
        return value;
    }
    text.into()
}

/// Tells whether a schema is of a type, nullable or not.
fn is_of(schema: Option<&Value>, kind: &str) -> bool {
    match schema.and_then(|one| one.get("type")) {
        Some(Value::String(one)) => one == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"properties": {
            "path": {"type": "string"},
            "offset": {"type": ["integer", "null"]},
            "long": {"type": "boolean"},
            "ignore": {"type": "array", "items": {"type": "string"}},
            "options": {"type": "object"},
        }})
    }

    fn given(list: &[(&str, &str)]) -> Value {
        let pairs = list.iter().map(|(a, b)| ((*a).to_owned(), (*b).into()));
        to_params(pairs.collect(), &schema()).unwrap()
    }

    #[test]
    fn text_becomes_what_the_schema_asks_for() {
        let got = given(&[
            ("path", "7"),
            ("offset", "7"),
            ("long", ""),
            ("ignore", "a"),
            ("ignore", "b"),
        ]);
        assert_eq!(
            got,
            json!({"path": "7", "offset": 7, "long": true, "ignore": ["a", "b"]})
        );
    }

    #[test]
    fn what_does_not_fit_stays_text_for_the_decoder_to_refuse() {
        let got = given(&[
            ("offset", "x"),
            ("long", "maybe"),
            ("new", "1"),
            ("options", "["),
        ]);
        assert_eq!(
            got,
            json!({"offset": "x", "long": "maybe", "new": "1", "options": "["})
        );
    }

    #[test]
    fn every_byte_survives_the_way_over_a_query_string() {
        let all: Vec<u8> = (0..=255).collect();
        let query = format!("path={}&long&&a+b=%2g%", encoded(&all));
        let got = pairs(&query).unwrap();
        assert_eq!(got[0], ("path".to_owned(), all));
        assert_eq!(got[1], ("long".to_owned(), Vec::new()));
        assert_eq!(got[2], ("a b".to_owned(), b"%2g%".to_vec()));
        assert_eq!(got.len(), 3);
        assert!(pairs("%ff=1").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_where_text_is_wanted() {
        let odd = vec![("path".to_owned(), vec![0xff])];
        let refused = to_params(odd, &schema()).unwrap_err();
        assert!(refused.message.contains("path"), "{refused}");
    }
}
