//! Lists of users, as listeners and their files have them.

use std::{path::PathBuf, sync::Arc};

use sluice_config::{Problem, Snapshot, model::Basic};

use super::trust::read;
use crate::authn::users::{List, Lists, Users};

/// A list that cannot be had: the key below `basic`, with its dot, and what is wrong.
struct Refused {
    key: String,
    what: String,
}

/// Every file that users of `snapshot` are read from.
pub(super) fn named(snapshot: &Snapshot) -> impl Iterator<Item = PathBuf> {
    let listeners = snapshot.listeners.values();
    listeners.filter_map(|listener| listener.basic.as_ref()?.file.clone())
}

/// Reads the lists of `snapshot`. A file that is broken now is no problem where the list of `known` was made
/// of the same words: that stays.
pub(super) fn lists(snapshot: &Snapshot, known: &Lists, problems: &mut Vec<Problem>) -> Lists {
    let mut lists = Lists::new();
    for (name, listener) in &snapshot.listeners {
        let Some(model) = &listener.basic else {
            continue;
        };
        let list = match (users(model), known.get(name)) {
            (Ok(users), _) => List {
                model: Arc::clone(model),
                users: Arc::new(users),
                refused: None,
            },
            (Err(Refused { what, .. }), Some(known)) if known.model == *model => List {
                refused: Some(what.into()),
                ..known.clone()
            },
            (Err(Refused { key, what }), _) => {
                problems.push(Problem {
                    code: "users",
                    at: format!("listeners.{name}.basic{key}"),
                    what,
                    hint: None,
                    witness: None,
                    place: None,
                });
                continue;
            }
        };
        lists.insert(name.clone(), list);
    }
    lists
}

fn users(model: &Basic) -> Result<Users, Refused> {
    let mut users = Users::default();
    for (name, hash) in &model.users {
        users.add(name, hash.expose()).map_err(|error| Refused {
            key: format!(".users.{name}"),
            what: error.to_string(),
        })?;
    }
    let Some(path) = &model.file else {
        return Ok(users);
    };
    let refused = |error: &dyn std::error::Error| Refused {
        key: ".file".to_owned(),
        what: format!("{} cannot be used: {error}", path.display()),
    };
    let text = read(path).map_err(|error| refused(&error))?;
    let text = String::from_utf8(text).map_err(|error| refused(&error))?;
    let more = Users::of_file(&text).map_err(|error| refused(&error))?;
    if more.is_empty() {
        return Err(Refused {
            key: ".file".to_owned(),
            what: format!("{} has no user", path.display()),
        });
    }
    users.complete(more);
    Ok(users)
}
