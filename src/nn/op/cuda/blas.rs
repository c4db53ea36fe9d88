//! Products of matrices by cuBLAS, in rows as everywhere here.

#![expect(unsafe_code, reason = "cuBLAS takes addresses on the device")]

use std::sync::Arc;

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc;
use cudarc::cublas::{CudaBlas, sys};
use cudarc::driver::{CudaSlice, DevicePtr, result};

use super::failed;
use crate::nn::device::Precision;
use crate::nn::{Result, invalid};

/// A matrix of a product: where it lies, and whether it is taken as it lies there or transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) address: u64,
    /// Values from the beginning of one stored row to that of the next.
    pub(crate) row: usize,
    pub(crate) transposed: bool,
}

/// C (m, n) = A (m, k) B (k, n), or added to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    pub(crate) c: u64,
    pub(crate) adds: bool,
}

/// The memory that cuBLAS is given for its own use: what its manual advises for the largest cards.
const WORKSPACE: usize = 32 << 20;

/// cuBLAS on the engine's stream.
pub(crate) struct Blas {
    blas: Arc<CudaBlas>,
    /// Memory that it uses for as long as there is the handle.
    _workspace: CudaSlice<u8>,
}

impl Blas {
    /// Takes the device's handle. Its own memory is given to it: left to itself, cuBLAS takes some from the driver in the
    /// midst of a graph, and promises the same bits only where each stream has memory of its own (cuBLAS documentation,
    /// `cublasSetWorkspace` and "Results Reproducibility").
    pub(super) fn new(device: &CudaDevice) -> Result<Self> {
        let (blas, stream) = (device.cublas_handle(), device.cuda_stream());
        let (_, total) = result::mem_get_info().map_err(failed)?;
        let bytes = WORKSPACE.min(total / 64);
        // SAFETY: cuBLAS writes what it reads there.
        let workspace = unsafe { stream.alloc::<u8>(bytes).map_err(failed)? };
        // SAFETY: that many bytes live as long as the engine that asks this handle.
        unsafe {
            let (address, _) = workspace.device_ptr(&stream);
            sys::cublasSetWorkspace_v2(*blas.handle(), address as *mut _, bytes)
                .result()
                .map_err(failed)?;
        }
        Ok(Self {
            blas,
            _workspace: workspace,
        })
    }

    /// Asks cuBLAS, which counts in columns: what it is given is Cᵀ = Bᵀ Aᵀ, whose columns are C's rows.
    pub(super) fn issue(&self, precision: Precision, product: &Product) -> Result<()> {
        let size = |n: usize| i32::try_from(n).map_err(|_| invalid("a matrix is too large"));
        let operation = |operand: &Operand| {
            if operand.transposed {
                sys::cublasOperation_t::CUBLAS_OP_T
            } else {
                sys::cublasOperation_t::CUBLAS_OP_N
            }
        };
        let precision = if precision.tf32 {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        } else {
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F
        };
        let Product { m, n, k, a, b, .. } = product;
        let alpha = 1.0_f32;
        let beta = if product.adds { 1.0_f32 } else { 0.0 };
        let float = sys::cudaDataType_t::CUDA_R_32F;
        // SAFETY: the ops own matrices of these sizes at these addresses; both factors are read before this returns.
        unsafe {
            cudarc::cublas::result::gemm_ex(
                *self.blas.handle(),
                operation(b),
                operation(a),
                size(*n)?,
                size(*m)?,
                size(*k)?,
                (&raw const alpha).cast(),
                b.address as *const _,
                float,
                size(b.row)?,
                a.address as *const _,
                float,
                size(a.row)?,
                (&raw const beta).cast(),
                product.c as *mut _,
                float,
                size(*n)?,
                precision,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
            .map_err(failed)
        }
    }
}
