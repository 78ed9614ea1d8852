//! `[access_log]`

use super::{Draft, nearest, single};
use crate::scalar::Scalars;
use crate::{
    findings::{Finding, Findings},
    model::{AccessLog, AccessLogOutput},
    raw::{self, TextOr},
    tree::{At, Node},
};

pub(super) fn check(root: &Node, findings: &mut Findings<'_>) -> Draft<AccessLog> {
    let at = At::Root.key("access_log");
    let raw: raw::AccessLog = single(root, "access_log", findings);
    let output = output(raw.output, &at.key("output"), findings);
    let queue =
        Scalars { at, findings }.number("queue", raw.queue, 1..=1_000_000, AccessLog::QUEUE);
    Draft {
        object: Some(AccessLog { output, queue }),
        clean: findings.is_clean(&at),
    }
}

fn output(
    raw: Option<TextOr<raw::AccessLogFile>>,
    at: &At<'_>,
    findings: &mut Findings<'_>,
) -> AccessLogOutput {
    match raw {
        None => return AccessLogOutput::Stdout,
        Some(TextOr::Text(word)) => match word.as_str() {
            "stdout" => return AccessLogOutput::Stdout,
            "off" => return AccessLogOutput::Off,
            word => {
                let hint = nearest(["stdout", "off"], word)
                    .unwrap_or_else(|| format!("for a file write {{ file = {word:?} }}"));
                let what = format!("there is no output {word:?}, only \"stdout\" and \"off\"");
                findings.value(at, Finding::new("unknown_value", what).hint(hint));
            }
        },
        Some(TextOr::Table(raw::AccessLogFile { file: Some(file) })) => {
            if !file.is_empty() {
                return AccessLogOutput::File(file.into());
            }
            findings.value(
                &at.key("file"),
                Finding::new("bad_path", "the path is empty"),
            );
        }
        Some(TextOr::Table(raw::AccessLogFile { file: None })) => {
            findings.missing(
                at,
                "file",
                Finding::new("missing_key", "the output lacks its file"),
            );
        }
    }
    AccessLogOutput::Stdout
}
