//! Configuration files, typed as PyYAML types them.
//!
//! Source: YAML 1.1, "Language-Independent Types": of them null, bool and numbers.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::value::{Found, Value, Values};

/// Keys within keys, so deep and no deeper.
const DEPTH_LIMIT: usize = 16;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("{0}")]
    Syntax(#[from] ScanError),
    #[error("it is no mapping of keys to values")]
    NoMapping,
    #[error("keys are nested too deep")]
    TooDeep,
}

/// Adds the file's values to those before it.
pub fn add(text: &str, origin: &str, values: &mut Values) -> Result<(), YamlError> {
    let mut reader = YamlReader {
        parser: Parser::new_from_str(text),
        origin,
        values,
        anchors: HashMap::new(),
    };
    loop {
        match reader.next()? {
            Event::MappingStart(..) => return reader.mapping(""),
            Event::StreamEnd => return Ok(()),
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => return Ok(()),
            Event::Scalar(..) | Event::SequenceStart(..) => return Err(YamlError::NoMapping),
            _ => {}
        }
    }
}

struct YamlReader<'a, 'b> {
    parser: Parser<'a, StrInput<'a>>,
    origin: &'b str,
    values: &'b mut Values,
    /// Scalars that have an anchor.
    anchors: HashMap<usize, Value>,
}

impl<'a> YamlReader<'a, '_> {
    fn next(&mut self) -> Result<Event<'a>, YamlError> {
        match self.parser.next_event() {
            Some(event) => Ok(event?.0),
            None => Ok(Event::StreamEnd),
        }
    }

    /// Reads to the end of a mapping that has begun.
    fn mapping(&mut self, at: &str) -> Result<(), YamlError> {
        if at.matches('.').count() > DEPTH_LIMIT {
            return Err(YamlError::TooDeep);
        }
        loop {
            let name = match self.next()? {
                Event::MappingEnd | Event::StreamEnd => return Ok(()),
                Event::Scalar(name, ..) => name,
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    return Err(YamlError::NoMapping);
                }
                _ => continue,
            };
            let key = match at {
                "" => name.into_owned(),
                at => format!("{at}.{name}"),
            };
            self.value(key)?;
        }
    }

    fn value(&mut self, key: String) -> Result<(), YamlError> {
        let value = match self.next()? {
            Event::MappingStart(..) => return self.mapping(&key),
            Event::SequenceStart(..) => {
                self.skip_sequence()?;
                Value::Other
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain {
                    of_plain(&text)
                } else {
                    Value::Text(text.into_owned())
                };
                if anchor != 0 {
                    self.anchors.insert(anchor, value.clone());
                }
                value
            }
            Event::Alias(anchor) => self.anchors.get(&anchor).cloned().unwrap_or(Value::Other),
            _ => Value::Null,
        };
        let origin = self.origin.to_owned();
        self.values.set(key, Found { value, origin });
        Ok(())
    }

    fn skip_sequence(&mut self) -> Result<(), YamlError> {
        let mut open = 1_usize;
        while open > 0 {
            match self.next()? {
                Event::SequenceStart(..) | Event::MappingStart(..) => open += 1,
                Event::SequenceEnd | Event::MappingEnd => open -= 1,
                Event::StreamEnd => return Ok(()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn of_plain(text: &str) -> Value {
    let lower = text.to_ascii_lowercase();
    let is_cased = [lower.clone(), text.to_ascii_uppercase(), title(&lower)]
        .iter()
        .any(|cased| cased == text);
    let digits = text.trim_start_matches(['-', '+']);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && (digits.parse::<f64>().is_ok()
            || digits.chars().all(|c| c.is_ascii_digit() || c == '_'));
    match lower.as_str() {
        _ if is_null(text) => Value::Null,
        "yes" | "true" | "on" if is_cased => Value::Bool(true),
        "no" | "false" | "off" if is_cased => Value::Bool(false),
        _ if is_number => Value::Number(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

/// The first letter in upper case.
fn title(lower: &str) -> String {
    let mut chars = lower.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Values {
        let mut values = Values::default();
        add(text, "f", &mut values).unwrap();
        values
    }

    #[test]
    fn scalars_are_typed_as_yaml_1_1_types_them() {
        for (text, expected) in [
            ("yes", Value::Bool(true)),
            ("On", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("'yes'", Value::Text("yes".to_owned())),
            ("tRue", Value::Text("tRue".to_owned())),
            ("!!str true", Value::Text("true".to_owned())),
            ("", Value::Null),
            ("~", Value::Null),
            ("012345", Value::Number("012345".to_owned())),
            ("1e5x", Value::Text("1e5x".to_owned())),
            ("eu-west-1", Value::Text("eu-west-1".to_owned())),
            ("[a, {b: c}]", Value::Other),
            (">-\n  a\n  b", Value::Text("a b".to_owned())),
        ] {
            let values = read(&format!("k: {text}\nlast: 1\n"));
            assert!(values.get("k").unwrap().value == expected, "{text:?}");
            assert!(values.get("last").is_some(), "{text:?}");
        }
    }

    #[test]
    fn keys_are_joined_and_a_later_file_replaces_single_ones() {
        let mut values = read("storage:\n  s3: {region: a, bucket_name: &b b}\nweb: *b\n");
        add("storage:\n  s3:\n    region: c\n", "g", &mut values).unwrap();
        assert!(values.get("storage.s3.region").unwrap().origin == "g");
        assert!(values.get("storage.s3.bucket_name").unwrap().origin == "f");
        assert!(values.get("web").unwrap().value == Value::Text("b".to_owned()));
        add("storage:\n  s3:\n", "h", &mut values).unwrap();
        assert!(values.get("storage.s3.bucket_name").is_none());
    }

    #[test]
    fn what_is_no_mapping_is_refused_and_an_empty_file_is_none() {
        let mut values = Values::default();
        for wrong in ["- a\n", "text\n", "a: [b\n", "a: 'b\n"] {
            assert!(add(wrong, "f", &mut values).is_err(), "{wrong:?}");
        }
        for empty in ["", "# nothing\n", "---\n"] {
            add(empty, "f", &mut values).unwrap();
        }
    }
}
