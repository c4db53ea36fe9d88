//! Every session that was ever put into `sessions/` still opens and folds to what it said then.

use std::fs;
use std::path::Path;

use shrinklab::event::Outcome;
use shrinklab::session::Session;
use shrinklab::state::{State, Timeline};

#[test]
fn recorded_sessions_say_what_they_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for entry in fs::read_dir(root.join("sessions")).unwrap() {
        let path = entry.unwrap().path();
        let session = Session::open(&path).unwrap();
        assert!(session.oddities.is_empty(), "{:?}", session.oddities);
        assert_eq!(session.torn, None);
        let state = State::fold(&session.records);
        assert!(state.oddities.is_empty(), "{:?}", state.oddities);
        assert_eq!(state.outcome, Some(Outcome::Completed));
        let name = path.file_stem().unwrap().to_str().unwrap();
        let golden = root.join(format!("tests/snapshots/sessions/{name}.txt"));
        if std::env::var_os("SHRINKLAB_BLESS").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(&golden, state.summary()).unwrap();
        }
        let said = fs::read_to_string(&golden).unwrap();
        assert_eq!(
            state.summary(),
            said,
            "{name} folds to something else; SHRINKLAB_BLESS=1 rewrites what it says"
        );
        seen += 1;
    }
    assert!(seen >= 2, "two sessions come with the program");
}

#[test]
fn a_seek_is_a_fold_of_what_lies_before() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(root.join("sessions")).unwrap() {
        let session = Session::open(&entry.unwrap().path()).unwrap();
        let mut timeline = Timeline::replaying(session.records.clone());
        let last = session.records.len();
        for position in [0, 1, last / 3, last, last / 2] {
            timeline.seek(position);
            assert_eq!(
                *timeline.state(),
                State::fold(&session.records[..position]),
                "at {position} of {last}"
            );
        }
    }
}
