//! The OpenAPI document of the HTTP face, made from the registry.

use serde_json::{Map, Value, json};

use super::{Operation, Registry};

/// Describes every operation of the registry as OpenAPI 3.1.
pub fn document(registry: &Registry) -> Value {
    let paths: Map<String, Value> = registry
        .iter()
        .map(|one| {
            (
                format!("{}{}", super::http::PREFIX, one.name),
                path_item(one),
            )
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cidfs control",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Operations of a cidfs daemon, served on the Unix socket control.sock of its repository.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": error_schema()}},
    })
}

fn path_item(operation: &Operation) -> Value {
    let mut item = Map::new();
    if !operation.mutates {
        item.insert("get".to_owned(), method(operation, "get"));
    }
    item.insert("post".to_owned(), method(operation, "post"));
    Value::Object(item)
}

fn method(operation: &Operation, verb: &str) -> Value {
    let mut method = json!({
        "operationId": format!("{verb}_{}", operation.name.replace('/', "_")),
        "summary": operation.summary,
        "tags": [operation.group()],
        "responses": {
            "200": {"description": "It went well.", "content": content(operation)},
            "default": {
                "description": "It failed.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    });
    if let Some(fields) = method.as_object_mut() {
        if verb == "get" || operation.takes_body {
            fields.insert("parameters".to_owned(), query_parameters(operation));
        }
        if verb == "post" {
            fields.insert(
                "requestBody".to_owned(),
                json!({"content": request(operation)}),
            );
        }
    }
    method
}

fn content(operation: &Operation) -> Value {
    match operation.gives {
        Some(media_type) => json!({media_type: {}}),
        None => json!({
            "application/json": {"schema": success_schema()},
            "application/x-ndjson": {},
        }),
    }
}

fn request(operation: &Operation) -> Value {
    let mut forms = json!({"application/json": {"schema": operation.params}});
    if operation.takes_body
        && let Some(fields) = forms.as_object_mut()
    {
        fields.insert("application/octet-stream".to_owned(), json!({}));
    }
    forms
}

fn query_parameters(operation: &Operation) -> Value {
    let required = operation.params.get("required").and_then(Value::as_array);
    let properties = operation
        .params
        .get("properties")
        .and_then(Value::as_object);
    let list: Vec<Value> = properties
        .into_iter()
        .flatten()
        .map(|(name, schema)| {
            let needed = required.is_some_and(|all| all.iter().any(|one| one == name.as_str()));
            json!({"name": name, "in": "query", "required": needed, "schema": schema})
        })
        .collect();
    Value::Array(list)
}

fn success_schema() -> Value {
    json!({
        "type": "object",
        "required": ["success", "operation_id", "duration_ms"],
        "properties": {
            "success": {"const": true},
            "operation_id": {"type": "string"},
            "duration_ms": {"type": "integer"},
        },
    })
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["success", "error"],
        "properties": {
            "success": {"const": false},
            "operation_id": {"type": "string"},
            "duration_ms": {"type": "integer"},
            "error": {
                "type": "object",
                "required": ["kind", "message"],
                "properties": {
                    "kind": {"type": "string"},
                    "message": {"type": "string"},
                    "hint": {"type": "string"},
                },
            },
        },
    })
}
