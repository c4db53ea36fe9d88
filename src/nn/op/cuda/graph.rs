//! A list of commands as a CUDA graph: one call of the driver asks for all of them.
//!
//! CUDA C++ Programming Guide, "CUDA Graphs". A graph is made by asking for the commands once more while the stream only
//! takes them down; what their kernels are told can be changed afterwards, and nothing else.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc;
use cudarc::driver::{CudaStream, result, sys};

use super::command::{Call, Command};
use super::{Engine, failed};
use crate::nn::{Result, invalid};

/// Commands, one after the other.
pub(super) struct Graph {
    /// As they were taken down; its nodes are named by it.
    taken: sys::CUgraph,
    executable: sys::CUgraphExec,
    /// For each command its node, if it is a kernel.
    nodes: Vec<Option<sys::CUgraphNode>>,
    stream: Arc<CudaStream>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph of {} commands", self.nodes.len())
    }
}

impl Graph {
    /// Takes the commands down; nothing of them is done yet. They must have been done before, so that the libraries have
    /// all that they make when they are first asked.
    pub(super) fn of(engine: &Engine, commands: &[Command]) -> Result<Self> {
        let stream = Arc::clone(&engine.stream);
        // This thread alone uses the device, and no call of another can be mistaken for one of the graph's.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(failed)?;
        let mut nodes = Vec::with_capacity(commands.len());
        let asked: Result<()> = commands.iter().try_for_each(|command| {
            engine.issue(command)?;
            nodes.push(match command {
                Command::Kernel(_) => Some(last_node(&stream)?),
                _ => None,
            });
            Ok(())
        });
        // Also after an error, or the stream would take down whatever comes.
        // SAFETY: the stream is one that takes down.
        let ended = unsafe { result::stream::end_capture(stream.cu_stream()) };
        asked?;
        let graph = ended.map_err(failed)?;
        if graph.is_null() {
            return Err(invalid("a GPU took no graph down"));
        }
        let mut made = Self {
            taken: graph,
            executable: std::ptr::null_mut(),
            nodes,
            stream,
        };
        let flags = sys::CUgraphInstantiate_flags(0);
        // SAFETY: the graph is whole.
        made.executable = unsafe { result::graph::instantiate(graph, flags).map_err(failed)? };
        Ok(made)
    }

    /// Asks for all commands, of which the kernels at these places are told something else from now on.
    pub(super) fn launch(&self, changed: &[(usize, Call)]) -> Result<()> {
        for (at, call) in changed {
            let node = self.nodes.get(*at).copied().flatten();
            let node = node.ok_or_else(|| invalid("only kernels can be told something else"))?;
            // SAFETY: the node is a kernel of this graph, and the driver copies the arguments before the call returns.
            let told = call.with(|func, [x, y], threads, places| unsafe {
                let parameters = sys::CUDA_KERNEL_NODE_PARAMS {
                    func,
                    gridDimX: x,
                    gridDimY: y,
                    gridDimZ: 1,
                    blockDimX: threads,
                    blockDimY: 1,
                    blockDimZ: 1,
                    sharedMemBytes: 0,
                    kernelParams: places.as_mut_ptr(),
                    extra: std::ptr::null_mut(),
                    kern: std::ptr::null_mut(),
                    ctx: std::ptr::null_mut(),
                };
                sys::cuGraphExecKernelNodeSetParams_v2(self.executable, node, &raw const parameters)
                    .result()
            })?;
            told.map_err(failed)?;
        }
        // SAFETY: the graph is whole, and everything that its commands were given lies where it lay.
        unsafe { result::graph::launch(self.executable, self.stream.cu_stream()).map_err(failed) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: both were made here, and a graph that is under way is done before it is gone.
        unsafe {
            if !self.executable.is_null() {
                let _ = result::graph::exec_destroy(self.executable);
            }
            let _ = result::graph::destroy(self.taken);
        }
    }
}

/// The node of what a stream took down last.
fn last_node(stream: &CudaStream) -> Result<sys::CUgraphNode> {
    let mut status = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    let mut nodes: *const sys::CUgraphNode = std::ptr::null();
    // Asked for, too: the driver refuses to answer where edges carry more than an order and nobody wants to know.
    let mut edges: *const sys::CUgraphEdgeData = std::ptr::null();
    let mut count = 0;
    // SAFETY: all that is written to lives here; what is pointed to is read before the next call.
    unsafe {
        sys::cuStreamGetCaptureInfo_v3(
            stream.cu_stream(),
            &raw mut status,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw mut nodes,
            &raw mut edges,
            &raw mut count,
        )
        .result()
        .map_err(failed)?;
        if count == 1 && !nodes.is_null() {
            return Ok(*nodes);
        }
    }
    Err(invalid("a GPU's stream lost its order"))
}
