//! The word that somebody meant who typed another one.

/// The candidate that takes the fewest edits to reach from `typed`, where that few make a typing error likely:
/// at most a third of the longer word's letters. Case and the difference of `-` and `_` count for nothing.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let typed = plain(typed);
    candidates
        .into_iter()
        .map(|candidate| (edits(&typed, &plain(candidate)), candidate))
        .filter(|(edits, candidate)| {
            let longer = candidate.chars().count().max(typed.chars().count());
            *edits <= (longer / 3).max(1) || (typed.len() >= 3 && candidate.contains(&typed))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean NEAREST?`, or nothing where no candidate is near. `show` writes the candidate as its source does.
pub fn did_you_mean<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    show: impl Fn(&str) -> String,
) -> String {
    nearest(typed, candidates).map_or_else(String::new, |candidate| {
        format!("; did you mean {}?", show(candidate))
    })
}

/// Edit distance with insertion, deletion, substitution and the swap of two neighbours at 1 each.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        best = best.min(rows[i - 2][j - 2] + 1);
                    }
                    best
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 5] = [
        "order-by",
        "order-direction",
        "read-only",
        "username",
        "uid",
    ];

    #[test]
    fn the_nearest_word_is_found_despite_typing_errors() {
        for (typed, meant) in [
            ("ordr_by", "order-by"),
            ("orderby", "order-by"),
            ("Read_Only", "read-only"),
            ("raed-only", "read-only"),
            ("user", "username"),
            ("udi", "uid"),
        ] {
            assert_eq!(nearest(typed, WORDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn nothing_is_suggested_for_a_word_like_none() {
        assert_eq!(nearest("banana", WORDS), None);
        assert_eq!(did_you_mean("banana", WORDS, str::to_owned), "");
    }
}
