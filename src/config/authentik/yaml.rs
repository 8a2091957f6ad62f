//! Configuration files, read and typed as PyYAML does it.
//!
//! Source: YAML 1.1, "Language-Independent Types": of them null, bool and numbers, and
//! merge keys; PyYAML, `SafeConstructor.flatten_mapping`.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};

use super::value::{Found, Value, Values};

/// Keys within keys and lists within lists, so deep and no deeper.
const DEPTH_LIMIT: usize = 16;
/// Values of a file, with those that stand for others: an alias may name aliases.
const VALUES_LIMIT: usize = 10_000;
const MERGE: &str = "<<";

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum YamlError {
    #[error("{0}")]
    Syntax(#[from] ScanError),
    #[error("it is not a mapping of keys to values")]
    NoMapping,
    #[error("what << merges has to be a mapping, or a list of them")]
    NoMerge,
    #[error("keys are nested too deep")]
    TooDeep,
    #[error("it has more than {VALUES_LIMIT} values")]
    TooMany,
}

/// Adds the file's values to those before it.
pub fn add(text: &str, origin: &str, values: &mut Values) -> Result<(), YamlError> {
    let mut reader = YamlReader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        left: VALUES_LIMIT,
        line: 1,
    };
    loop {
        let whole = match reader.next()? {
            Event::StreamEnd => return Ok(()),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {
                continue;
            }
            event => reader.node(event, 0)?,
        };
        return match &*whole {
            Node::Mapping(entries) => {
                let mut left = VALUES_LIMIT;
                set(entries, "", (origin, &mut left), values)
            }
            Node::Scalar(Value::Null, _) => Ok(()),
            Node::Scalar(..) | Node::Sequence(..) => Err(YamlError::NoMapping),
        };
    }
}

/// Sets every value of a mapping, by its key and those above it.
fn set(
    entries: &Entries,
    above: &str,
    (origin, left): (&str, &mut usize),
    values: &mut Values,
) -> Result<(), YamlError> {
    for (name, node) in entries {
        *left = left.checked_sub(1).ok_or(YamlError::TooMany)?;
        let key = match above {
            "" => name.clone(),
            above => format!("{above}.{name}"),
        };
        let value = match &**node {
            Node::Mapping(below) => {
                set(below, &key, (origin, left), values)?;
                continue;
            }
            Node::Scalar(value, line) => (value.clone(), *line),
            Node::Sequence(_, line) => (Value::Other, *line),
        };
        let (value, line) = value;
        let origin = format!("{origin}:{line}");
        values.set(key, Found { value, origin });
    }
    Ok(())
}

/// In their order; each key once.
type Entries = Vec<(String, Rc<Node>)>;

/// What an alias stands for is there once, in its line.
enum Node {
    Scalar(Value, usize),
    Sequence(Vec<Rc<Node>>, usize),
    Mapping(Entries),
}

struct YamlReader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Rc<Node>>,
    /// Entries that may still come.
    left: usize,
    /// Of the last event.
    line: usize,
}

impl<'a> YamlReader<'a> {
    fn next(&mut self) -> Result<Event<'a>, YamlError> {
        match self.parser.next_event() {
            Some(event) => {
                let (event, span) = event?;
                self.line = span.start.line();
                Ok(event)
            }
            None => Ok(Event::StreamEnd),
        }
    }

    /// Reads to the end of what the event begins.
    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Rc<Node>, YamlError> {
        if depth > DEPTH_LIMIT {
            return Err(YamlError::TooDeep);
        }
        let line = self.line;
        let (anchor, node) = match event {
            Event::MappingStart(anchor, _) => (anchor, Node::Mapping(self.mapping(depth)?)),
            Event::SequenceStart(anchor, _) => {
                (anchor, Node::Sequence(self.sequence(depth)?, line))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let value = if plain {
                    of_plain(&text)
                } else {
                    Value::Text(text.into_owned())
                };
                (anchor, Node::Scalar(value, line))
            }
            // One within what it stands for has no value of a setting.
            Event::Alias(anchor) => {
                let known = self.anchors.get(&anchor).cloned();
                return Ok(known.unwrap_or_else(|| Rc::new(Node::Scalar(Value::Other, line))));
            }
            _ => (0, Node::Scalar(Value::Null, line)),
        };
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Vec<Rc<Node>>, YamlError> {
        let mut nodes = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd | Event::StreamEnd => return Ok(nodes),
                event => nodes.push(self.node(event, depth + 1)?),
            }
        }
    }

    /// What is merged is below what stands in the mapping itself.
    fn mapping(&mut self, depth: usize) -> Result<Entries, YamlError> {
        let (mut merged, mut own) = (Entries::new(), Entries::new());
        loop {
            let event = match self.next()? {
                Event::MappingEnd | Event::StreamEnd => break,
                event => event,
            };
            let is_merge = matches!(
                &event,
                Event::Scalar(text, ScalarStyle::Plain, _, None) if text == MERGE
            );
            let name = match &event {
                Event::Scalar(text, ..) => Some(text.clone().into_owned()),
                _ => None,
            };
            let key = self.node(event, depth + 1)?;
            let value = self.next()?;
            let value = self.node(value, depth + 1)?;
            if is_merge {
                self.merge(&value, &mut merged)?;
                continue;
            }
            let name = match (name, &*key) {
                (Some(name), _) => name,
                (None, Node::Scalar(Value::Text(name) | Value::Number(name), _)) => name.clone(),
                _ => return Err(YamlError::NoMapping),
            };
            self.put(&mut own, name, value)?;
        }
        for (name, value) in own {
            self.put(&mut merged, name, value)?;
        }
        Ok(merged)
    }

    /// Of several the first one that has a key counts.
    fn merge(&mut self, value: &Node, into: &mut Entries) -> Result<(), YamlError> {
        match value {
            Node::Mapping(entries) => {
                for (name, value) in entries {
                    self.put(into, name.clone(), value.clone())?;
                }
                Ok(())
            }
            Node::Sequence(nodes, _) => {
                for node in nodes.iter().rev() {
                    match &**node {
                        Node::Mapping(_) => self.merge(node, into)?,
                        Node::Scalar(..) | Node::Sequence(..) => return Err(YamlError::NoMerge),
                    }
                }
                Ok(())
            }
            Node::Scalar(..) => Err(YamlError::NoMerge),
        }
    }

    /// A key that is there already gets the new value, whatever it had.
    fn put(&mut self, into: &mut Entries, name: String, value: Rc<Node>) -> Result<(), YamlError> {
        self.left = self.left.checked_sub(1).ok_or(YamlError::TooMany)?;
        match into.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => *before = value,
            None => into.push((name, value)),
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
        assert!(values.get("storage.s3.region").unwrap().origin == "g:3");
        assert!(values.get("storage.s3.bucket_name").unwrap().origin == "f:2");
        assert!(values.get("web").unwrap().value == Value::Text("b".to_owned()));
        add("storage:\n  s3:\n", "h", &mut values).unwrap();
        assert!(values.get("storage.s3.bucket_name").is_none());
    }

    /// Each expected value is what PyYAML's `safe_load` gives.
    #[test]
    fn mappings_that_are_named_and_merged_are_as_pyyaml_has_them() {
        let text = |values: &Values, key: &str| match values.get(key).map(|it| &it.value) {
            Some(Value::Text(text) | Value::Number(text)) => text.clone(),
            Some(_) => "?".to_owned(),
            None => "-".to_owned(),
        };
        for (yaml, expected) in [
            // An alias of a mapping has all of it.
            (
                "x: &x {a: 1, b: {c: 2}}\nk: *x\n",
                [("k.a", "1"), ("k.b.c", "2")],
            ),
            // What stands in the mapping counts, wherever the merge is.
            (
                "x: &x {a: 1, b: 2}\nk: {a: 3, <<: *x}\n",
                [("k.a", "3"), ("k.b", "2")],
            ),
            (
                "x: &x {a: 1, b: 2}\nk:\n  <<: *x\n  a: 3\n",
                [("k.a", "3"), ("k.b", "2")],
            ),
            // A mapping within it is replaced whole.
            (
                "x: &x {s: {a: 1, b: 2}}\nk: {<<: *x, s: {a: 3}}\n",
                [("k.s.a", "3"), ("k.s.b", "-")],
            ),
            // Of several the first counts.
            (
                "x: &x {a: 1}\ny: &y {a: 2, b: 2}\nk: {<<: [*x, *y]}\n",
                [("k.a", "1"), ("k.b", "2")],
            ),
            ("k: {<<: {a: 1}, b: 2}\n", [("k.a", "1"), ("k.b", "2")]),
            // What was merged is merged on.
            (
                "x: &x {a: 1}\ny: &y {<<: *x, b: 2}\nk: {<<: *y}\n",
                [("k.a", "1"), ("k.b", "2")],
            ),
            // Of a key that is there twice the last counts.
            ("k: {a: 1, b: 1}\nk: {b: 2}\n", [("k.a", "-"), ("k.b", "2")]),
            ("k: {'<<': 1, a: 2}\n", [("k.<<", "1"), ("k.a", "2")]),
            ("n: &n name\nk: {*n : 1}\n", [("k.name", "1"), ("k.n", "-")]),
            ("l: [&x {a: 1}]\nk: *x\n", [("k.a", "1"), ("l", "?")]),
        ] {
            let values = read(yaml);
            for (key, value) in expected {
                assert_eq!(text(&values, key), value, "{key} of {yaml}");
            }
        }
    }

    #[test]
    fn aliases_of_aliases_end_somewhere() {
        let mut bomb = "a0: &a0 {x: 1, y: 1}\n".to_owned();
        for level in 1..15 {
            let below = level - 1;
            bomb += &format!("a{level}: &a{level} {{x: *a{below}, y: *a{below}}}\n");
        }
        let told = add(&bomb, "f", &mut Values::default()).unwrap_err();
        assert!(matches!(told, YamlError::TooMany), "{told}");
        // Of itself it is no value.
        assert!(read("k: &k {a: *k, b: 1}\n").get("k.b").is_some());
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let told = add(&format!("k: {deep}\n"), "f", &mut Values::default());
        assert!(matches!(told, Err(YamlError::TooDeep)));
    }

    #[test]
    fn what_is_no_mapping_is_refused_and_an_empty_file_is_none() {
        let mut values = Values::default();
        for wrong in [
            "- a\n",
            "text\n",
            "a: [b\n",
            "a: 'b\n",
            "{a: 1}: b\n",
            "k: {<<: a}\n",
            "k: {<<: [a]}\n",
        ] {
            assert!(add(wrong, "f", &mut values).is_err(), "{wrong:?}");
        }
        for empty in ["", "# nothing\n", "---\n"] {
            add(empty, "f", &mut values).unwrap();
        }
    }
}
