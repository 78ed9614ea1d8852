//! Stands for `sluice_config::render` until it lands.

use sluice_config::{Problem, Sources};

/// How to print.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    /// Without colours.
    Plain,
    /// For a terminal.
    Color,
    /// For programs.
    Json,
}

/// Prints problems.
pub fn render(problems: &[Problem], _: &Sources, _: Style) -> String {
    let line = |problem: &Problem| {
        let place = problem.place.as_ref();
        let place = place.map_or_else(String::new, |p| {
            format!("{}:{}:{}: ", p.path, p.line, p.column)
        });
        format!("{place}{}: {}\n", problem.at, problem.what)
    };
    problems.iter().map(line).collect()
}
