//! Convolutions by cuDNN: channels last, as everything here; weights (O, k, k, C).
//!
//! What a shape needs (descriptors, algorithms, their memory) is found once and kept.

#![expect(unsafe_code, reason = "cuDNN takes addresses on the device")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc;
use cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm, cudnnConvolutionFwdAlgo_t as Algorithm,
    cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math, cudnnTensorFormat_t as Format,
};
use cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnError,
    FilterDescriptor, TensorDescriptor,
};
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop, sys};

use super::command::Command;
use super::{Engine, Slot, failed};
use crate::nn::device::Precision;
use crate::nn::op::geometry::Geometry;
use crate::nn::{Result, invalid};

/// The most memory that an algorithm may take for itself.
const MOST_WORKSPACE: usize = 1 << 30;

/// A convolution's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub(crate) geometry: Geometry,
    pub(crate) outputs: usize,
    pub(crate) batch: usize,
}

/// Which way a convolution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Forward,
    /// Backward to the input, replacing what is there or added to it.
    Data {
        adds: bool,
    },
    /// Backward to the weights.
    Filter,
}

/// A convolution to be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Convolution {
    shape: Shape,
    pass: Pass,
    /// Of the input, the weights and the output, or of their gradients.
    addresses: [u64; 3],
    /// The algorithm's own memory, and how much it is.
    memory: u64,
    bytes: usize,
}

/// Descriptors of a shape, and how each pass is computed: nothing where cuDNN has no way.
struct Plan {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<f32>,
    w: FilterDescriptor<f32>,
    y: TensorDescriptor<f32>,
    forward: Option<(Algorithm, usize)>,
    data: Option<(DataAlgorithm, usize)>,
    filter: Option<(FilterAlgorithm, usize)>,
}

/// cuDNN on the engine's stream.
pub(crate) struct Dnn {
    handle: Arc<Cudnn>,
    stream: Arc<CudaStream>,
    plans: RefCell<HashMap<Shape, Rc<Plan>>>,
}

impl Dnn {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Self {
            handle: Cudnn::new(Arc::clone(stream)).map_err(failed)?,
            stream: Arc::clone(stream),
            plans: RefCell::default(),
        })
    }

    fn plan(&self, shape: Shape, precision: Precision) -> Result<Rc<Plan>> {
        if let Some(plan) = self.plans.borrow().get(&shape) {
            return Ok(Rc::clone(plan));
        }
        let plan = Rc::new(self.planned(shape, precision)?);
        self.plans.borrow_mut().insert(shape, Rc::clone(&plan));
        Ok(plan)
    }

    fn planned(&self, shape: Shape, precision: Precision) -> Result<Plan> {
        let int = |n: usize| i32::try_from(n).map_err(|_| invalid("a convolution is too large"));
        let g = &shape.geometry;
        let last = Format::CUDNN_TENSOR_NHWC;
        let (batch, channels, outputs) = (int(shape.batch)?, int(g.channels)?, int(shape.outputs)?);
        let (kernel, stride, padding) = (int(g.kernel)?, int(g.stride)?, int(g.padding)?);
        let (height, width) = (int(g.height)?, int(g.width)?);
        let (out_height, out_width) = (int(g.out_height())?, int(g.out_width())?);
        let make = || -> std::result::Result<_, CudnnError> {
            let mut conv = self.handle.create_conv2d::<f32>(
                [padding; 2],
                [stride; 2],
                [1; 2],
                Mode::CUDNN_CROSS_CORRELATION,
            )?;
            conv.set_math_type(if precision.tf32 {
                Math::CUDNN_DEFAULT_MATH
            } else {
                Math::CUDNN_FMA_MATH
            })?;
            let x = self
                .handle
                .create_4d_tensor(last, [batch, channels, height, width])?;
            let w = self
                .handle
                .create_4d_filter(last, [outputs, channels, kernel, kernel])?;
            let y = self
                .handle
                .create_4d_tensor(last, [batch, outputs, out_height, out_width])?;
            Ok((conv, x, w, y))
        };
        let (conv, x, w, y) = make().map_err(failed)?;
        let forward = ConvForward {
            conv: &conv,
            x: &x,
            w: &w,
            y: &y,
        };
        let data = ConvBackwardData {
            conv: &conv,
            dx: &x,
            w: &w,
            dy: &y,
        };
        let filter = ConvBackwardFilter {
            conv: &conv,
            x: &x,
            dw: &w,
            dy: &y,
        };
        // Algorithms 0 (and 3) of the backward passes add in an order of chance; 1 does not.
        let fixed = precision.deterministic;
        let forward = found(
            || forward.pick_algorithm(),
            |algorithm| forward.get_workspace_size(algorithm),
            fixed.then_some(Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM),
        );
        let data = found(
            || data.pick_algorithm(),
            |algorithm| data.get_workspace_size(algorithm),
            fixed.then_some(DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1),
        );
        let filter = found(
            || filter.pick_algorithm(),
            |algorithm| filter.get_workspace_size(algorithm),
            fixed.then_some(FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1),
        );
        Ok(Plan {
            conv,
            x,
            w,
            y,
            forward,
            data,
            filter,
        })
    }

    /// y = the convolution of x with w; false where cuDNN has no way to compute it.
    pub(crate) fn forward(
        &self,
        engine: &Engine,
        shape: Shape,
        [x, w, y]: [u64; 3],
    ) -> Result<bool> {
        self.ask(engine, shape, Pass::Forward, [x, w, y])
    }

    /// dx = the gradient of x from w and dy, or added to what is there; false where cuDNN has no way to compute it.
    pub(crate) fn backward_data(
        &self,
        engine: &Engine,
        shape: Shape,
        [dx, w, dy]: [u64; 3],
        adds: bool,
    ) -> Result<bool> {
        self.ask(engine, shape, Pass::Data { adds }, [dx, w, dy])
    }

    /// dw = the gradient of w from x and dy; false where cuDNN has no way to compute it.
    pub(crate) fn backward_filter(
        &self,
        engine: &Engine,
        shape: Shape,
        [x, dw, dy]: [u64; 3],
    ) -> Result<bool> {
        self.ask(engine, shape, Pass::Filter, [x, dw, dy])
    }

    fn ask(&self, engine: &Engine, shape: Shape, pass: Pass, addresses: [u64; 3]) -> Result<bool> {
        let plan = self.plan(shape, engine.precision())?;
        let bytes = match pass {
            Pass::Forward => plan.forward.map(|(_, bytes)| bytes),
            Pass::Data { .. } => plan.data.map(|(_, bytes)| bytes),
            Pass::Filter => plan.filter.map(|(_, bytes)| bytes),
        };
        let Some(bytes) = bytes else { return Ok(false) };
        let memory = match bytes {
            0 => 0,
            bytes => engine.scratch(Slot::Workspace, bytes.div_ceil(4))?,
        };
        engine.ask(Command::Convolution(Convolution {
            shape,
            pass,
            addresses,
            memory,
            bytes,
        }))?;
        Ok(true)
    }

    /// Asks cuDNN for what was planned.
    pub(super) fn issue(&self, convolution: &Convolution) -> Result<()> {
        let plans = self.plans.borrow();
        let plan = plans.get(&convolution.shape);
        let Some(plan) = plan else {
            return Err(invalid("a convolution was not planned"));
        };
        let memory = (convolution.bytes > 0).then_some(Raw {
            address: convolution.memory,
            bytes: convolution.bytes,
            stream: &self.stream,
        });
        let mut memory = memory;
        let [first, second, third] = convolution.addresses.map(|address| self.raw(address));
        let Plan { conv, x, w, y, .. } = &**plan;
        // SAFETY: the op owns tensors of this shape at these addresses.
        let done = unsafe {
            match (convolution.pass, plan.forward, plan.data, plan.filter) {
                (Pass::Forward, Some((algorithm, _)), ..) => {
                    let mut y_there = third;
                    ConvForward { conv, x, w, y }.launch(
                        algorithm,
                        memory.as_mut(),
                        (1.0, 0.0),
                        &first,
                        &second,
                        &mut y_there,
                    )
                }
                (Pass::Data { adds }, _, Some((algorithm, _)), _) => {
                    let (beta, mut dx) = (if adds { 1.0 } else { 0.0 }, first);
                    ConvBackwardData {
                        conv,
                        dx: x,
                        w,
                        dy: y,
                    }
                    .launch(
                        algorithm,
                        memory.as_mut(),
                        (1.0, beta),
                        &mut dx,
                        &second,
                        &third,
                    )
                }
                (Pass::Filter, _, _, Some((algorithm, _))) => {
                    let mut dw = second;
                    ConvBackwardFilter {
                        conv,
                        x,
                        dw: w,
                        dy: y,
                    }
                    .launch(
                        algorithm,
                        memory.as_mut(),
                        (1.0, 0.0),
                        &first,
                        &mut dw,
                        &third,
                    )
                }
                _ => return Err(invalid("cuDNN has no way to compute a convolution")),
            }
        };
        done.map_err(failed)
    }

    fn raw(&self, address: u64) -> Raw<'_> {
        Raw {
            address,
            bytes: 0,
            stream: &self.stream,
        }
    }
}

/// The algorithm to use and the memory that it takes: the fixed one, or what cuDNN thinks best; none if that takes too
/// much, or there is none.
fn found<A: Copy>(
    best: impl Fn() -> std::result::Result<A, CudnnError>,
    memory: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    fixed: Option<A>,
) -> Option<(A, usize)> {
    let algorithm = fixed.map_or_else(best, Ok).ok()?;
    let bytes = memory(algorithm).ok()?;
    (bytes <= MOST_WORKSPACE).then_some((algorithm, bytes))
}

/// Memory at an address, for cuDNN's calls.
struct Raw<'a> {
    address: u64,
    /// Only of an algorithm's own memory.
    bytes: usize,
    stream: &'a Arc<CudaStream>,
}

impl<T> DeviceSlice<T> for Raw<'_> {
    fn len(&self) -> usize {
        self.bytes / size_of::<T>()
    }

    fn stream(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

impl<T> DevicePtr<T> for Raw<'_> {
    fn device_ptr<'a>(&'a self, _: &'a CudaStream) -> (sys::CUdeviceptr, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Record(None))
    }
}

impl<T> DevicePtrMut<T> for Raw<'_> {
    fn device_ptr_mut<'a>(&'a mut self, _: &'a CudaStream) -> (sys::CUdeviceptr, SyncOnDrop<'a>) {
        (self.address, SyncOnDrop::Record(None))
    }
}
