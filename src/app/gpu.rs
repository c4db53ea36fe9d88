//! What NVIDIA's management library (NVML, `libnvidia-ml`, part of the driver) says of the GPUs. It is loaded when it is
//! asked, so a machine without it is one without GPUs.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::nn::device;
use crate::ui::scene::GpuUse;

/// Time between two readings. The driver itself averages a GPU's load over up to a second.
const PERIOD: Duration = Duration::from_secs(1);

/// The driver's own answers.
pub(crate) struct Driver(Nvml);

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub uuid: String,
    pub name: String,
    /// Major and minor.
    pub capability: Option<(i32, i32)>,
    /// Bytes that are free, and all.
    pub memory: Option<(u64, u64)>,
}

impl Driver {
    /// Loads the library.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(crate) fn open() -> Result<Self, String> {
        Nvml::init().map(Self).map_err(|error| match error {
            NvmlError::LibloadingError(_) => {
                "libnvidia-ml.so.1, which comes with NVIDIA's driver, is not found".to_owned()
            }
            other => format!("libnvidia-ml.so.1 does not answer: {other}"),
        })
    }

    /// The driver's version, and the newest CUDA that it runs.
    pub(crate) fn version(&self) -> Result<String, String> {
        let said = |error: NvmlError| error.to_string();
        let driver = self.0.sys_driver_version().map_err(said)?;
        let cuda = self.0.sys_cuda_driver_version().map_err(said)?;
        // 13020 is 13.2
        let (major, minor) = (cuda / 1000, cuda % 1000 / 10);
        Ok(format!("{driver}, for CUDA {major}.{minor} or older"))
    }

    /// All cards, in the driver's order.
    pub(crate) fn cards(&self) -> Vec<Card> {
        (0..self.0.device_count().unwrap_or(0))
            .filter_map(|index| {
                let device = self.0.device_by_index(index).ok()?;
                let capability = device.cuda_compute_capability().ok();
                let memory = device.memory_info().ok();
                Some(Card {
                    uuid: device.uuid().ok()?,
                    name: device.name().unwrap_or_else(|_| "a GPU".to_owned()),
                    capability: capability.map(|cc| (cc.major, cc.minor)),
                    memory: memory.map(|memory| (memory.free, memory.total)),
                })
            })
            .collect()
    }

    fn reading(&self, uuid: &str) -> Option<GpuUse> {
        let device = self.0.device_by_uuid(uuid).ok()?;
        let memory = device.memory_info().ok();
        Some(GpuUse {
            busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
            memory: memory.map(|memory| (memory.used, memory.total)),
            watts: device
                .power_usage()
                .ok()
                .map(|milliwatts| (milliwatts + 500) / 1000),
        })
    }
}

/// The device by its number: `auto` is the one with the most free memory, `cuda` the first.
///
/// # Errors
/// When there is none, in words.
pub(crate) fn settled(device: &str) -> Result<String, String> {
    let seen = device::gpus().map_err(|error| error.to_string())?;
    let free = || {
        let cards = Driver::open().map(|driver| driver.cards());
        let cards = cards.unwrap_or_default();
        seen.iter()
            .map(|uuid| {
                let card = cards.iter().find(|card| card.uuid == *uuid)?;
                card.memory.map(|(free, _)| free)
            })
            .collect()
    };
    chosen(device, seen.len(), free).map(|number| format!("cuda:{number}"))
}

/// Which of so many GPUs is meant; `free` says how much memory each has.
fn chosen(
    device: &str,
    count: usize,
    free: impl FnOnce() -> Vec<Option<u64>>,
) -> Result<usize, String> {
    if count == 0 {
        return Err("the driver shows no GPU to this program".to_owned());
    }
    match device {
        "auto" => {
            // The first of equals; without NVML all are.
            let best = free().into_iter().enumerate().rev();
            let best = best.max_by_key(|(_, free)| *free);
            Ok(best.map_or(0, |(number, _)| number))
        }
        "cuda" => Ok(0),
        numbered => numbered
            .strip_prefix("cuda:")
            .and_then(|number| number.parse().ok())
            .filter(|number| *number < count)
            .ok_or_else(|| {
                let last = count - 1;
                format!("this GPU is not there; cuda:0 to cuda:{last} are")
            }),
    }
}

/// The card behind `cuda:N`.
fn card(device: &str) -> Option<String> {
    let number: usize = device.strip_prefix("cuda:")?.parse().ok()?;
    device::gpus().ok()?.into_iter().nth(number)
}

/// Readings of the GPU that a study uses, about once a second, from a thread that lives as long as somebody listens.
/// Nothing ever comes where there is no NVML, or the device is no GPU.
pub(crate) fn watch(device: &str) -> Option<Watch> {
    let uuid = card(device)?;
    let driver = Driver::open().ok()?;
    let (tell, readings) = bounded(1);
    let (until, ended) = bounded(0);
    std::thread::Builder::new()
        .name("gpu".into())
        .spawn(move || poll(&driver, &uuid, &tell, &ended))
        .ok()?;
    Some(Watch {
        readings,
        _until: until,
    })
}

/// A GPU under observation.
pub(crate) struct Watch {
    pub readings: Receiver<GpuUse>,
    /// Its other end sees that nobody listens any more.
    _until: Sender<()>,
}

fn poll(driver: &Driver, uuid: &str, tell: &Sender<GpuUse>, ended: &Receiver<()>) {
    loop {
        let Some(reading) = driver.reading(uuid) else {
            return;
        };
        // Where the last reading still waits to be drawn, this one is not missed.
        let _ = tell.try_send(reading);
        if ended.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// The counter of energy of a GPU.
pub(crate) struct Meter {
    driver: Driver,
    uuid: String,
}

impl Meter {
    /// The counter of the GPU behind `cuda:N`, if it has one: Volta and newer cards have.
    pub(crate) fn of(device: &str) -> Option<Self> {
        let uuid = card(device)?;
        let driver = Driver::open().ok()?;
        let meter = Self { driver, uuid };
        meter.millijoules().map(|_| meter)
    }

    /// What the card has used since its driver was loaded.
    pub(crate) fn millijoules(&self) -> Option<u64> {
        let device = self.driver.0.device_by_uuid(self.uuid.as_str()).ok()?;
        device.total_energy_consumption().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_the_gpu_with_the_most_free_memory() {
        let free = |free: &[Option<u64>]| chosen("auto", free.len(), || free.to_vec());
        assert_eq!(free(&[Some(5), Some(70), Some(70)]), Ok(1));
        assert_eq!(free(&[None, Some(1)]), Ok(1));
        assert_eq!(free(&[None, None]), Ok(0));
        assert!(free(&[]).unwrap_err().contains("no GPU"));
    }

    #[test]
    fn gpus_are_taken_by_their_number() {
        let numbered = |device| chosen(device, 2, || panic!("memory does not matter"));
        assert_eq!(numbered("cuda"), Ok(0));
        assert_eq!(numbered("cuda:1"), Ok(1));
        for absent in ["cuda:2", "cuda:99999999999999999999", "cuda:"] {
            let problem = numbered(absent).unwrap_err();
            assert!(problem.contains("cuda:0 to cuda:1"), "{problem}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn without_cuda_nothing_is_watched() {
        assert!(watch("cuda:0").is_none() && watch("cpu").is_none());
        assert!(Meter::of("cuda:0").is_none());
    }
}
