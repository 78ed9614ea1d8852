//! Which requests have a line, and how it is written.
//!
//! What must stay true: in every form, nothing a peer sends can end a line, break out of its field or
//! reach a terminal as a control sequence.

use std::io::Write as _;

use sluice_config::model::{AccessLog, LogField, LogFields, LogFilter, LogFormat, LogPart};

use super::{
    digits, json,
    line::{Line, Value},
};

/// Room for a line, made at once; a longer one makes more.
const ROOM: usize = 1024;

/// The settings of a log, ready for use.
#[derive(Debug)]
pub(super) struct Shape {
    filter: LogFilter,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// A JSON object of these.
    Object(Vec<Member>),
    /// These, one after the other.
    Text(Vec<Piece>),
}

/// A field of a JSON line.
#[derive(Debug)]
struct Member {
    /// What stands before its value: `,"name":`.
    key: String,
    field: LogField,
    redact: bool,
    /// Left out where there is no value.
    optional: bool,
}

/// A piece of any other line.
#[derive(Debug)]
enum Piece {
    Text(String),
    Field(LogField),
    Redacted(LogField),
    /// A field that the operator dropped, but the format has a place for.
    Dash,
    /// `14/Nov/2023:22:13:20 +0000`
    ClassicTime,
}

impl Shape {
    pub(super) fn new(model: &AccessLog) -> Self {
        let fields = &model.fields;
        let form = match &model.format {
            LogFormat::Json => Form::Object(members(fields)),
            LogFormat::Common => Form::Text(classic(fields, false)),
            LogFormat::Combined => Form::Text(classic(fields, true)),
            LogFormat::Parts(parts) => Form::Text(
                parts
                    .iter()
                    .map(|part| match part {
                        LogPart::Text(text) => Piece::Text(text.clone()),
                        LogPart::Field(field) => piece(*field, fields),
                    })
                    .collect(),
            ),
        };
        Self {
            filter: model.filter.clone(),
            form,
        }
    }

    /// Whether the request has a line.
    pub(super) fn admits(&self, line: &Line<'_>) -> bool {
        self.filter.admits(line.status, line.duration)
    }

    /// Appends the line and its end.
    pub(super) fn append(&self, line: &Line<'_>, buffer: &mut Vec<u8>) {
        buffer.reserve(ROOM);
        match &self.form {
            Form::Object(members) => {
                buffer.push(b'{');
                for member in members {
                    let value = line.value(member.field);
                    if member.optional && matches!(value, Value::Nothing) {
                        continue;
                    }
                    buffer.extend_from_slice(member.key.as_bytes());
                    json::append(if member.redact { value.hidden() } else { value }, buffer);
                }
                buffer.push(b'}');
            }
            Form::Text(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => buffer.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => append(line.value(*field), buffer),
                        Piece::Redacted(field) => append(line.value(*field).hidden(), buffer),
                        Piece::Dash => buffer.push(b'-'),
                        Piece::ClassicTime => digits::classic(line.time, buffer),
                    }
                }
            }
        }
        buffer.push(b'\n');
    }
}

fn members(fields: &LogFields) -> Vec<Member> {
    let kept = LogField::ALL.iter();
    let kept = kept.filter(|field| !fields.drop.contains(field));
    kept.enumerate()
        .map(|(index, field)| Member {
            key: format!("{}\"{}\":", if index == 0 { "" } else { "," }, field.name()),
            field: *field,
            redact: fields.redact.contains(field),
            optional: field.is_optional(),
        })
        .collect()
}

fn piece(field: LogField, fields: &LogFields) -> Piece {
    if fields.drop.contains(&field) {
        Piece::Dash
    } else if fields.redact.contains(&field) {
        Piece::Redacted(field)
    } else {
        Piece::Field(field)
    }
}

/// `client - - [time] "method path protocol" status bytes`, and referer and user agent.
fn classic(fields: &LogFields, combined: bool) -> Vec<Piece> {
    let text = |text: &str| Piece::Text(text.to_owned());
    let field = |field| piece(field, fields);
    let mut pieces = vec![
        field(LogField::Client),
        text(" - - ["),
        Piece::ClassicTime,
        text("] \""),
        field(LogField::Method),
        text(" "),
        field(LogField::Path),
        text(" "),
        field(LogField::Protocol),
        text("\" "),
        field(LogField::Status),
        text(" "),
        field(LogField::BytesOut),
    ];
    if combined {
        pieces.extend([
            text(" \""),
            field(LogField::Referer),
            text("\" \""),
            field(LogField::UserAgent),
            text("\""),
        ]);
    }
    pieces
}

/// A value outside of JSON.
fn append(value: Value<'_>, buffer: &mut Vec<u8>) {
    match value {
        Value::Nothing => buffer.push(b'-'),
        Value::Text(text) => escape(text, buffer),
        Value::Number(number) => digits::number(number, buffer),
        Value::Truth(true) => buffer.extend_from_slice(b"true"),
        Value::Truth(false) => buffer.extend_from_slice(b"false"),
        Value::Address(address) => digits::address(address, buffer),
        Value::Socket(socket) => digits::socket(socket, buffer),
        Value::Moment(time) => digits::moment(time, buffer),
        Value::Time(time) => digits::millis(time, buffer),
    }
}

/// Quotes and backslashes with a backslash before them; every byte that is no printable ASCII as
/// `\xHH`, as other proxies write it.
fn escape(text: &str, buffer: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => buffer.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => buffer.push(byte),
            _ => {
                let written = write!(buffer, "\\x{byte:02X}");
                debug_assert!(written.is_ok());
            }
        }
    }
}
