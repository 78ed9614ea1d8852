//! Did you mean …?

/// The hint for `word`, when one of `known` is near enough.
pub(crate) fn nearest<'k>(known: impl IntoIterator<Item = &'k str>, word: &str) -> Option<String> {
    nearest_word(known, word).map(|known| format!("did you mean {known:?}?"))
}

/// The one of `known` that is nearest to `word`: at most a third of it has to change.
pub(crate) fn nearest_word<'k>(
    known: impl IntoIterator<Item = &'k str>,
    word: &str,
) -> Option<&'k str> {
    let most = (word.chars().count() / 3).clamp(1, 4);
    let near = known
        .into_iter()
        .map(|known| (distance(known, word), known));
    let near = near
        .filter(|(distance, known)| *distance <= most && *distance < known.chars().count().max(1));
    near.min().map(|(_, known)| known)
}

/// How many characters to insert, delete, replace, or swap with their neighbour. Case counts for
/// nothing, `-` and `_` are the same.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (a, b) = (fold(a), fold(b));
    if a.len().abs_diff(b.len()) > 4 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut last = None;
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        let mut last_to = None;
        for (j, to) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let replace = cell(&row, j).saturating_add(usize::from(from != to));
            let insert = cell(&next, j).saturating_add(1);
            let delete = cell(&row, j.saturating_add(1)).saturating_add(1);
            let mut best = replace.min(insert).min(delete);
            if last == Some(to) && last_to == Some(from) && j > 0 {
                best = best.min(cell(&before, j.saturating_sub(1)).saturating_add(1));
            }
            next.push(best);
            last_to = Some(to);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(from);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins_and_far_ones_do_not() {
        let known = ["hosts", "listeners", "timeout", "to", "use"];
        for (word, expected) in [
            ("host", Some("hosts")),
            ("hsots", Some("hosts")),
            ("listener", Some("listeners")),
            ("time-out", Some("timeout")),
            ("TIMEOUT", Some("timeout")),
            ("tO", Some("to")),
            ("backend", None),
            ("", None),
        ] {
            assert_eq!(nearest_word(known, word), expected, "{word}");
        }
    }

    #[test]
    fn distances_count_edits() {
        for (a, b, edits) in [
            ("ab", "ba", 1),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("", "ab", 2),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }
}
