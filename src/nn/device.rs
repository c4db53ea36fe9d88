//! Where networks compute: the CPU, or a GPU in a program that was built for it.

use candle_core::Device;

use super::{Result, invalid};

/// Whether this program can compute on GPUs.
pub const HAS_CUDA: bool = cfg!(feature = "cuda");

/// How a GPU computes. The CPU always computes in 32 bits, and the same bits every time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Products of matrices and convolutions with 19-bit factors (TF32) instead of 32-bit ones.
    pub tf32: bool,
    /// Only algorithms that give the same bits every time.
    pub deterministic: bool,
}

impl Default for Precision {
    fn default() -> Self {
        Self {
            tf32: true,
            deterministic: false,
        }
    }
}

/// Opens a device for the thread that calls, which alone may use it: `cpu`, `cuda` (the first GPU) or `cuda:N`.
///
/// # Errors
/// When there is no such device, or this program was not built for it.
pub fn open(name: &str, precision: Precision) -> Result<Device> {
    if name == "cpu" {
        return Ok(Device::Cpu);
    }
    let number = match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|n| n.parse().ok()),
        None => None,
    };
    let number: usize =
        number.ok_or_else(|| invalid(format!("device \"{name}\" is none of cpu, cuda, cuda:N")))?;
    #[cfg(feature = "cuda")]
    return super::op::cuda::open(number, precision);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (number, precision);
        Err(invalid(format!(
            "device {name} is not to be had in this program, which was built without CUDA"
        )))
    }
}

/// Gives back what the devices that this thread opened hold, once no network and no tensor on them is left. Without it
/// they are given back with the process.
pub fn close() {
    #[cfg(feature = "cuda")]
    super::op::cuda::close();
}

/// The GPUs that this program sees, in CUDA's order, each by its UUID as NVIDIA's own tools write it.
///
/// # Errors
/// When the driver does not answer, or this program was not built for GPUs.
pub fn gpus() -> Result<Vec<String>> {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::result::{DriverError, device, init};
        let driver = |error: DriverError| {
            invalid(format!("the driver of the GPUs does not answer: {error}"))
        };
        init().map_err(driver)?;
        (0..device::get_count().map_err(driver)?)
            .map(|number| {
                let card = device::get(number).map_err(driver)?;
                let bytes = device::get_uuid(card).map_err(driver)?.bytes;
                Ok(uuid(bytes.map(|byte| byte as u8)))
            })
            .collect()
    }
    #[cfg(not(feature = "cuda"))]
    Err(invalid(
        "this program was built without CUDA and sees no GPU",
    ))
}

/// `GPU-8f5a2c1e-…`
#[cfg(any(feature = "cuda", test))]
fn uuid(bytes: [u8; 16]) -> String {
    let hexadecimal = format!("{:032x}", u128::from_be_bytes(bytes));
    let (parts, mut at) = ([8, 4, 4, 4, 12], 0);
    let parts = parts.map(|digits| {
        at += digits;
        &hexadecimal[at - digits..at]
    });
    format!("GPU-{}", parts.join("-"))
}

/// Whether an error says that a device has no memory left.
pub fn is_out_of_memory(error: &candle_core::Error) -> bool {
    #[cfg(feature = "cuda")]
    return super::op::cuda::is_out_of_memory(error);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = error;
        false
    }
}

/// Gives back the memory that a device keeps for later.
pub fn release(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return super::op::cuda::engine(device)?.release();
    }
    let _ = device;
    Ok(())
}

/// Waits until a device has done all that it was asked for; the CPU always has.
pub fn synchronize(device: &Device) -> Result<()> {
    device.synchronize().map_err(told)
}

/// An error of a device's libraries as a sentence; any other as it is.
pub fn told(error: candle_core::Error) -> candle_core::Error {
    #[cfg(feature = "cuda")]
    return super::op::cuda::told(error);
    #[cfg(not(feature = "cuda"))]
    error
}

/// Makes a GPU's convolutions products of matrices even where there is cuDNN, as a program without it computes them; or
/// takes that back.
pub fn set_products(device: &Device, products: bool) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        super::op::cuda::engine(device)?.set_products(products);
    }
    let _ = (device, products);
    Ok(())
}

/// How repeated work is asked for on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graphs {
    /// How often a graph was launched.
    pub launched: u64,
    /// Why none is made (any more), if so.
    pub without: Option<String>,
}

/// Of a GPU that this thread opened; nothing of the CPU.
pub fn graphs(device: &Device) -> Result<Option<Graphs>> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        return Ok(Some(super::op::cuda::engine(device)?.graphs()));
    }
    let _ = device;
    Ok(None)
}

/// Has a GPU's repeated work asked for command by command, or takes that back.
pub fn set_graphs(device: &Device, graphs: bool) -> Result<()> {
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        let without = (!graphs).then_some("none were wanted");
        super::op::cuda::engine(device)?.set_graphs(without);
    }
    let _ = (device, graphs);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_that_there_are_can_be_opened() {
        assert!(open("cpu", Precision::default()).is_ok());
        for name in ["tpu", "cuda:x", "cuda:", "cuda0"] {
            let error = open(name, Precision::default()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("cuda:N"), "{error}");
        }
    }

    #[test]
    fn gpus_are_called_as_the_driver_calls_them() {
        let bytes: [u8; 16] = std::array::from_fn(|place| place as u8 * 16 + 1);
        assert_eq!(uuid(bytes), "GPU-01112131-4151-6171-8191-a1b1c1d1e1f1");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_program_without_cuda_sees_no_gpu() {
        assert!(gpus().unwrap_err().to_string().contains("without CUDA"));
        let error = open("cuda:0", Precision::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("cuda:0"), "{error}");
    }
}
