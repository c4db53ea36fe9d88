#!/usr/bin/env python3
"""Check the emulated device against PyTorch: check-emulator.py OUT, the folder that build-emulator.sh filled."""
import ctypes as C
import itertools
import os
import subprocess
import sys

import torch
import torch.nn.functional as F

OUT = sys.argv[1]
os.environ["EMULATED_MEMORY"] = "64M"
lib = C.CDLL(os.path.join(OUT, "libemulated.so"))
P = C.c_void_p


def ok(name, *args, expect=0):
    code = getattr(lib, name)(*args)
    assert code == expect, f"{name}: {code} instead of {expect}"


def new(name, *args):
    handle = P()
    ok(name, C.byref(handle), *args)
    return handle


ok("cuInit", 0)
ok("cuMemAlloc_v2", C.byref(P()), C.c_size_t(4), expect=201)  # no context yet
ok("cuCtxSetCurrent", new("cuDevicePrimaryCtxRetain", 0))


class On:
    """A tensor's values on the device, in the order in which they lie."""

    def __init__(self, values):
        self.values = values.contiguous()
        self.bytes = C.c_size_t(self.values.numel() * self.values.element_size())
        self.at = new("cuMemAllocAsync", self.bytes, None)
        ok("cuMemcpyHtoDAsync_v2", self.at, P(self.values.data_ptr()), self.bytes, None)

    def back(self):
        out = torch.empty_like(self.values)
        ok("cuMemcpyDtoHAsync_v2", P(out.data_ptr()), self.at, self.bytes, None)
        ok("cuCtxSynchronize")
        return out

    def __del__(self):
        ok("cuMemFreeAsync", self.at, None)


def empty(*shape):
    return torch.full(shape, float("nan"))


def close(a, b, tolerance=2e-4):
    assert a.shape == b.shape and torch.allclose(a, b, tolerance, tolerance), (a - b).abs().max()


def build(source, *options):
    program = new("nvrtcCreateProgram", source.encode(), b"check.cu", 0, None, None)
    words = (C.c_char_p * len(options))(*[o.encode() for o in options])
    code = lib.nvrtcCompileProgram(program, len(options), words)
    size = C.c_size_t()
    ok("nvrtcGetProgramLogSize", program, C.byref(size))
    log = C.create_string_buffer(size.value)
    ok("nvrtcGetProgramLog", program, log)
    if code:
        return code, log.value.decode()
    ok("nvrtcGetCUBINSize", program, C.byref(size))
    image = C.create_string_buffer(size.value)
    ok("nvrtcGetCUBIN", program, image)
    ok("nvrtcDestroyProgram", C.byref(program))
    return new("cuModuleLoadData", image), log.value.decode()


def launch(module, name, grid, block, *args, shared=0, expect=0):
    function = new("cuModuleGetFunction", module, name.encode())
    boxes = [a.at if isinstance(a, On) else a for a in args]
    places = (P * len(boxes))(*[C.cast(C.byref(b), P) for b in boxes])
    grid, block = (tuple(v) + (1, 1, 1) for v in (grid, block))
    ok("cuLaunchKernel", function, *grid[:3], *block[:3], shared, None, places, None, expect=expect)


SOURCE = r"""
#define KERNEL extern "C" __global__ void
struct Pair { int by; float plus; };
template <typename T> __device__ __forceinline__ T of_block(T value) {
    __shared__ T sums[32], total;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
    for (int o = 16; o > 0; o >>= 1) value += __shfl_down_sync(0xffffffffu, value, o);
    if (lane == 0) sums[warp] = value;
    __syncthreads();
    if (warp == 0) {
        value = lane < warps ? sums[lane] : (T)0;
        for (int o = 16; o > 0; o >>= 1) value += __shfl_xor_sync(0xffffffffu, value, o);
        if (lane == 0) total = value;
    }
    __syncthreads();
    return total;
}
KERNEL scale(const float *__restrict__ x, float *y, Pair pair, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = x[i] * pair.by + pair.plus;
}
KERNEL __launch_bounds__(256) sum(const float *x, float *y, double *partial, unsigned int *counter, int n) {
    __shared__ bool last;
    double part = 0.0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) part += x[i];
    part = of_block(part);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = part;
        __threadfence();
        last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    part = of_block(threadIdx.x < gridDim.x ? partial[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) *y = (float)part;
}
KERNEL turn(const float *x, float *y, int rows, int columns) {
    extern __shared__ float tile[];
    int c = blockIdx.x * 16 + threadIdx.x, r = blockIdx.y * 16 + threadIdx.y;
    if (c < columns && r < rows) tile[threadIdx.y * 17 + threadIdx.x] = x[r * columns + c];
    __syncthreads();
    c = blockIdx.x * 16 + threadIdx.y, r = blockIdx.y * 16 + threadIdx.x;
    if (c < columns && r < rows) y[c * rows + r] = tile[threadIdx.x * 17 + threadIdx.y];
}
KERNEL votes(unsigned *y) {
    if (threadIdx.x >= 40) return;
    unsigned active = threadIdx.x < 32 ? 0xffffffffu : 0xffu;
    unsigned odd = __ballot_sync(active, threadIdx.x & 1);
    if ((threadIdx.x & 31) < 4) odd += __shfl_sync(0xfu, (int)threadIdx.x, 2) << 8;
    y[threadIdx.x] = odd ^ __syncthreads_count(threadIdx.x < 5);
}
KERNEL unwritten(float *y) {
    __shared__ float values[4];
    y[0] = values[1];
    y[1] = fmaxf(expf(0.0f), 0.5f) + rsqrtf(4.0f) + max(1, 2) + float4(make_float4(1, 2, 3, 4)).w;
}
KERNEL half_barrier(float *y) { if (threadIdx.x < 5) __syncthreads(); else __syncwarp(); if (threadIdx.x > 40) __syncthreads(); }
KERNEL two_barriers(float *y) { if (threadIdx.x < 5)
    __syncthreads(); else
    __syncthreads(); }
KERNEL outside(float *y, int n) { y[n] = 1.0f; }
"""


def module():
    built, log = build(SOURCE, "--gpu-architecture=sm_90", "--std=c++17")
    assert not isinstance(built, int), log
    return built


def kernels():
    code, log = build('KERNEL f() { undefined_name; }\n', "-DKERNEL=extern \"C\" __global__ void")
    assert code == 6 and "check.cu:1" in log and "undefined_name" in log, log
    assert build("#include <math.h>\n")[0] == 6 and build("", "--no-such-option")[0] == 5
    m = module()
    pair = type("Pair", (C.Structure,), {"_fields_": [("by", C.c_int), ("plus", C.c_float)]})
    x, y = On(torch.randn(10_001)), On(empty(10_001))
    launch(m, "scale", (7,), (128,), x, y, pair(3, 0.5), C.c_int(10_001))
    close(y.back(), x.values * 3 + 0.5)
    for threads, blocks, order in itertools.product((32, 96, 256), (1, 5, 32), ("forward", "reverse")):
        os.environ["EMULATED_ORDER"] = order
        total, counter = On(empty(1)), On(torch.zeros(1, dtype=torch.int32))
        for _ in range(2):
            launch(m, "sum", (blocks,), (threads,), x, total, On(empty(blocks).double()), counter, C.c_int(10_001))
            close(total.back(), x.values.double().sum().float().reshape(1))
        assert counter.back().item() == 0
    launch(m, "sum", (1,), (512,), x, total, total, counter, C.c_int(1), expect=701)  # more than its bounds
    x, y = On(torch.randn(50, 37)), On(empty(37, 50))
    launch(m, "turn", (3, 4), (16, 16), x, y, C.c_int(50), C.c_int(37), shared=17 * 16 * 4)
    close(y.back(), x.values.T.contiguous(), 0)
    launch(m, "turn", (3, 4), (16, 16), x, y, C.c_int(50), C.c_int(37), shared=1 << 20, expect=1)
    y = On(torch.zeros(40, dtype=torch.int32))
    launch(m, "votes", (1,), (64,), y)
    expected = [((0xAAAAAAAA if i < 32 else 0xAA) + (((2 if i < 32 else 34) << 8) if i % 32 < 4 else 0) & 0xFFFFFFFF) ^ 5 for i in range(40)]
    assert [v & 0xFFFFFFFF for v in y.back().tolist()] == expected, y.back()
    y = On(torch.zeros(2))
    launch(m, "unwritten", (1,), (1,), y)
    assert y.back()[0].isnan() and y.back()[1] == 1 + 0.5 + 2 + 4
    ok("cuModuleGetFunction", C.byref(P()), m, b"nothing", expect=500)


def deaths():
    """What ends the program, each in a program of its own."""
    cases = {
        "barrier": "reach a barrier",
        "two": "different barriers",
        "outside": "kernel outside",
        "before": "written before",
        "late": "no memory of the device",
        "foreign": "kernel copy_f32 is of an image that only a GPU can run",
        "length": "8 left",
    }
    for case, text in cases.items():
        done = subprocess.run([sys.executable, __file__, OUT, case], capture_output=True, text=True)
        assert done.returncode < 0 and text in done.stderr, (case, done.stderr)


def die(case):
    if case == "foreign":
        launch(new("cuModuleLoadData", b".version 8.0\n.target sm_80\n"), "copy_f32", (1,), (1,))
    m, y = module(), On(torch.zeros(64))
    if case == "barrier":
        launch(m, "half_barrier", (1,), (64,), y)
    if case == "two":
        launch(m, "two_barriers", (1,), (64,), y)
    if case in ("outside", "before"):
        launch(m, "outside", (1,), (1,), y, C.c_int(64 if case == "outside" else -1))
        y.back()
    if case == "late":
        ok("cuMemFreeAsync", y.at, None)
        launch(m, "unwritten", (1,), (1,), y)
    if case == "length":
        ok("cuMemcpyHtoD_v2", P(y.at.value + 248), P(y.values.data_ptr()), C.c_size_t(12))


def memory():
    free, total, first = C.c_size_t(), C.c_size_t(), C.c_size_t()
    ok("cuMemGetInfo_v2", C.byref(first), C.byref(total))
    assert total.value == 64 << 20
    ok("cuMemAllocAsync", C.byref(P()), C.c_size_t(first.value + 1), None, expect=2)
    ok("cuMemAllocAsync", C.byref(P()), C.c_size_t(0), None, expect=1)
    kept = On(empty(1000))
    fresh = new("cuMemAllocAsync", C.c_size_t(4000), None)
    ok("cuMemcpyDtoHAsync_v2", P(kept.values.zero_().data_ptr()), fresh, C.c_size_t(4000), None)
    assert kept.values.isnan().all()
    ok("cuMemFreeAsync", fresh, None)
    del kept
    ok("cuMemGetInfo_v2", C.byref(free), C.byref(total))
    assert free.value == first.value


def blas():
    handle = new("cublasCreate_v2")
    one = lambda v: C.byref(C.c_float(v))  # noqa: E731
    for m, n, k in [(1, 1, 1), (5, 7, 3), (64, 33, 300), (300, 130, 50), (17, 1100, 9)]:
        for ta, tb, beta in itertools.product((0, 1), (0, 1), (0.0, 0.5)):
            # Column by column: what PyTorch lays out row by row is the transpose.
            a, b = torch.randn(*((k, m) if ta == 0 else (m, k))), torch.randn(*((n, k) if tb == 0 else (k, n)))
            c = torch.randn(n, m)
            left, right = (a.T if ta == 0 else a), (b.T if tb == 0 else b)
            expected = (2.0 * left @ right).T + (beta * c if beta else 0.0)
            da, db, dc = On(a), On(b), On(c if beta else empty(n, m))
            lda, ldb = a.shape[1], b.shape[1]
            ok("cublasSgemm_v2", handle, ta, tb, m, n, k, one(2.0), da.at, lda, db.at, ldb, one(beta), dc.at, m)
            close(dc.back(), expected)
    x, w, y = torch.randn(6, 40, 20), torch.randn(6, 20, 30), On(empty(6, 40, 30))
    dx, dw = On(x), On(w)
    long = C.c_longlong
    for compute, tolerance in ((68, 2e-4), (77, 2e-2)):
        ok("cublasGemmStridedBatchedEx", handle, 0, 0, 30, 40, 20, one(1.0), dw.at, 0, 30, long(600), dx.at, 0, 20, long(800),
           one(0.0), y.at, 0, 30, long(1200), 6, compute, -1)
        close(y.back(), x @ w, tolerance)
        assert (compute == 68) == torch.allclose(y.back(), x @ w, 1e-5, 1e-5)
    ok("cublasGemmEx", handle, 0, 0, 30, 40, 20, one(1.0), dw.at, 2, 30, dx.at, 0, 20, one(0.0), y.at, 0, 30, 68, -1, expect=15)
    matrix, vector, out = On(torch.randn(9, 5)), On(torch.randn(9)), On(empty(5))
    ok("cublasSgemv_v2", handle, 0, 5, 9, one(1.0), matrix.at, 5, vector.at, 1, one(0.0), out.at, 1)
    close(out.back(), matrix.values.T @ vector.values)


def dnn():
    handle = new("cudnnCreate")
    one = lambda v: C.byref(C.c_float(v))  # noqa: E731
    count, results, space = C.c_int(), (C.c_char * (48 * 8))(), C.c_size_t()
    shapes = [(2, 3, 9, 8, 4, 3, 1, 1, 1, 1), (3, 8, 12, 12, 6, 5, 2, 2, 1, 2), (2, 6, 7, 7, 6, 3, 2, 1, 1, 6), (1, 1, 28, 28, 6, 5, 1, 0, 1, 1),
              (2, 4, 10, 10, 8, 3, 1, 2, 2, 4), (4, 16, 6, 6, 32, 1, 1, 0, 1, 1), (2, 16, 5, 5, 10, 5, 1, 0, 1, 1)]
    for shape, last in itertools.product(shapes, (False, True)):
        n, c, h, w, k, size, stride, pad, dilation, groups = shape
        x, v = torch.randn(n, c, h, w, requires_grad=True), torch.randn(k, c // groups, size, size, requires_grad=True)
        y = F.conv2d(x, v, None, stride, pad, dilation, groups)
        dy = torch.randn_like(y)
        y.backward(dy)
        lay = (lambda t: t.detach().permute(0, 2, 3, 1).contiguous()) if last else (lambda t: t.detach())
        tx, ty, tw, tc, tb = (new(f"cudnnCreate{name}Descriptor") for name in ("Tensor", "Tensor", "Filter", "Convolution", "Tensor"))
        ok("cudnnSetTensor4dDescriptor", tx, int(last), 0, n, c, h, w)
        ok("cudnnSetTensor4dDescriptor", ty, int(last), 0, *y.shape)
        ok("cudnnSetTensor4dDescriptor", tb, int(last), 0, 1, k, 1, 1)
        ok("cudnnSetFilter4dDescriptor", tw, 0, int(last), *v.shape)
        ok("cudnnSetConvolution2dDescriptor", tc, pad, pad, stride, stride, dilation, dilation, 1, 0)
        ok("cudnnSetConvolutionGroupCount", tc, groups)
        ok("cudnnSetConvolutionMathType", tc, 3)
        px, pv, pdy = On(lay(x)), On(lay(v)), On(lay(dy))
        for mode, first, tensors, expected in (
            ("Forward", "Forward", (tx, px, tw, pv, ty), y), ("BackwardData", "BackwardData", (tw, pv, ty, pdy, tx), x.grad),
            ("BackwardFilter", "BackwardFilter", (tx, px, ty, pdy, tw), v.grad)):
            a, pa, b, pb, result = tensors
            descriptors = (a, b, tc, result)
            ok(f"cudnnGetConvolution{mode}Algorithm_v7", handle, *descriptors, 8, C.byref(count), results)
            assert count.value >= 3
            for i in range(count.value):
                algorithm, status = (int.from_bytes(results[48 * i + at:48 * i + at + 4], "little") for at in (0, 4))
                ok(f"cudnnGetConvolution{mode}WorkspaceSize", handle, *descriptors, algorithm, C.byref(space), expect=status)
                if status:
                    continue
                work = On(empty(max(1, space.value // 4)))
                for beta in (0.0, 0.5):
                    old = torch.randn_like(expected) if beta else torch.full_like(expected, float("nan"))
                    out = On(lay(old))
                    call = (handle, one(2.0), a, pa.at, b, pb.at, tc, algorithm, work.at, C.c_size_t(space.value), one(beta), result, out.at)
                    ok(f"cudnnConvolution{mode}", *call)
                    close(out.back(), lay(2 * expected + (beta * old if beta else 0)), 1e-3)
                    if space.value:
                        ok(f"cudnnConvolution{mode}", *call[:9], C.c_size_t(space.value - 1), *call[10:], expect=2006)
        db = On(empty(k))
        ok("cudnnConvolutionBackwardBias", handle, one(1.0), ty, pdy.at, one(0.0), tb, db.at)
        close(db.back(), dy.sum((0, 2, 3)), 1e-3)
        out, bias = On(lay(y)), On(torch.randn(k))
        ok("cudnnAddTensor", handle, one(1.0), tb, bias.at, one(1.0), ty, out.at)
        close(out.back(), lay(y + bias.values[:, None, None]))
        relu, z = new("cudnnCreateActivationDescriptor"), On(lay(torch.randn_like(y)))
        ok("cudnnSetActivationDescriptor", relu, 1, 0, C.c_double(0))
        ok("cudnnConvolutionBiasActivationForward", handle, one(1.0), tx, px.at, tw, pv.at, tc, 0, None, C.c_size_t(0), one(0.5), ty, z.at,
           tb, bias.at, relu, ty, out.at)
        close(out.back(), (lay(y + bias.values[:, None, None]) + 0.5 * z.values).relu(), 1e-3)
        if c > 1:
            ok("cudnnSetFilter4dDescriptor", tw, 0, int(not last), *v.shape)
            ok("cudnnGetConvolutionForwardWorkspaceSize", handle, tx, tw, tc, ty, 0, C.byref(space), expect=3000)


if len(sys.argv) > 2:
    die(sys.argv[2])
    sys.exit()
torch.manual_seed(0)
for check in (memory, kernels, blas, dnn, deaths):
    check()
    print(check.__name__, "ok")
