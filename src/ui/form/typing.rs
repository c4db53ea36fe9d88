//! Typing a number into the field under the cursor; the study follows each key.

use super::{Form, Kind, Place};
use crate::catalog::Catalog;

impl Form {
    /// Ends the typing; what was typed stays.
    pub fn settle(&mut self) {
        self.typed = None;
        self.before = None;
    }

    /// Ends the typing and takes it back; `false` if nothing was being typed.
    pub fn abandon(&mut self, catalog: &Catalog) -> bool {
        let Some(before) = self.before.take() else {
            return false;
        };
        self.study = *before;
        self.typed = None;
        if let Some(place) = self.place(catalog) {
            self.bad.remove(&place);
        }
        true
    }

    /// Takes a character into the number under the cursor; `false` if it is none of a number's.
    pub fn type_char(&mut self, c: char, catalog: &Catalog) -> bool {
        let begins = c.is_ascii_digit() || c == '.';
        let continues = self.typed.is_some() && matches!(c, '-' | 'e' | ',');
        if !(begins || continues) {
            return false;
        }
        let Some(row) = self.rows(catalog).into_iter().nth(self.cursor) else {
            return false;
        };
        // A compression's knob takes several values, a branch of each, and the seed, a repetition of each; nothing else.
        let is_swept = matches!(row.place, Place::Knob(..) | Place::Seed);
        if !matches!(row.kind, Kind::Number { .. }) || (c == ',' && !is_swept) {
            return false;
        }
        if self.before.is_none() {
            self.before = Some(Box::new(self.study.clone()));
        }
        let mut typed = self.typed.take().unwrap_or_default();
        // Longer than any number that a knob takes, and than a dozen of them.
        if typed.len() < if is_swept { 80 } else { 24 } {
            typed.push(c);
        }
        self.take(&row.place, &typed);
        self.typed = Some(typed);
        true
    }

    /// Takes the last character of the number under the cursor away.
    pub fn erase(&mut self, catalog: &Catalog) -> bool {
        let Some(row) = self.rows(catalog).into_iter().nth(self.cursor) else {
            return false;
        };
        if !matches!(row.kind, Kind::Number { .. }) {
            return false;
        }
        if self.before.is_none() {
            self.before = Some(Box::new(self.study.clone()));
        }
        let mut typed = self.typed.take().unwrap_or(row.value);
        typed.pop();
        self.take(&row.place, &typed);
        self.typed = Some(typed);
        true
    }
}
