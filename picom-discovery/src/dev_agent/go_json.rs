//! JSON bodies as Consul reads them: the first value of the body, keys compared without regard to case, unknown keys
//! refused, and the complaints in the words of Go's decoder. It knows JSON only, not what a registration is.

use serde_json::{Map, Value};

/// Why a body could not be read; `Display` adds the words Consul puts in front.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Request decode failed: {0}")]
pub(crate) struct DecodeError(pub(crate) String);

/// The object in a body. `null` is an empty object, as in Go. What stands behind the first value is not looked at.
pub(crate) fn object(body: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<Value>();
    match values.next() {
        None => Err(DecodeError("EOF".to_owned())),
        Some(Ok(Value::Object(map))) => Ok(map),
        Some(Ok(Value::Null)) => Ok(Map::new()),
        Some(Ok(other)) => Err(DecodeError(format!(
            "json: cannot unmarshal {} into Go value of type struct",
            kind(&other)
        ))),
        Some(Err(error)) => Err(DecodeError(syntax(body, &error))),
    }
}

/// One key of an object while it is taken apart: its lower-case name for matching, and what stands behind it.
pub(crate) struct Field<'a> {
    /// The key in lower case: Go matches keys without regard to case.
    pub(crate) key: String,
    name: &'a str,
    /// The outermost field, which is the one Go names in its complaints.
    path: &'a str,
    value: &'a Value,
}

/// The set fields of an object. A `null` leaves a field as if it were not there, as Go does.
pub(crate) fn fields<'a>(map: &'a Map<String, Value>, path: &'a str) -> impl Iterator<Item = Field<'a>> {
    map.iter().map(move |(name, value)| Field {
        key: name.to_ascii_lowercase(),
        name,
        path,
        value,
    })
}

impl<'a> Field<'a> {
    /// Complains that the key is not known.
    pub(crate) fn unknown(&self) -> DecodeError {
        DecodeError(format!("json: unknown field \"{}\"", self.name))
    }

    /// What stands behind the key, whatever it is.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// A text; `null` is the empty one.
    pub(crate) fn string(&self) -> Result<String, DecodeError> {
        match self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            other => Err(self.mismatch(other, "string")),
        }
    }

    /// A whole number in 64 bits; `null` is 0.
    pub(crate) fn integer(&self) -> Result<i64, DecodeError> {
        match self.value {
            Value::Null => Ok(0),
            Value::Number(number) => number
                .as_i64()
                .ok_or_else(|| self.complain(&format!("number {number}"), "int")),
            other => Err(self.mismatch(other, "int")),
        }
    }

    /// True or false; `null` is false.
    pub(crate) fn boolean(&self) -> Result<bool, DecodeError> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(*value),
            other => Err(self.mismatch(other, "bool")),
        }
    }

    /// A list of texts; `null` is the empty one.
    pub(crate) fn strings(&self) -> Result<Vec<String>, DecodeError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => items
                .iter()
                .map(|item| match item {
                    Value::Null => Ok(String::new()),
                    Value::String(text) => Ok(text.clone()),
                    other => Err(self.mismatch(other, "string")),
                })
                .collect(),
            other => Err(self.mismatch(other, "[]string")),
        }
    }

    /// A list of objects; `null` is the empty one.
    pub(crate) fn objects(&self) -> Result<Vec<&'a Map<String, Value>>, DecodeError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => items
                .iter()
                .filter(|item| !item.is_null())
                .map(|item| item.as_object().ok_or_else(|| self.mismatch(item, "struct")))
                .collect(),
            other => Err(self.mismatch(other, "structs.CheckTypes")),
        }
    }

    /// An object; `None` for `null`.
    pub(crate) fn object(&self) -> Result<Option<&'a Map<String, Value>>, DecodeError> {
        match self.value {
            Value::Null => Ok(None),
            Value::Object(map) => Ok(Some(map)),
            other => Err(self.mismatch(other, "struct")),
        }
    }

    /// Pairs of texts; `null` is none.
    pub(crate) fn pairs(&self) -> Result<Vec<(String, String)>, DecodeError> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| match value {
                    Value::Null => Ok((key.clone(), String::new())),
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    other => Err(self.mismatch(other, "string")),
                })
                .collect(),
            other => Err(self.mismatch(other, "map[string]string")),
        }
    }

    fn mismatch(&self, found: &Value, wanted: &str) -> DecodeError {
        let found = match found {
            Value::Number(number) if wanted == "int" => format!("number {number}"),
            other => kind(other).to_owned(),
        };
        self.complain(&found, wanted)
    }

    fn complain(&self, found: &str, wanted: &str) -> DecodeError {
        let path = if self.path.is_empty() {
            self.name
        } else {
            self.path
        };
        DecodeError(format!(
            "json: cannot unmarshal {found} into Go struct field .{path} of type {wanted}"
        ))
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Our parser's complaint in the words of Go's.
fn syntax(body: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected EOF".to_owned();
    }
    // Our parser says where and why in its text only; a text we do not know is passed on as it is.
    let text = error.to_string();
    let context = [
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        ("trailing comma", "looking for beginning of value"),
        ("expected value", "looking for beginning of value"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("expected ident", "in literal"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("invalid number", "in numeric literal"),
    ]
    .into_iter()
    .find(|(ours, _)| text.starts_with(ours));
    match (context, found_at(body, error)) {
        (Some((_, gos)), Some(b'"')) => format!("invalid character '\"' {gos}"),
        (Some((_, gos)), Some(found)) => {
            format!("invalid character '{}' {gos}", char::from(found).escape_default())
        }
        _ => text,
    }
}

fn found_at(body: &[u8], error: &serde_json::Error) -> Option<u8> {
    let line = body
        .split(|byte| *byte == b'\n')
        .nth(error.line().checked_sub(1)?)?;
    line.get(error.column().saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(body: &str) -> String {
        object(body.as_bytes()).unwrap_err().0
    }

    #[test]
    fn broken_bodies_are_refused_in_gos_words() {
        for (body, error) in [
            ("", "EOF"),
            ("  \n", "EOF"),
            (
                "{bad",
                "invalid character 'b' looking for beginning of object key string",
            ),
            (
                r#"{"Name":"a","Tags":["a",}"#,
                "invalid character '}' looking for beginning of value",
            ),
            (r#"{"Name" "a"}"#, "invalid character '\"' after object key"),
            (r#"{"Name":"a""#, "unexpected EOF"),
            (
                r#"{"Name":"a" x"#,
                "invalid character 'x' after object key:value pair",
            ),
            (
                r#"{"Name":}"#,
                "invalid character '}' looking for beginning of value",
            ),
            ("xyz", "invalid character 'x' looking for beginning of value"),
            (r#"{"Tags":["a" x]}"#, "invalid character 'x' after array element"),
            (
                "{\n  \"Name\": x}",
                "invalid character 'x' looking for beginning of value",
            ),
            ("[]", "json: cannot unmarshal array into Go value of type struct"),
            ("5", "json: cannot unmarshal number into Go value of type struct"),
        ] {
            assert_eq!(complaint(body), error, "{body}");
        }
    }

    #[test]
    fn what_follows_the_first_value_is_not_read() {
        assert_eq!(object(br#"{"Name":"x"} trailing"#).unwrap().len(), 1);
        assert_eq!(object(b"null").unwrap().len(), 0);
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let body = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(object(body.as_bytes()).is_err());
    }

    #[test]
    fn fields_complain_about_kinds_in_gos_words() {
        let map = object(br#"{"Port":"80","Name":5,"Tags":[1],"Meta":{"a":1},"Ok":null,"Big":1.5}"#).unwrap();
        let by_key = |key: &str| fields(&map, "").find(|field| field.key == key).unwrap();
        assert_eq!(
            by_key("port").integer().unwrap_err().0,
            "json: cannot unmarshal string into Go struct field .Port of type int"
        );
        assert_eq!(
            by_key("name").string().unwrap_err().0,
            "json: cannot unmarshal number into Go struct field .Name of type string"
        );
        assert_eq!(
            by_key("tags").strings().unwrap_err().0,
            "json: cannot unmarshal number into Go struct field .Tags of type string"
        );
        assert_eq!(
            by_key("meta").pairs().unwrap_err().0,
            "json: cannot unmarshal number into Go struct field .Meta of type string"
        );
        assert_eq!(
            by_key("big").integer().unwrap_err().0,
            "json: cannot unmarshal number 1.5 into Go struct field .Big of type int"
        );
        assert_eq!(by_key("ok").integer(), Ok(0));
        assert_eq!(by_key("ok").unknown().0, "json: unknown field \"Ok\"");
    }
}
