//! What a program needs to start, as the system's own loader finds it.
//!
//! glibc's loader lists the libraries of a program instead of starting it when `LD_TRACE_LOADED_OBJECTS` is set (`man
//! ld.so`; it is what `ldd` does). So the answer is the one that the start itself will get: with its search path, with
//! what the libraries need among themselves, and, by `LD_WARN` and `LD_BIND_NOW`, with the names that it needs of them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::folders_of;

/// Where the loader looks before it looks where the system says.
pub(crate) const VARIABLE: &str = "LD_LIBRARY_PATH";

/// The driver's own library, which comes with no toolkit and no PyTorch.
const DRIVER: &str = "libcuda.so.1";

/// A library by the name that the program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub name: String,
    /// Where the loader finds it.
    pub file: Option<PathBuf>,
}

/// What a program needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Libraries {
    pub needed: Vec<Library>,
    /// Names and versions that the program asks for and its libraries do not have.
    pub lacking: Vec<String>,
    /// The folders in which the loader looked beside where it looks anyway.
    pub folders: Vec<PathBuf>,
}

impl Libraries {
    /// Names of the libraries that are not found.
    pub(crate) fn missing(&self) -> Vec<&str> {
        self.needed
            .iter()
            .filter(|library| library.file.is_none())
            .map(|library| library.name.as_str())
            .collect()
    }

    /// Libraries of NVIDIA, and whatever is not found.
    pub(crate) fn remarkable(&self) -> impl Iterator<Item = &Library> {
        self.needed.iter().filter(|library| {
            let name = &library.name;
            library.file.is_none() || name.starts_with("libcu") || name.starts_with("libnv")
        })
    }

    /// Why the program would not start.
    pub(crate) fn problem(&self) -> Option<String> {
        let missing = self.missing();
        if missing == [DRIVER] {
            return Some(format!(
                "{DRIVER}, which comes with NVIDIA's driver, is not found"
            ));
        }
        if let Some((last, others)) = missing.split_last() {
            let (names, are) = if others.is_empty() {
                ((*last).to_owned(), "is")
            } else {
                (format!("{} and {last}", others.join(", ")), "are")
            };
            return Some(format!(
                "{names} {are} found neither by the system nor in a PyTorch; {} may name their folders",
                super::python::VARIABLE
            ));
        }
        self.lacking.first().map(|lacking| {
            format!("its CUDA libraries are of another version than it was built for: {lacking}")
        })
    }

    /// What [`VARIABLE`] has to be, where it has to be something else than it is.
    pub(crate) fn search_path(&self) -> Option<OsString> {
        search_path(&self.folders)
    }
}

/// The folders behind those that the variable names already.
fn search_path(folders: &[PathBuf]) -> Option<OsString> {
    if folders.is_empty() {
        return None;
    }
    let before = std::env::var_os(VARIABLE).unwrap_or_default();
    let all = folders_of(&before).chain(folders.iter().cloned());
    // A folder whose name has the separator in it could not be named anyway.
    std::env::join_paths(all).ok()
}

/// Asks the loader, which shall look into these folders too. Where there is no such loader, nothing is known to be
/// missing.
pub(crate) fn traced(program: &Path, folders: &[PathBuf]) -> Libraries {
    let mut command = Command::new(program);
    command
        // What is no program for this loader says its version and ends.
        .arg("--version")
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .env("LD_WARN", "yes")
        .env("LD_BIND_NOW", "yes")
        .stdin(Stdio::null());
    if let Some(path) = search_path(folders) {
        command.env(VARIABLE, path);
    }
    let mut found = command.output().map_or_else(
        |_| Libraries::default(),
        |output| {
            let own = program.display().to_string();
            let said = [output.stdout, output.stderr].concat();
            read(&String::from_utf8_lossy(&said), &own)
        },
    );
    found.folders = folders.to_vec();
    found
}

/// Reads what the loader says.
fn read(said: &str, own: &str) -> Libraries {
    let mut found = Libraries::default();
    for line in said.lines().map(str::trim) {
        if let Some((name, place)) = line.split_once(" => ") {
            let file = match place.rsplit_once(" (0x") {
                Some((file, _)) => Some(PathBuf::from(file)),
                None if place.starts_with("not found") => None,
                None => continue,
            };
            let name = name.to_owned();
            if found.needed.iter().all(|known| known.name != name) {
                found.needed.push(Library { name, file });
            }
        } else if let Some(lacking) = line.strip_prefix("undefined symbol: ") {
            // Libraries may ask one another for what is never used; what the program asks for has to be there.
            if let Some((name, _)) = lacking
                .split_once(char::is_whitespace)
                .filter(|(_, by)| by.contains(own))
            {
                found.lacking.push(name.to_owned());
            }
        } else if line.contains(": version `") && line.contains("not found (required by") {
            found.lacking.push(line.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `ldd` of glibc 2.36 has it.
    const SAID: &str = "\tlinux-vdso.so.1 (0x00007ffd8a5f2000)\n\
        \tlibcuda.so.1 => not found\n\
        \tlibcublas.so.13 => /usr/lib/lib cublas.so.13 (0x00007f3c1e000000)\n\
        \tlibcublasLt.so.13 => not found\n\
        \tlibcublasLt.so.13 => not found\n\
        \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f3c1d000000)\n\
        \t/lib64/ld-linux-x86-64.so.2 (0x00007f3c1f000000)\n\
        undefined symbol: cublasNew\t(/bin/shrinklab-cuda)\n\
        undefined symbol: never_called\t(/usr/lib/libcublas.so.13)\n";

    #[test]
    fn what_the_loader_says_is_read() {
        let found = read(SAID, "/bin/shrinklab-cuda");
        assert_eq!(found.missing(), ["libcuda.so.1", "libcublasLt.so.13"]);
        assert_eq!(
            found.needed[1].file.as_deref(),
            Some(Path::new("/usr/lib/lib cublas.so.13"))
        );
        assert_eq!(found.lacking, ["cublasNew"]);
        let remarkable: Vec<_> = found.remarkable().map(|library| &library.name).collect();
        assert_eq!(
            remarkable,
            ["libcuda.so.1", "libcublas.so.13", "libcublasLt.so.13"]
        );
        let problem = found.problem().unwrap();
        assert!(
            problem.contains("libcuda.so.1 and libcublasLt.so.13 are"),
            "{problem}"
        );
    }

    #[test]
    fn other_versions_are_said_only_when_all_is_there() {
        let only = |said: &str| read(said, "./p").problem();
        assert!(
            only("libcuda.so.1 => not found")
                .unwrap()
                .contains("driver")
        );
        let all = "libcuda.so.1 => /l/libcuda.so.1 (0x1)\nundefined symbol: cuNew\t(./p)\n";
        assert!(only(all).unwrap().contains("cuNew"));
        let old =
            "./p: /l/libcublas.so.13: version `libcublas.so.13.9' not found (required by ./p)";
        assert!(only(old).unwrap().contains("13.9"));
        assert_eq!(only("libcuda.so.1 => /l/libcuda.so.1 (0x1)"), None);
        // What is no program for this loader.
        assert_eq!(only("shrinklab 0.1.0"), None);
    }
}
