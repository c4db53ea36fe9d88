//! Finding a name by a few of its letters.

/// How well a typed query fits a name: `None` if its letters do not occur in order, else smaller is better.
pub(super) fn fuzzy(query: &str, name: &str) -> Option<usize> {
    let name: Vec<char> = name.to_lowercase().chars().collect();
    let mut at = 0;
    let mut cost = 0;
    for letter in query
        .to_lowercase()
        .chars()
        .filter(|letter| !letter.is_whitespace())
    {
        let found = name[at..].iter().position(|other| *other == letter)?;
        let place = at + found;
        let begins_word = place == 0 || !name[place - 1].is_alphanumeric();
        cost += if begins_word { 0 } else { found.min(8) + 1 };
        at = place + 1;
    }
    Some(cost * 64 + name.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::keymap::{Action, BINDINGS};

    #[test]
    fn the_palette_finds_by_letters_in_order() {
        let best = |query: &str| {
            BINDINGS
                .iter()
                .filter_map(|b| Some((fuzzy(query, b.name)?, b.action)))
                .min()
                .map(|(_, action)| action)
        };
        assert_eq!(best("pt"), Some(Action::PauseTraining));
        assert_eq!(best("map"), Some(Action::MapMethod));
        assert_eq!(best("table"), Some(Action::ShowTable));
        assert_eq!(best("zzz"), None);
    }
}
