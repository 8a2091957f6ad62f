//! How a line of the log is written: for people, for programs, for systemd's journal.

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::Level;

use super::journal;
use super::record::Record;

/// How the log is written, as it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald where standard error is systemd's journal, else text
    #[default]
    Auto,
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
    /// To systemd's journal, with fields
    Journald,
}

/// How the log of this process is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Text,
    /// Text for a terminal.
    Colour,
    Json,
    /// A datagram of systemd's journal.
    Journal,
}

impl Form {
    /// The same for another process of the mount.
    pub fn asked_for(self) -> LogFormat {
        match self {
            Self::Text | Self::Colour => LogFormat::Text,
            Self::Json => LogFormat::Json,
            Self::Journal => LogFormat::Journald,
        }
    }

    pub fn write(self, record: &Record) -> Vec<u8> {
        match self {
            Self::Text => text(record, Style::new(), Style::new()),
            Self::Colour => text(record, Style::new().dimmed(), colour(record.level)),
            Self::Json => json(record),
            Self::Journal => journal::entry(record),
        }
    }
}

fn time(record: &Record) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_micros(record.at)
}

fn text(record: &Record, dim: Style, colour: Style) -> Vec<u8> {
    let (at, level, text) = (time(record), record.level.as_str(), record.text());
    format!("{dim}{at}{dim:#} {colour}{level:>5}{colour:#} {text}\n").into_bytes()
}

fn colour(level: Level) -> Style {
    let colour = match level {
        Level::ERROR => AnsiColor::Red,
        Level::WARN => AnsiColor::Yellow,
        Level::INFO => AnsiColor::Green,
        _ => AnsiColor::Blue,
    };
    colour.on_default()
}

fn json(record: &Record) -> Vec<u8> {
    let mut object = Map::new();
    for (name, value) in record.fields.iter() {
        object.insert(name.to_owned(), value.value());
    }
    // A field of one of these names would be a second one.
    let own = [
        ("time", time(record).to_string()),
        ("level", record.level.as_str().to_ascii_lowercase()),
        ("target", record.target.clone()),
        ("message", record.message.clone()),
    ];
    for (name, value) in own {
        object.insert(name.to_owned(), Value::String(value));
    }
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::super::record::FieldValue;
    use super::*;

    fn record() -> Record {
        let message = "failed\n2026-01-01T00:00:00Z  INFO forged".to_owned();
        let mut record = Record::new(Level::ERROR, message);
        let fields = [
            ("operation", FieldValue::Text("read".to_owned())),
            ("ino", FieldValue::Plain(7.into())),
            ("error", FieldValue::Shown("of \u{1b}[2J".to_owned())),
            ("s3.code", FieldValue::Text("AccessDenied".to_owned())),
        ];
        for (name, value) in fields {
            record.fields.push(name, value);
        }
        record
    }

    #[test]
    fn text_is_one_line_without_control_characters_and_without_what_the_error_says_already() {
        let line = String::from_utf8(Form::Text.write(&record())).unwrap();
        let (_, after_time) = line.split_once(' ').unwrap();
        assert_eq!(
            after_time,
            "ERROR failed\\n2026-01-01T00:00:00Z  INFO forged operation=\"read\" ino=7 error=of \\u{1b}[2J\n"
        );
        let coloured = String::from_utf8(Form::Colour.write(&record())).unwrap();
        assert!(
            coloured.contains("\u{1b}[31mERROR\u{1b}[0m failed"),
            "{coloured:?}"
        );
    }

    #[test]
    fn json_has_every_field_with_its_type_and_no_field_takes_the_place_of_the_level() {
        let mut record = record();
        record
            .fields
            .push("level", FieldValue::Text("x".to_owned()));
        let line = Form::Json.write(&record);
        let (end, whole) = line.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(!whole.contains(&b'\n'));
        let object: Value = serde_json::from_slice(whole).unwrap();
        assert_eq!(object["level"], "error");
        assert_eq!(object["ino"], 7);
        assert_eq!(object["s3.code"], "AccessDenied");
        assert_eq!(object["error"], "of \u{1b}[2J");
        assert!(object["message"].as_str().unwrap().starts_with("failed\n"));
    }
}
