//! The sessions that can be opened: those saved here, and those built into the program.

use std::path::{Path, PathBuf};

use crate::session::store::{self, Listed};
use crate::session::{Presence, Session};
use crate::ui::scene::{self, SessionRow};

/// Sessions recorded by this program on real data, by the name of their file.
const BUILT_IN: [(&str, &[u8]); 2] = [
    (
        "fashion-mnist-lenet5.jsonl",
        include_bytes!("../../sessions/fashion-mnist-lenet5.jsonl"),
    ),
    (
        "glyphs-lenet5.jsonl",
        include_bytes!("../../sessions/glyphs-lenet5.jsonl"),
    ),
];

/// The sessions that come with the program.
///
/// # Panics
/// When one of them is no session; a test reads them all.
pub(crate) fn built_in() -> Vec<Session> {
    BUILT_IN
        .iter()
        .map(|(name, bytes)| {
            Session::from_bytes(Path::new(name), bytes)
                .expect("the sessions built in are read by a test")
        })
        .collect()
}

/// A session that can be opened.
pub(crate) enum Book {
    Saved(PathBuf),
    /// Its place in [`built_in`].
    BuiltIn(usize),
}

/// Everything that can be opened, each with its row in the list.
#[derive(Default)]
pub(crate) struct Library {
    pub books: Vec<Book>,
    pub rows: Vec<SessionRow>,
    /// How many of them were saved here.
    pub saved: usize,
}

impl Library {
    /// Looks what there is.
    pub(crate) fn look() -> Self {
        let mut library = Self::default();
        let listed = store::default_folder()
            .and_then(|folder| store::list(&folder).ok())
            .unwrap_or_default();
        for listed in listed {
            library.rows.push(row(&listed));
            library.books.push(Book::Saved(listed.path));
        }
        library.saved = library.books.len();
        for (place, session) in built_in().iter().enumerate() {
            library.rows.push(SessionRow {
                name: format!("{} (built in)", session.name()),
                study: session.header.study.describe(&session.header.catalog),
                started: String::new(),
                milliseconds: session.records.last().map_or(0, |record| record.at),
                bytes: BUILT_IN[place].1.len() as u64,
                presence: scene::Presence::Ended,
            });
            library.books.push(Book::BuiltIn(place));
        }
        library
    }
}

fn row(listed: &Listed) -> SessionRow {
    SessionRow {
        name: listed.name.clone(),
        study: match &listed.header {
            Ok(header) => header.study.describe(&header.catalog),
            Err(problem) => problem.clone(),
        },
        started: store::date(listed.modified),
        milliseconds: listed.milliseconds,
        bytes: listed.bytes,
        presence: match listed.presence {
            Presence::Writing => scene::Presence::Writing,
            Presence::Interrupted => scene::Presence::Interrupted,
            Presence::Ended => scene::Presence::Ended,
        },
    }
}
