//! JSON that clients send.

mod fold;

use proto::error::ApiError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a body. As with Docker: null is as good as absent, the case of a field's name does not matter, and what has a name that
/// nobody knows is not looked at.
///
/// # Errors
/// It is no JSON, or something in it is of another type than it has to be; the error says where.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid("invalid JSON: got EOF while reading request body"));
    }
    let mut value: Value =
        serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))?;
    if !value.is_object() {
        return Err(ApiError::invalid("invalid JSON: an object is expected"));
    }
    drop_nulls(&mut value);
    serde_path_to_error::deserialize(fold::Folded(value)).map_err(|error| {
        let path = error.path().to_string();
        ApiError::invalid(format!("invalid JSON: {path}: {}", error.into_inner()))
    })
}

/// Reads what a daemon answers: an object or a list. Null is as good as absent here too, and what has a name that nobody knows is
/// not looked at: the daemon may be newer, or Docker's.
///
/// # Errors
/// It is no JSON, or something in it is of another type than it has to be; the error says where.
pub fn answer<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut value: Value = serde_json::from_slice(body).map_err(|error| format!("invalid JSON: {error}"))?;
    drop_nulls(&mut value);
    serde_path_to_error::deserialize(value).map_err(|error| format!("{}: {}", error.path(), error.inner()))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a value is what Go leaves out (`omitempty`): for `skip_serializing_if`.
pub(crate) fn empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether there is anything in a value that Go would not have put there by itself: clients send the empty forms of what they do
/// not use.
pub(crate) fn means_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => fields.values().any(means_something),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Thing {
        name: String,
        parts: Vec<Thing>,
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let thing: Thing = read(br#"{"Name":null,"Parts":[{"Name":"a","Parts":null}],"More":1}"#).unwrap();
        assert_eq!(thing.parts, [Thing { name: "a".into(), parts: vec![] }]);
    }

    #[test]
    fn the_case_of_a_fields_name_does_not_matter() {
        let thing: Thing = read(br#"{"name":"a","PARTS":[{"nAME":"b"}]}"#).unwrap();
        assert_eq!((thing.name.as_str(), thing.parts[0].name.as_str()), ("a", "b"));
        for both in [r#"{"name":"a","Name":"b"}"#, r#"{"Name":"b","name":"a"}"#] {
            assert_eq!(read::<Thing>(both.as_bytes()).unwrap().name, "b", "{both}");
        }
        let labels: crate::service_spec::ServiceSpec = read(br#"{"labels":{"a":"1","A":"2"}}"#).unwrap();
        assert_eq!(labels.labels.len(), 2, "keys of maps are data");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = read::<Thing>(br#"{"Parts":[{"Name":7}]}"#).unwrap_err();
        assert!(error.message.starts_with("invalid JSON: Parts[0].Name: invalid type"), "{error}");
        for bad in ["", " ", "[]", "7", "{", "nul", "{\"Name\":\"a\"} x", "{\"Parts\":[null]}"] {
            let error = read::<Thing>(bad.as_bytes()).unwrap_err();
            assert!(error.message.starts_with("invalid JSON: "), "{bad}: {error}");
        }
        let deep = "{\"Parts\":[".repeat(500);
        assert!(read::<Thing>(deep.as_bytes()).is_err());
    }
}
