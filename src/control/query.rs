//! Query strings as parameters: text becomes what the schema asks for. Pure.

use serde_json::{Map, Value};

/// Turns pairs of a query string into a parameter object.
///
/// A name given twice becomes a list where the schema has a list. What does
/// not fit stays text, so that decoding refuses it by name.
pub(crate) fn to_params(pairs: Vec<(String, String)>, schema: &Value) -> Value {
    let mut params = Map::new();
    for (name, text) in pairs {
        let property = schema.pointer(&format!("/properties/{}", escape(&name)));
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
    Value::Object(params)
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

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn text_becomes_what_the_schema_asks_for() {
        let got = to_params(
            pairs(&[
                ("path", "7"),
                ("offset", "7"),
                ("long", ""),
                ("ignore", "a"),
                ("ignore", "b"),
            ]),
            &schema(),
        );
        assert_eq!(
            got,
            json!({"path": "7", "offset": 7, "long": true, "ignore": ["a", "b"]})
        );
    }

    #[test]
    fn what_does_not_fit_stays_text_for_the_decoder_to_refuse() {
        let got = to_params(
            pairs(&[
                ("offset", "x"),
                ("long", "maybe"),
                ("new", "1"),
                ("options", "["),
            ]),
            &schema(),
        );
        assert_eq!(
            got,
            json!({"offset": "x", "long": "maybe", "new": "1", "options": "["})
        );
    }
}
