//! Problems for people and for programs.
//!
//! People get the line with the text underlined, as compilers print it; programs get one JSON array.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

use crate::{Place, Problem, Report, Sources};

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text for people.
    Plain,
    /// The same with colours, for a terminal.
    Color,
    /// One JSON array, with `severity`, `file`, `line`, `column`, `code`, `at`, `what`, `hint` each.
    Json,
}

/// Whether a problem refuses the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Error,
    Warning,
}

/// The longest piece of a file that is shown for one problem, in bytes.
const MAX_SHOWN: usize = 400;

/// Shows problems.
pub fn render(problems: &[Problem], sources: &Sources, style: Style) -> String {
    show(
        problems.iter().map(|problem| (Severity::Error, problem)),
        sources,
        style,
    )
}

/// Shows warnings.
pub fn render_warnings(warnings: &[Problem], sources: &Sources, style: Style) -> String {
    show(
        warnings.iter().map(|warning| (Severity::Warning, warning)),
        sources,
        style,
    )
}

impl Report {
    /// Shows problems, then warnings; as JSON both in one array.
    pub fn render(&self, sources: &Sources, style: Style) -> String {
        let problems = self
            .problems
            .iter()
            .map(|problem| (Severity::Error, problem));
        let warnings = self
            .warnings
            .iter()
            .map(|warning| (Severity::Warning, warning));
        show(problems.chain(warnings), sources, style)
    }
}

fn show<'p>(
    problems: impl Iterator<Item = (Severity, &'p Problem)>,
    sources: &Sources,
    style: Style,
) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Color => Renderer::styled(),
        Style::Json => return json(problems),
    };
    problems.fold(String::new(), |mut text, (severity, problem)| {
        text.push_str(&renderer.render(&[report(severity, problem, sources)]));
        text.push_str("\n\n");
        text
    })
}

fn report<'t>(severity: Severity, problem: &'t Problem, sources: &'t Sources) -> Group<'t> {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(problem.what.as_str()).id(problem.code);
    let snippet = problem
        .place
        .as_ref()
        .and_then(|place| snippet(place, sources));
    let group = match snippet {
        Some(snippet) => title.element(snippet),
        None if problem.at.is_empty() => Group::with_title(title),
        None => title.element(Level::NOTE.message(format!("at {}", problem.at))),
    };
    let group = match &problem.hint {
        Some(hint) => group.element(Level::HELP.message(hint.as_str())),
        None => group,
    };
    match &problem.witness {
        Some(witness) => group.element(Level::NOTE.message(format!("seen with {witness}"))),
        None => group,
    }
}

/// The lines around a place. Only these are handed on, so that large files cost nothing.
fn snippet<'t>(
    place: &'t Place,
    sources: &'t Sources,
) -> Option<Snippet<'t, annotate_snippets::Annotation<'t>>> {
    let text = sources.files.get(place.file)?.text.as_str();
    let start = text
        .get(..place.bytes.start)?
        .rfind('\n')
        .map_or(0, |newline| newline.saturating_add(1));
    let floor = text.floor_char_boundary(place.bytes.start.saturating_sub(MAX_SHOWN));
    let ceiling = text
        .ceil_char_boundary(place.bytes.start.saturating_add(MAX_SHOWN))
        .min(text.len());
    let from = start.max(floor);
    let end = place.bytes.end.min(ceiling);
    let to = text
        .get(end..)?
        .find('\n')
        .map_or(text.len(), |newline| end.saturating_add(newline));
    let shown = text
        .get(from..to.min(ceiling.max(end)))?
        .trim_end_matches('\r');
    let span = place.bytes.start.saturating_sub(from)..end.saturating_sub(from).min(shown.len());
    let annotation = AnnotationKind::Primary.span(span);
    let snippet = Snippet::source(shown)
        .line_start(place.line)
        .path(place.path.as_str());
    Some(snippet.annotation(annotation))
}

fn json<'p>(problems: impl Iterator<Item = (Severity, &'p Problem)>) -> String {
    #[derive(Serialize)]
    struct Entry<'p> {
        severity: Severity,
        file: Option<&'p str>,
        line: Option<usize>,
        column: Option<usize>,
        code: &'static str,
        at: &'p str,
        what: &'p str,
        hint: Option<&'p str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        witness: Option<&'p str>,
    }

    let entries: Vec<Entry<'_>> = problems
        .map(|(severity, problem)| {
            let place = problem.place.as_ref();
            Entry {
                severity,
                file: place.map(|place| place.path.as_str()),
                line: place.map(|place| place.line),
                column: place.map(|place| place.column),
                code: problem.code,
                at: &problem.at,
                what: &problem.what,
                hint: problem.hint.as_deref(),
                witness: problem.witness.as_deref(),
            }
        })
        .collect();
    // Texts and numbers always serialize.
    serde_json::to_string_pretty(&entries).unwrap_or_default()
}
