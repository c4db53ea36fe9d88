//! Words on a terminal: without control characters, measured in cells, cut and wrapped.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text without anything that could steer a terminal: control characters and the marks that turn the direction
/// of writing become `�`, characters without a width vanish.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\t' => Some(' '),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                Some('\u{fffd}')
            }
            c if c.is_control() => Some('\u{fffd}'),
            c if c.width() == Some(0) => None,
            c => Some(c),
        })
        .collect()
}

/// How many cells the text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// The text in at most `most` cells, with `…` where it was cut.
pub fn fit(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let next = c.width().unwrap_or(0);
        if used + next + 1 > most {
            break;
        }
        used += next;
        cut.push(c);
    }
    if most > 0 {
        cut.push('…');
    }
    cut
}

/// The text in exactly `cells` cells, against the left.
pub fn left(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let gap = cells.saturating_sub(width(&text));
    text + &" ".repeat(gap)
}

/// The text in exactly `cells` cells, against the right.
pub fn right(text: &str, cells: usize) -> String {
    let text = fit(text, cells);
    let gap = cells.saturating_sub(width(&text));
    " ".repeat(gap) + &text
}

/// The text in lines of at most `most` cells, broken between words; a longer word is broken where it must.
pub fn wrap(text: &str, most: usize) -> Vec<String> {
    let most = most.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let mut word = word.to_owned();
            if !line.is_empty() && width(&line) + 1 + width(&word) > most {
                lines.push(std::mem::take(&mut line));
            }
            while width(&word) > most {
                let mut head = String::new();
                while let Some(c) = word.chars().next() {
                    if width(&head) + c.width().unwrap_or(0) > most && !head.is_empty() {
                        break;
                    }
                    head.push(c);
                    word.remove(0);
                }
                lines.push(head);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_survives() {
        assert_eq!(clean("a\u{1b}[2Jb\u{9b}c\u{202e}d"), "a�[2Jb�c�d");
        assert_eq!(clean("e\u{301}\u{200b}x"), "ex");
    }

    #[test]
    fn a_wide_character_is_never_cut_in_half() {
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
        assert_eq!(left("日", 3), "日 ");
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn words_wrap_and_long_ones_break() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
    }
}
