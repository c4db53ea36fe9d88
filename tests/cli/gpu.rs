//! The door to the GPU, on machines without one: what `--device cuda` and `auto` do with and without the CUDA program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::sandbox::{Ran, Sandbox, TINY};

/// The program in a folder of its own, so that nothing lies beside it, with nothing in PATH.
fn program(sandbox: &Sandbox) -> Command {
    let own = sandbox.path("shrinklab");
    let built = env!("CARGO_BIN_EXE_shrinklab");
    if !own.exists() && fs::hard_link(built, &own).is_err() {
        fs::copy(built, &own).unwrap();
    }
    let mut command = sandbox.program_of(own.to_str().unwrap());
    command.env("PATH", sandbox.path("path"));
    for name in [
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "SHRINKLAB_CUDA_LIBRARIES",
    ] {
        command.env_remove(name);
    }
    command
}

fn ran(command: &mut Command, arguments: &[&str]) -> Ran {
    Ran::of(&command.args(arguments).output().unwrap())
}

const ASKED: [&str; 7] = [
    "run",
    "-d",
    "glyphs",
    "--session",
    "never.jsonl",
    "--device",
    "cuda:1",
];

fn script(sandbox: &Sandbox, name: &str, lines: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = sandbox.path(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Says what it was started with.
const SAYS: &str = "echo \"started as $$ with $*; door $SHRINKLAB_DOOR_OPENED\"; exit 7";

fn compile(source: &str, arguments: &[&Path]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("source.c");
    fs::write(&file, source).unwrap();
    let done = Command::new("cc").arg(file).args(arguments).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{done:?}");
}

/// A CUDA program that needs a library of that name, and the folder in which it lies; it says what the library says.
fn linked(sandbox: &Sandbox, soname: &str, folder: &str) -> PathBuf {
    let folder = sandbox.path(folder);
    fs::create_dir_all(&folder).unwrap();
    let library = folder.join(soname);
    let named = format!("-Wl,-soname,{soname}");
    let shared = ["-shared", "-fPIC", &named, "-o"].map(Path::new);
    compile(
        "int cudaVersion(void) { return 13; }",
        &[&shared[..], &[&library]].concat(),
    );
    let out = sandbox.path("shrinklab-cuda");
    compile(
        r#"#include <stdio.h>
           #include <stdlib.h>
           int cudaVersion(void);
           int main(int n, char **words) {
               printf("CUDA %d with", cudaVersion());
               for (int i = 1; i < n; i++) printf(" %s", words[i]);
               printf("; libraries in %s\n", getenv("LD_LIBRARY_PATH"));
           }"#,
        &[Path::new("-o"), &out, &library],
    );
    folder
}

#[test]
fn without_the_cuda_program_a_gpu_is_refused_in_one_sentence() {
    let sandbox = Sandbox::new();
    for device in ["cuda", "cuda:0"] {
        let mut asked = ASKED;
        asked[6] = device;
        let error = ran(&mut program(&sandbox), &asked).refused(1);
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in [
            device,
            "shrinklab-cuda",
            "PATH",
            "cargo build --release --features cuda",
            "--device cpu",
        ] {
            assert!(error.contains(word), "{word} is missing: {error}");
        }
    }
    assert!(!sandbox.path("never.jsonl").exists());
    let bench = ["bench", "train", "-a", "lenet5", "--device", "cuda"];
    let error = ran(&mut program(&sandbox), &bench).refused(1);
    assert!(error.contains("shrinklab-cuda"), "{error}");
    // Before the terminal, of which there is none here, is touched.
    let error = ran(&mut program(&sandbox), &["--device", "cuda"]).refused(1);
    assert!(error.contains("shrinklab-cuda"), "{error}");
}

#[test]
fn a_device_before_the_word_is_refused() {
    let sandbox = Sandbox::new();
    let error = ran(&mut program(&sandbox), &["--device", "cuda", "doctor"]).refused(2);
    assert!(error.contains("shrinklab run --device"), "{error}");
}

#[test]
fn auto_goes_on_with_the_cpu_and_says_so() {
    let sandbox = Sandbox::new();
    let auto = [
        &TINY[..],
        &["--device", "auto", "--session", "s.jsonl", "--twins", "0"],
    ]
    .concat();
    let said = ran(&mut program(&sandbox), &auto).well();
    let line = said.lines().find(|line| line.contains("auto")).unwrap();
    for word in ["takes the CPU", "shrinklab-cuda"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    let session = fs::read_to_string(sandbox.path("s.jsonl")).unwrap();
    let header = session.lines().next().unwrap();
    // The header's own, and its study's.
    assert_eq!(header.matches(r#""device":"cpu""#).count(), 2, "{header}");
    // What a program reads is not disturbed by it.
    let mut quiet = auto.clone();
    quiet[auto.len() - 3] = "q.jsonl";
    quiet.push("--json");
    let ran = ran(&mut program(&sandbox), &quiet);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.out.lines().all(|line| line.starts_with('[')));
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn the_cuda_program_takes_over_with_the_same_arguments() {
    let sandbox = Sandbox::new();
    let asked = ["run", "-d", "a b", "--device", "auto", "--json"];
    for place in ["path/shrinklab-cuda", "shrinklab-cuda"] {
        script(&sandbox, place, SAYS);
        let mut child = program(&sandbox)
            .args(asked)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let id = child.id();
        let mut said = String::new();
        let mut out = child.stdout.take().unwrap();
        std::io::Read::read_to_string(&mut out, &mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        let expected = format!("started as {id} with run -d a b --device auto --json; door 1\n");
        assert_eq!(said, expected, "the same process");
        fs::remove_file(sandbox.path(place)).unwrap();
    }
    // Each word that computes.
    script(&sandbox, "shrinklab-cuda", SAYS);
    for asked in [
        &["bench", "train", "-a", "lenet5", "--device", "cuda"][..],
        &["--device", "auto"],
    ] {
        let ran = ran(&mut program(&sandbox), asked);
        assert!(ran.out.contains(&asked.join(" ")), "{ran:?}");
    }
    // And none that does not.
    let said = ran(&mut program(&sandbox), &["doctor"]).well();
    let place = sandbox.path("shrinklab-cuda").display().to_string();
    assert!(
        !said.contains("started as") && said.contains(&place),
        "{said}"
    );
}

#[test]
fn a_session_goes_on_where_it_began() {
    let sandbox = Sandbox::new();
    let (tiny, _) = super::sandbox::tiny();
    let session = fs::read_to_string(tiny).unwrap();
    let on_gpu = session.replace(r#""device":"cpu""#, r#""device":"cuda:0""#);
    sandbox.file("gpu.jsonl", on_gpu);
    let resume = ["run", "--resume", "gpu.jsonl"];
    let error = ran(&mut program(&sandbox), &resume).refused(1);
    for word in ["gpu.jsonl", "began on cuda:0", "shrinklab-cuda"] {
        assert!(error.contains(word), "{word} is missing: {error}");
    }
    assert!(!error.contains("--device cpu"), "{error}");
    script(&sandbox, "shrinklab-cuda", SAYS);
    let ran = ran(&mut program(&sandbox), &resume);
    assert!(ran.out.contains("run --resume gpu.jsonl"), "{ran:?}");
}

#[test]
fn a_program_that_has_no_cuda_after_all_starts_no_other() {
    let sandbox = Sandbox::new();
    let mut command = program(&sandbox);
    fs::copy(sandbox.path("shrinklab"), sandbox.path("shrinklab-cuda")).unwrap();
    let error = ran(&mut command, &ASKED).refused(1);
    assert!(error.contains("a program without CUDA"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn libraries_are_lent_by_a_pytorch() {
    let sandbox = Sandbox::new();
    let packages = "venv/lib/python3.12/site-packages/nvidia";
    let folder = linked(&sandbox, "libcudart.so.13", &format!("{packages}/cu13/lib"));
    let other = sandbox.path(&format!("{packages}/cudnn/lib"));
    fs::create_dir_all(&other).unwrap();
    let said = format!(
        "CUDA 13 with {}; libraries in {}",
        ASKED.join(" "),
        sandbox.path("mine").display()
    );
    let both = format!("{said}:{}:{}\n", folder.display(), other.display());
    let of_venv = ran(
        program(&sandbox)
            .env("VIRTUAL_ENV", sandbox.path("venv"))
            .env("LD_LIBRARY_PATH", sandbox.path("mine")),
        &ASKED,
    );
    assert_eq!(of_venv.well(), both);
    // A Python in the path, told by its place, or asked where it is a stand-in.
    let bin = sandbox.path("venv/bin");
    script(&sandbox, "venv/bin/python3", "exit 1");
    let in_path = ran(
        program(&sandbox)
            .env("PATH", &bin)
            .env("LD_LIBRARY_PATH", sandbox.path("mine")),
        &ASKED,
    );
    assert_eq!(in_path.well(), both);
    let site = sandbox.path("venv/lib/python3.12/site-packages");
    script(
        &sandbox,
        "shims/python3",
        &format!("echo {}", site.display()),
    );
    let asked = ran(
        program(&sandbox)
            .env("PATH", sandbox.path("shims"))
            .env("LD_LIBRARY_PATH", sandbox.path("mine")),
        &ASKED,
    );
    assert_eq!(asked.well(), both);
    // Named by hand.
    let named = ran(
        program(&sandbox)
            .env("SHRINKLAB_CUDA_LIBRARIES", &folder)
            .env("LD_LIBRARY_PATH", sandbox.path("mine")),
        &ASKED,
    );
    assert_eq!(named.well(), format!("{said}:{}\n", folder.display()));
    // What the loader finds by itself needs nobody's help.
    let found = ran(
        program(&sandbox)
            .env("VIRTUAL_ENV", sandbox.path("venv"))
            .env("LD_LIBRARY_PATH", &folder),
        &ASKED,
    );
    assert!(
        found
            .well()
            .ends_with(&format!("in {}\n", folder.display()))
    );
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_missing_is_named() {
    let sandbox = Sandbox::new();
    let folder = linked(&sandbox, "libcublas.so.13", "somewhere");
    let error = ran(&mut program(&sandbox), &ASKED).refused(1);
    assert_eq!(error.lines().count(), 1, "{error}");
    for word in [
        "libcublas.so.13 is found neither",
        "PyTorch",
        "SHRINKLAB_CUDA_LIBRARIES",
        "--device cpu",
    ] {
        assert!(error.contains(word), "{word} is missing: {error}");
    }
    let doctor = ran(&mut program(&sandbox), &["doctor"]).well();
    for word in [
        "library    libcublas.so.13 is missing",
        "kernels    --device cuda does not work",
    ] {
        assert!(doctor.contains(word), "{word} is missing: {doctor}");
    }
    let doctor = ran(
        program(&sandbox).env("SHRINKLAB_CUDA_LIBRARIES", &folder),
        &["doctor"],
    )
    .well();
    let place = folder.join("libcublas.so.13").display().to_string();
    let lent = format!("library    libcublas.so.13 lent by {place}");
    assert!(doctor.contains(&lent), "{doctor}");
    // A library of that name without what is asked of it.
    let named = [
        Path::new("-shared"),
        Path::new("-Wl,-soname,libcublas.so.13"),
        Path::new("-o"),
        &folder.join("libcublas.so.13"),
    ];
    compile("int other(void) { return 0; }", &named);
    let error = ran(
        program(&sandbox).env("SHRINKLAB_CUDA_LIBRARIES", &folder),
        &ASKED,
    )
    .refused(1);
    assert!(
        error.contains("another version") && error.contains("cudaVersion"),
        "{error}"
    );
    // Only the driver.
    fs::remove_file(folder.join("libcublas.so.13")).unwrap();
    linked(&sandbox, "libcuda.so.1", "elsewhere");
    let error = ran(&mut program(&sandbox), &ASKED).refused(1);
    assert!(
        error.contains("libcuda.so.1, which comes with NVIDIA's driver"),
        "{error}"
    );
}

#[test]
fn the_doctor_says_what_a_gpu_lacks() {
    let sandbox = Sandbox::new();
    let said = ran(&mut program(&sandbox), &["doctor"]).well();
    for start in ["device", "driver", "gpu", "engine"] {
        let line = said.lines().find(|line| line.starts_with(start));
        assert!(line.is_some_and(|line| line.len() > 20), "{start}: {said}");
    }
    let engine = said.lines().find(|line| line.starts_with("engine"));
    assert!(
        engine
            .unwrap()
            .contains("cargo build --release --features cuda")
    );
}

#[test]
fn how_a_gpu_computes_is_recorded_and_never_where_it_says_nothing() {
    let sandbox = Sandbox::new();
    let header = |name: &str| {
        let text = fs::read_to_string(sandbox.path(name)).unwrap();
        text.lines().next().unwrap().to_owned()
    };
    let run = |name: &str, flags: &[&str]| {
        let tiny = [&TINY[..], &["--twins", "0", "--session", name], flags].concat();
        ran(&mut program(&sandbox), &tiny).well();
        header(name)
    };
    let plain = run("plain.jsonl", &[]);
    assert!(!plain.contains("tf32") && !plain.contains("deterministic"));
    let exact = run("exact.jsonl", &["--fp32", "--deterministic"]);
    assert!(
        exact.contains(r#""tf32":false,"deterministic":true"#),
        "{exact}"
    );
    let study = sandbox.file(
        "study.toml",
        "tf32 = false\ndeterministic = true\n[[references]]\ndataset = \"glyphs\"\narchitecture = \"lenet5\"\n",
    );
    let said = ran(program(&sandbox).arg("check").arg(study), &[]).well();
    assert!(said.contains("1 network"), "{said}");
    let same = |name: &str| {
        let text = fs::read_to_string(sandbox.path(name)).unwrap();
        let losses = text.lines().filter(|line| line.contains("\"epoch-ended\""));
        losses
            .map(|line| line.split_once("epoch-ended").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        same("plain.jsonl"),
        same("exact.jsonl"),
        "on the CPU nothing changes"
    );
}
