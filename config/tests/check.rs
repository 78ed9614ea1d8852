//! What the check accepts, and what it makes of it.

use sluice_config::{Report, Sources, check, model::Action};

fn checked(text: &str) -> Report {
    check(&Sources::from_text("sluice.toml", text), None)
}

#[test]
fn the_smallest_useful_file_listens_on_8080_and_forwards() {
    let report = checked("[routes.app]\nhosts = [\"App.Example.com.\"]\nto = \"10.0.0.5:8080\"\n");
    assert_eq!(report.problems, []);
    let snapshot = report.snapshot.unwrap();
    let (_, listener) = snapshot.listeners.first_key_value().unwrap();
    assert!(listener.implied);
    assert_eq!(listener.address.to_string(), "[::]:8080");
    let (_, route) = snapshot.routes.first_key_value().unwrap();
    assert_eq!(route.hosts[0].to_string(), "app.example.com");
    assert_eq!(route.listeners[0].as_str(), "default");
    assert!(matches!(&route.rules[0].action, Action::Forward(targets) if targets.len() == 1));
}

#[test]
fn an_empty_file_is_fine() {
    let report = checked("");
    assert_eq!(report.problems, []);
    assert!(report.snapshot.is_some());
}
