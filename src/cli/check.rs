//! `shrinklab check`: says all that is wrong with a study or a session.

use std::path::Path;

use anyhow::Result;

use super::{Ending, ask, print};
use crate::app::studio::identify;
use crate::lab;
use crate::session::Session;
use crate::state::{counted, plain};

/// Checks a file: a study where its name ends in `.toml`, a session otherwise.
pub(crate) fn check(file: &Path) -> Result<Ending> {
    if file
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let catalog = lab::catalog();
        let mut study = ask::read(file)?;
        identify(&mut study)?;
        let study = ask::checked(study, &catalog)?;
        let networks = study.plan(&catalog);
        let estimate = lab::estimate::estimate(study.study(), &catalog);
        print(&format!(
            "{}: a study of {}{}{estimate}\n",
            file.display(),
            counted(networks.len() as u64, "network"),
            if estimate.is_empty() { "" } else { "; " }
        ))?;
        for network in networks {
            print(&format!("  {} ({})\n", network.name, network.role.name()))?;
        }
        return Ok(Ending::Success);
    }
    let session = Session::open(file)?;
    let state = crate::state::State::fold(&session.records);
    print(&format!(
        "{}: a session of {}\n",
        file.display(),
        counted(session.records.len() as u64, "record")
    ))?;
    let mut sound = true;
    if session.torn.is_some() {
        print("  the last line is torn; everything before it stands\n")?;
    }
    for newer in &session.left_out {
        print(&format!("  {newer}\n"))?;
    }
    for oddity in session
        .oddities
        .iter()
        .map(ToString::to_string)
        .chain(state.oddities.iter().map(ToString::to_string))
    {
        sound = false;
        print(&format!("  {}\n", plain(&oddity)))?;
    }
    Ok(if sound {
        Ending::Success
    } else {
        Ending::Failure
    })
}
