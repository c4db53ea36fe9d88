//! What the processor is: its name, what it offers, how many cores, and how much of it this process may use.
//!
//! Linux says it in `/proc/cpuinfo`, `/proc/self/cgroup` and `/sys/fs/cgroup`; elsewhere less is known.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What `/proc/cpuinfo` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Processor {
    pub name: Option<String>,
    /// Processors that the system sees, threads of a core counted by themselves.
    pub logical: usize,
    /// Cores; as many as `logical` where the system does not tell them apart.
    pub cores: usize,
}

impl Processor {
    /// Asks the system.
    pub(crate) fn of_this_machine() -> Option<Self> {
        Some(Self::read(&fs::read_to_string("/proc/cpuinfo").ok()?))
    }

    fn read(text: &str) -> Self {
        let mut processor = Self::default();
        let mut cores = BTreeSet::new();
        let (mut package, mut core) = (None, None);
        // A blank line ends each processor's paragraph.
        for line in text.lines().chain([""]) {
            let Some((field, value)) = line.split_once(':') else {
                if let (Some(package), Some(core)) = (package.take(), core.take()) {
                    cores.insert((package, core));
                }
                continue;
            };
            let value = value.trim();
            match field.trim() {
                "processor" => processor.logical += 1,
                "model name" => processor.name = Some(value.to_owned()),
                "physical id" => package = Some(value.to_owned()),
                "core id" => core = Some(value.to_owned()),
                _ => {}
            }
        }
        processor.cores = if cores.is_empty() {
            processor.logical
        } else {
            cores.len()
        };
        processor
    }
}

/// Processors' worth of time that the control group allows, if it limits it: the least of all groups above.
pub(crate) fn quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = Path::new("/sys/fs/cgroup");
    Path::new(own.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| fs::read_to_string(root.join(group).join("cpu.max")).ok())
        .filter_map(|text| share(&text))
        .min_by(f64::total_cmp)
}

/// `200000 100000` is two processors; `max 100000` is no limit.
fn share(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

/// What the processor offers of the instructions that matter here.
pub(crate) fn instructions() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as detected;
        let found: Vec<&str> = [
            (detected!("avx2"), "AVX2"),
            (detected!("fma"), "FMA"),
            (detected!("avx512f"), "AVX-512 F"),
            (detected!("avx512vnni"), "AVX-512 VNNI"),
            (detected!("avxvnni"), "AVX-VNNI"),
        ]
        .into_iter()
        .filter_map(|(is_there, name)| is_there.then_some(name))
        .collect();
        if found.is_empty() {
            "none of AVX2, FMA, AVX-512".into()
        } else {
            found.join(", ")
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_told_from_their_threads() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t: 0\n\n\
                    processor\t: 1\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t: 1\n\n\
                    processor\t: 2\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t: 0\n\n\
                    processor\t: 3\nmodel name\t: Some CPU @ 2.00GHz\nphysical id\t: 0\ncore id\t: 1\n";
        assert_eq!(
            Processor::read(text),
            Processor {
                name: Some("Some CPU @ 2.00GHz".into()),
                logical: 4,
                cores: 2,
            }
        );
        let plain = Processor::read("processor\t: 0\n\nprocessor\t: 1\n");
        assert_eq!((plain.logical, plain.cores, plain.name), (2, 2, None));
    }

    #[test]
    fn quotas() {
        assert_eq!(share("150000 100000\n"), Some(1.5));
        assert_eq!(share("max 100000\n"), None);
        assert_eq!(share(""), None);
    }
}
