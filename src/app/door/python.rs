//! The CUDA libraries that come with a PyTorch: folders inside the packages of whatever Python is at hand.
//!
//! Wheels for CUDA 12 hold a folder for each library (`nvidia/cublas/lib`), those for CUDA 13 one for nearly all
//! (`nvidia/cu13/lib`). Pythons are looked for as a shell would look for them; only where none of them can be told from
//! its path alone, as behind the stand-ins of a version manager, one is started and asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::folders_of;

/// Folders with CUDA libraries, said by the user; looked into before any Python's.
pub(crate) const VARIABLE: &str = "SHRINKLAB_CUDA_LIBRARIES";

/// Folders with libraries, by installation, the likeliest first; each with those that the user named before it.
pub(super) fn installations() -> impl Iterator<Item = Vec<PathBuf>> {
    let said = std::env::var_os(VARIABLE).unwrap_or_default();
    let said: Vec<PathBuf> = folders_of(&said).collect();
    let packages = known()
        .into_iter()
        .chain(std::iter::once_with(asked).flatten());
    std::iter::once(Vec::new())
        .chain(packages.map(|packages| libraries_in(&packages)))
        .map(move |folders| [said.clone(), folders].concat())
        .filter(|folders| !folders.is_empty())
}

/// The folders of packages of all Pythons that can be told without starting one.
fn known() -> Vec<PathBuf> {
    let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let pythons = folders_of(&path)
        .map(|folder| folder.join("python3"))
        .filter(|file| file.is_file());
    let installed = pythons.flat_map(|file| {
        let real = file.canonicalize().unwrap_or_else(|_| file.clone());
        [file, real].into_iter().filter_map(|file| {
            // prefix/bin/python3
            Some(file.parent()?.parent()?.to_owned())
        })
    });
    let of_user = std::env::home_dir().map(|home| home.join(".local"));
    let mut found = Vec::new();
    for prefix in environments.chain(installed).chain(of_user) {
        for packages in packages_of(&prefix) {
            if !found.contains(&packages) {
                found.push(packages);
            }
        }
    }
    found
}

/// `prefix/lib/python3.11/site-packages`; Debian calls its own `dist-packages`.
fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64"] {
        for folder in folders_in(&prefix.join(lib)) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("python3") {
                for packages in ["site-packages", "dist-packages"] {
                    found.push(folder.join(packages));
                }
            }
        }
    }
    found.retain(|packages| packages.join("nvidia").is_dir());
    found
}

/// The folders of packages of the first Python in the path, from its own mouth.
fn asked() -> Vec<PathBuf> {
    let script =
        "import site; print(*site.getsitepackages(), site.getusersitepackages(), sep='\\n')";
    let output = Command::new("python3")
        .args(["-c", script])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(PathBuf::from)
        .collect()
}

/// The folders in a folder of packages that hold NVIDIA's libraries.
fn libraries_in(packages: &Path) -> Vec<PathBuf> {
    folders_in(&packages.join("nvidia"))
        .into_iter()
        .map(|folder| folder.join("lib"))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The folders in a folder, by name.
fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_both_kinds_of_wheels_are_found() {
        let prefix = tempfile::tempdir().unwrap();
        let packages = prefix.path().join("lib/python3.12/site-packages");
        for folder in ["cublas/lib", "cu13/lib", "cu13/include"] {
            std::fs::create_dir_all(packages.join("nvidia").join(folder)).unwrap();
        }
        std::fs::create_dir_all(prefix.path().join("lib/python3.9/site-packages")).unwrap();
        assert_eq!(packages_of(prefix.path()), std::slice::from_ref(&packages));
        assert_eq!(
            libraries_in(&packages),
            [
                packages.join("nvidia/cu13/lib"),
                packages.join("nvidia/cublas/lib")
            ]
        );
    }
}
