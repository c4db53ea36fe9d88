//! What there is for `--device cuda`: the driver, its cards, the program for them and the libraries that it needs.

use anyhow::Result;

use crate::app::door::{self, libraries::Libraries};
use crate::app::gpu::{Card, Driver};
use crate::cli::print;
use crate::nn::device::{self, HAS_CUDA, Precision};

/// Says it, a line each; what is missing, too.
pub(super) fn say() -> Result<()> {
    print(if HAS_CUDA {
        "device     cpu, and cuda in this program\n"
    } else {
        "device     cpu; --device cuda and auto go on in shrinklab-cuda\n"
    })?;
    match Driver::open() {
        Err(problem) => {
            print(&format!("driver     none: {problem}\n"))?;
            print("gpu        none that could be asked\n")?;
        }
        Ok(driver) => {
            let version = driver.version();
            let version =
                version.unwrap_or_else(|problem| format!("of unknown version: {problem}"));
            print(&format!("driver     {version}\n"))?;
            let cards = driver.cards();
            if cards.is_empty() {
                print("gpu        none; the driver shows no card\n")?;
            }
            for card in &cards {
                print(&format!("gpu        {}\n", words(card)))?;
            }
        }
    }
    if HAS_CUDA { kernels() } else { engine() }
}

/// `NVIDIA H100 80GB HBM3, compute capability 9.0, 78.1 of 85.5 GB free`.
fn words(card: &Card) -> String {
    let mut words = card.name.clone();
    if let Some((major, minor)) = card.capability {
        words = format!("{words}, compute capability {major}.{minor}");
    }
    if let Some((free, all)) = card.memory {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        words = format!(
            "{words}, {:.1} of {:.1} GB free",
            gigabytes(free),
            gigabytes(all)
        );
    }
    words
}

/// The CUDA program as this one sees it.
fn engine() -> Result<()> {
    let Some(program) = door::program() else {
        return print(&format!(
            "engine     none: {}; {}\n",
            door::absent(),
            door::made_by()
        ));
    };
    print(&format!("engine     {}\n", program.display()))?;
    let libraries = door::libraries(&program);
    for line in places(&libraries) {
        print(&format!("library    {line}\n"))?;
    }
    print(&match libraries.problem() {
        Some(problem) => format!("kernels    --device cuda does not work: {problem}\n"),
        None => format!(
            "kernels    `{} doctor` says whether they fit the GPU\n",
            door::PROGRAM
        ),
    })
}

/// Where each library comes from.
fn places(libraries: &Libraries) -> Vec<String> {
    let is_lent = |file: &std::path::Path| {
        libraries
            .folders
            .iter()
            .any(|folder| file.starts_with(folder))
    };
    let of = libraries.remarkable();
    of.map(|library| match &library.file {
        Some(file) if is_lent(file) => format!("{} lent by {}", library.name, file.display()),
        Some(file) => format!("{} is {}", library.name, file.display()),
        None => format!("{} is missing", library.name),
    })
    .collect()
}

/// Whether the kernels of this program run on each GPU that it sees.
fn kernels() -> Result<()> {
    let seen = match device::gpus() {
        Ok(seen) => seen,
        Err(problem) => return print(&format!("kernels    none: {problem}\n")),
    };
    if seen.is_empty() {
        print("kernels    none: the driver shows no GPU to this program\n")?;
    }
    for number in 0..seen.len() {
        let device = format!("cuda:{number}");
        print(&match device::open(&device, Precision::default()) {
            Ok(_) => format!("kernels    compile for {device}\n"),
            Err(problem) => format!("kernels    none for {device}: {problem}\n"),
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::door::libraries::Library;

    #[test]
    fn a_card_in_words() {
        let card = Card {
            uuid: String::new(),
            name: "NVIDIA H100 80GB HBM3".into(),
            capability: Some((9, 0)),
            memory: Some((78_140_000_000, 85_520_000_000)),
        };
        let expected = "NVIDIA H100 80GB HBM3, compute capability 9.0, 78.1 of 85.5 GB free";
        assert_eq!(words(&card), expected);
    }

    #[test]
    fn libraries_are_said_with_their_places() {
        let library = |name: &str, file: Option<&str>| Library {
            name: name.into(),
            file: file.map(Into::into),
        };
        let libraries = Libraries {
            needed: vec![
                library("libc.so.6", Some("/lib/libc.so.6")),
                library("libcuda.so.1", None),
                library("libcudart.so.13", Some("/torch/lib/libcudart.so.13")),
                library("libcublas.so.13", Some("/usr/lib/libcublas.so.13")),
            ],
            lacking: Vec::new(),
            folders: vec!["/torch/lib".into()],
        };
        let expected = [
            "libcuda.so.1 is missing",
            "libcudart.so.13 lent by /torch/lib/libcudart.so.13",
            "libcublas.so.13 is /usr/lib/libcublas.so.13",
        ];
        assert_eq!(places(&libraries), expected);
    }
}
