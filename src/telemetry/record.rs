//! One line of the log, before it has a form.

use std::fmt;
use std::time::SystemTime;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Event, Level};

/// Of the message and all values of one line; what there is beyond is cut off. In every
/// form the line then fits into the queue.
const LIMIT_BYTES: usize = 4 << 10;
const CUT: &str = " ...";
/// Fields by which crates that log without `tracing` say where they do, and those of a
/// span that are for its export.
const FOREIGN: [&str; 2] = ["log.", "otel."];

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub at: SystemTime,
    pub level: Level,
    pub target: String,
    pub message: String,
    pub fields: Fields,
}

/// What is said beside the message, in the order in which it was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Vec<(&'static str, FieldValue)>);

#[derive(Debug, Clone, PartialEq)]
pub enum FieldValue {
    /// A string, which the text quotes.
    Text(String),
    /// What `Display` or `Debug` made of something.
    Shown(String),
    /// A number or a bool.
    Plain(Value),
}

impl Record {
    /// Of somebody who cannot use `tracing`.
    pub fn new(level: Level, message: String) -> Self {
        Self {
            at: SystemTime::now(),
            level,
            target: env!("CARGO_PKG_NAME").to_owned(),
            message,
            fields: Fields::default(),
        }
    }

    pub fn of(event: &Event<'_>) -> Self {
        let mut visitor = Visitor::default();
        event.record(&mut visitor);
        let metadata = event.metadata();
        Self {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: visitor
                .target
                .unwrap_or_else(|| metadata.target().to_owned()),
            message: visitor.message,
            fields: visitor.fields,
        }
    }

    /// What the message and the fields are as text, without time and level.
    pub fn text(&self) -> String {
        let mut text = escaped(&self.message);
        for (name, value) in self
            .fields
            .iter()
            .filter(|(name, _)| !is_for_machines(name))
        {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(name);
            text.push('=');
            text.push_str(&value.text());
        }
        text
    }
}

/// Whether a field says again what the text of an error says, for programs.
pub fn is_for_machines(name: &str) -> bool {
    name.starts_with("s3.")
}

impl Fields {
    /// Those of a span.
    pub fn of(attributes: &Attributes<'_>) -> Self {
        let mut visitor = Visitor::default();
        attributes.record(&mut visitor);
        visitor.fields
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.iter().find(|(known, _)| *known == name).map(|it| it.1)
    }

    pub fn push(&mut self, name: &'static str, value: FieldValue) {
        self.0.push((name, value));
    }

    /// Adds those of the span around it, but what it says itself.
    pub fn inherit(&mut self, outer: &Self) {
        for (name, value) in outer.iter() {
            if self.get(name).is_none() {
                self.push(name, value.clone());
            }
        }
    }
}

impl FieldValue {
    /// As a line of text shows it.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Shown(shown) => escaped(shown),
            Self::Plain(value) => value.to_string(),
        }
    }

    /// As it is.
    pub fn value(&self) -> Value {
        match self {
            Self::Text(text) | Self::Shown(text) => Value::String(text.clone()),
            Self::Plain(value) => value.clone(),
        }
    }
}

/// A key or a server's words may hold what begins a line or moves a cursor.
fn escaped(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => escaped.extend(character.escape_debug()),
            false => escaped.push(character),
        }
    }
    escaped
}

fn is_foreign(name: &str) -> bool {
    FOREIGN.iter().any(|begin| name.starts_with(begin))
}

#[derive(Default)]
struct Visitor {
    message: String,
    fields: Fields,
    target: Option<String>,
    bytes: usize,
}

impl Visitor {
    /// Of the text as much as fits.
    fn fit(&mut self, mut text: String) -> String {
        let left = LIMIT_BYTES.saturating_sub(self.bytes);
        if text.len() > left {
            text.truncate(text.floor_char_boundary(left));
            text.push_str(CUT);
        }
        self.bytes += text.len();
        text
    }

    fn add(&mut self, field: &Field, text: String, value: fn(String) -> FieldValue) {
        match field.name() {
            "message" => self.message = self.fit(text),
            "log.target" => self.target = Some(text),
            name if is_foreign(name) => {}
            name => {
                let value = value(self.fit(text));
                self.fields.push(name, value);
            }
        }
    }

    fn add_plain(&mut self, field: &Field, value: Value) {
        if !is_foreign(field.name()) {
            self.fields.push(field.name(), FieldValue::Plain(value));
        }
    }
}

impl Visit for Visitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"), FieldValue::Shown);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), FieldValue::Text);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add_plain(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add_plain(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add_plain(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add_plain(field, value.into());
    }
}
