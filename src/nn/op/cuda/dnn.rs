//! Convolutions by cuDNN: channels last, as everything here; weights (O, k, k, C).
//!
//! What a shape needs (descriptors, the fastest algorithm, its memory) is found once and kept.

#![expect(unsafe_code, reason = "cuDNN takes addresses on the device")]

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::DType;
use candle_core::cuda_backend::cudarc;
use cudarc::cudnn::sys::{
    cudnnActivationMode_t as Activation, cudnnConvolutionBwdDataAlgo_t as DataAlgorithm,
    cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm, cudnnConvolutionFwdAlgo_t as Algorithm,
    cudnnConvolutionMode_t as Mode, cudnnMathType_t as Math,
    cudnnNanPropagation_t as NanPropagation, cudnnTensorFormat_t as Format,
};
use cudarc::cudnn::{
    ActivationDescriptor, ConvBackwardData, ConvBackwardFilter, ConvBiasActivationForward,
    ConvDescriptor, ConvForward, Cudnn, CudnnError, FilterDescriptor, TensorDescriptor,
};
use cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop, sys};

use super::command::Command;
use super::{Engine, Slot, at, failed, is_out_of_memory};
use crate::nn::device::Precision;
use crate::nn::op::geometry::Geometry;
use crate::nn::{Result, invalid};

/// The most memory that an algorithm may take for itself.
const MOST_WORKSPACE: usize = 256 << 20;

/// Runs of an algorithm that are timed together, after one that is not.
const TIMED: u16 = 3;

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
    /// Forward with the bias and the ReLU behind it.
    Rectified,
    /// Backward to the input, replacing what is there or added to it.
    Data {
        adds: bool,
    },
    /// Backward to the weights.
    Filter,
}

/// A pass by one of cuDNN's algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward(Algorithm),
    Rectified(Algorithm),
    Data(DataAlgorithm),
    Filter(FilterAlgorithm),
}

/// An algorithm and the bytes that it takes for itself.
type Candidate = (Way, usize);

/// A convolution to be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Convolution {
    shape: Shape,
    way: Way,
    /// Whether the result is added to what is there.
    adds: bool,
    /// Of the input, the weights and the output, or of their gradients; and of the bias, where it is taken along.
    addresses: [u64; 4],
    /// The algorithm's own memory, and how much it is.
    memory: u64,
    bytes: usize,
}

/// Descriptors of a shape, and what was chosen for each pass: nothing where cuDNN has no way, or another one is faster.
struct Plan {
    conv: ConvDescriptor<f32>,
    x: TensorDescriptor<f32>,
    w: FilterDescriptor<f32>,
    y: TensorDescriptor<f32>,
    bias: TensorDescriptor<f32>,
    relu: ActivationDescriptor<f32>,
    forward: OnceCell<Option<Candidate>>,
    rectified: OnceCell<Option<Candidate>>,
    data: OnceCell<Option<Candidate>>,
    filter: OnceCell<Option<Candidate>>,
}

impl Plan {
    fn chosen(&self, pass: Pass) -> &OnceCell<Option<Candidate>> {
        match pass {
            Pass::Forward => &self.forward,
            Pass::Rectified => &self.rectified,
            Pass::Data { .. } => &self.data,
            Pass::Filter => &self.filter,
        }
    }

    /// The algorithms that cuDNN may have for a pass, the one that it thinks best first; or the one that is chosen where
    /// the same bits have to come every time. All others of its enumerations take channels last nowhere.
    fn candidates(&self, pass: Pass, deterministic: bool) -> Vec<Candidate> {
        let Self { conv, x, w, y, .. } = self;
        match pass {
            Pass::Forward => {
                let pass = ConvForward { conv, x, w, y };
                let all = [
                    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
                    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
                    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
                    Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
                ];
                let best = || pass.pick_algorithm();
                let memory = |algorithm| pass.get_workspace_size(algorithm);
                candidates(deterministic, best, &all, memory, Way::Forward)
            }
            Pass::Rectified => {
                let pass = ConvForward { conv, x, w, y };
                let memory = |algorithm| pass.get_workspace_size(algorithm);
                // The one that the library has this for in every precision.
                let all = [Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM];
                candidates(true, || pass.pick_algorithm(), &all, memory, Way::Rectified)
            }
            // Algorithms 0 (and 3) of the backward passes add in an order of chance; 1 does not.
            Pass::Data { .. } => {
                let pass = ConvBackwardData {
                    conv,
                    dx: x,
                    w,
                    dy: y,
                };
                let all = [
                    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
                    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
                    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
                    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
                ];
                let best = || pass.pick_algorithm();
                let memory = |algorithm| pass.get_workspace_size(algorithm);
                candidates(deterministic, best, &all, memory, Way::Data)
            }
            Pass::Filter => {
                let pass = ConvBackwardFilter {
                    conv,
                    x,
                    dw: w,
                    dy: y,
                };
                let all = [
                    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
                    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
                    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
                    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
                ];
                let best = || pass.pick_algorithm();
                let memory = |algorithm| pass.get_workspace_size(algorithm);
                candidates(deterministic, best, &all, memory, Way::Filter)
            }
        }
    }
}

/// The first of `all` where the same bits have to come; else the best and all others that take memory within limits.
fn candidates<A: Copy + PartialEq>(
    deterministic: bool,
    best: impl Fn() -> std::result::Result<A, CudnnError>,
    all: &[A],
    memory: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    way: impl Fn(A) -> Way,
) -> Vec<Candidate> {
    let best = if deterministic { None } else { best().ok() };
    let others = all
        .iter()
        .copied()
        .filter(|algorithm| Some(*algorithm) != best);
    let count = if deterministic { 1 } else { usize::MAX };
    let ordered = best.into_iter().chain(others).take(count);
    let with_memory =
        ordered.filter_map(|algorithm| Some((way(algorithm), memory(algorithm).ok()?)));
    with_memory
        .filter(|(_, bytes)| *bytes <= MOST_WORKSPACE)
        .collect()
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
            let bias = self.handle.create_4d_tensor(last, [1, outputs, 1, 1])?;
            // A NaN goes on to the loss, which stops a training.
            let relu = self.handle.create_activation(
                Activation::CUDNN_ACTIVATION_RELU,
                NanPropagation::CUDNN_PROPAGATE_NAN,
                0.0,
            )?;
            Ok((conv, x, w, y, bias, relu))
        };
        let (conv, x, w, y, bias, relu) = make().map_err(failed)?;
        Ok(Plan {
            conv,
            x,
            w,
            y,
            bias,
            relu,
            forward: OnceCell::new(),
            rectified: OnceCell::new(),
            data: OnceCell::new(),
            filter: OnceCell::new(),
        })
    }

    /// y = the convolution of x with w, by cuDNN or by `products` of matrices, whichever is faster.
    pub(crate) fn forward(
        &self,
        engine: &Engine,
        shape: Shape,
        [x, w, y]: [u64; 3],
        products: &Products<'_>,
    ) -> Result<()> {
        self.ask(engine, shape, Pass::Forward, [x, w, y, 0], products)
    }

    /// y = max(the convolution of x with w + b, 0), in one pass or as it is done `otherwise`, whichever is faster.
    pub(crate) fn forward_rectified(
        &self,
        engine: &Engine,
        shape: Shape,
        [x, w, y, b]: [u64; 4],
        otherwise: &Products<'_>,
    ) -> Result<()> {
        self.ask(engine, shape, Pass::Rectified, [x, w, y, b], otherwise)
    }

    /// dx = the gradient of x from w and dy, or added to what is there; likewise.
    pub(crate) fn backward_data(
        &self,
        engine: &Engine,
        shape: Shape,
        [dx, w, dy]: [u64; 3],
        adds: bool,
        products: &Products<'_>,
    ) -> Result<()> {
        self.ask(engine, shape, Pass::Data { adds }, [dx, w, dy, 0], products)
    }

    /// dw = the gradient of w from x and dy; likewise.
    pub(crate) fn backward_filter(
        &self,
        engine: &Engine,
        shape: Shape,
        [x, dw, dy]: [u64; 3],
        products: &Products<'_>,
    ) -> Result<()> {
        self.ask(engine, shape, Pass::Filter, [x, dw, dy, 0], products)
    }

    fn ask(
        &self,
        engine: &Engine,
        shape: Shape,
        pass: Pass,
        addresses: [u64; 4],
        products: &Products<'_>,
    ) -> Result<()> {
        let plan = self.plan(shape, engine.precision())?;
        let adds = pass == Pass::Data { adds: true };
        let chosen = plan.chosen(pass);
        let chosen = match chosen.get() {
            Some(chosen) => *chosen,
            None => {
                let found = self.choose(engine, &plan, shape, pass, addresses, products)?;
                *chosen.get_or_init(|| found)
            }
        };
        match chosen {
            None => products(),
            Some(candidate) => {
                let asked = convolution(engine, shape, candidate, adds, addresses)?;
                engine.ask(Command::Convolution(asked))
            }
        }
    }

    /// The fastest of cuDNN's algorithms and of products of matrices, each tried where the result will lie; of the one that
    /// gives the same bits every time only whether it works. cuDNN's own choice is made without trying: on channels last
    /// it has been far from the fastest, and an algorithm that it names may refuse when it is asked.
    fn choose(
        &self,
        engine: &Engine,
        plan: &Plan,
        shape: Shape,
        pass: Pass,
        addresses: [u64; 4],
        products: &Products<'_>,
    ) -> Result<Option<Candidate>> {
        engine.interrupt()?;
        let deterministic = engine.precision().deterministic;
        // What is added to must not be added to here.
        let adds = pass == Pass::Data { adds: true };
        let room = if adds {
            let values = shape.batch * shape.geometry.image();
            match engine.lasting(values, DType::F32) {
                Ok(room) => Some(room),
                // Without room to try, cuDNN's own choice has to do.
                Err(error) if is_out_of_memory(&error) => {
                    return Ok(plan.candidates(pass, deterministic).first().copied());
                }
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let mut there = addresses;
        if let Some(room) = &room {
            there[0] = at(room)?;
        }
        let mut best: Option<(Candidate, f32)> = None;
        for candidate in plan.candidates(pass, deterministic) {
            let asked = match convolution(engine, shape, candidate, false, there) {
                Ok(asked) => asked,
                Err(error) if is_out_of_memory(&error) => continue,
                Err(error) => return Err(error),
            };
            if self.issue(&asked).is_err() {
                // A refusal leaves the device as it was; anything worse shows when it is waited for.
                engine.synchronize()?;
                continue;
            }
            if deterministic {
                return Ok(Some(candidate));
            }
            let took = self.timed(&|| self.issue(&asked))?;
            if best.is_none_or(|(_, least)| took < least) {
                best = Some((candidate, took));
            }
        }
        let Some((candidate, least)) = best else {
            return Ok(None);
        };
        if adds {
            return Ok(Some(candidate));
        }
        match products().and_then(|()| engine.interrupt()) {
            // What does not fit is not faster.
            Err(error) if is_out_of_memory(&error) => return Ok(Some(candidate)),
            done => done?,
        }
        let took = self.timed(&|| products())?;
        Ok((took >= least).then_some(candidate))
    }

    /// Milliseconds of some runs.
    fn timed(&self, work: &dyn Fn() -> Result<()>) -> Result<f32> {
        let with_time = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        let begin = self.stream.record_event(with_time).map_err(failed)?;
        for _ in 0..TIMED {
            work()?;
        }
        let end = self.stream.record_event(with_time).map_err(failed)?;
        begin.elapsed_ms(&end).map_err(failed)
    }

    /// Asks cuDNN, now.
    pub(super) fn issue(&self, convolution: &Convolution) -> Result<()> {
        let plans = self.plans.borrow();
        let plan = plans.get(&convolution.shape);
        let Some(plan) = plan else {
            return Err(invalid("a convolution was not planned"));
        };
        let mut memory = (convolution.bytes > 0).then_some(Raw {
            address: convolution.memory,
            bytes: convolution.bytes,
            stream: &self.stream,
        });
        let [mut first, mut second, mut third, bias_there] =
            convolution.addresses.map(|address| self.raw(address));
        let Plan { conv, x, w, y, .. } = &**plan;
        let (memory, scales) = (
            memory.as_mut(),
            (1.0, if convolution.adds { 1.0 } else { 0.0 }),
        );
        // SAFETY: the op owns tensors of this shape at these addresses.
        let done = unsafe {
            match convolution.way {
                Way::Forward(algorithm) => {
                    let pass = ConvForward { conv, x, w, y };
                    pass.launch(algorithm, memory, scales, &first, &second, &mut third)
                }
                Way::Rectified(algorithm) => {
                    let pass = ConvBiasActivationForward {
                        conv,
                        act: &plan.relu,
                        x,
                        w,
                        z: y,
                        bias: &plan.bias,
                        y,
                    };
                    // Nothing is added but the bias: what would be is the result itself, times 0.
                    let added = self.raw(convolution.addresses[2]);
                    pass.launch(
                        algorithm,
                        memory,
                        scales,
                        &first,
                        &second,
                        &added,
                        &bias_there,
                        &mut third,
                    )
                }
                Way::Data(algorithm) => {
                    let pass = ConvBackwardData {
                        conv,
                        dx: x,
                        w,
                        dy: y,
                    };
                    pass.launch(algorithm, memory, scales, &mut first, &second, &third)
                }
                Way::Filter(algorithm) => {
                    let pass = ConvBackwardFilter {
                        conv,
                        x,
                        dw: w,
                        dy: y,
                    };
                    pass.launch(algorithm, memory, scales, &first, &mut second, &third)
                }
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

/// A convolution without cuDNN, or in more passes: what its algorithms have to beat.
pub(crate) type Products<'p> = dyn Fn() -> Result<()> + 'p;

/// An algorithm with its memory.
fn convolution(
    engine: &Engine,
    shape: Shape,
    (way, bytes): Candidate,
    adds: bool,
    addresses: [u64; 4],
) -> Result<Convolution> {
    let memory = match bytes {
        0 => 0,
        bytes => engine.scratch(Slot::Workspace, bytes.div_ceil(4))?,
    };
    Ok(Convolution {
        shape,
        way,
        adds,
        addresses,
        memory,
        bytes,
    })
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
