// The driver's interface: everything happens at once and in the order that it is asked for, so streams have nothing to
// do. What a real driver refuses is refused here: no context, too many threads, an image of another card, no memory.
#include "emulator.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <mutex>

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 1, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
       INVALID_CONTEXT = 201, FILE_NOT_FOUND = 301, INVALID_HANDLE = 400, NOT_FOUND = 500, OUT_OF_RESOURCES = 701,
       NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900 };

using Clock = std::chrono::steady_clock;

struct Context { int device; };
struct Stream { int device; };
struct Event {
    bool timed, recorded;
    Clock::time_point at;
};
struct Pool {
    int device;
    uint64_t values[9];
};
struct Module {
    void *library;
    Frame frame;
    std::map<std::string, std::unique_ptr<Kernel>> kernels;
};

bool initialized = false;
Context contexts[16];
Pool pools[16];
thread_local Context *current = nullptr;

/// Nothing works on a thread without a context.
#define NEEDS_CONTEXT()                                                                                                \
    if (!current) return INVALID_CONTEXT
/// Nothing but work on the stream goes into a graph.
#define NEEDS_NO_CAPTURE()                                                                                             \
    if (is_taking()) return CAPTURE_UNSUPPORTED
#define NEEDS_DEVICE(device)                                                                                           \
    if (!initialized) return NOT_INITIALIZED;                                                                          \
    if ((device) < 0 || (device) >= devices()) return INVALID_DEVICE

// What an H100 answers, by the attribute's number; 0 for all that is not listed.
const std::map<int, int> ATTRIBUTES = {
    {1, 1024}, {2, 1024}, {3, 1024}, {4, 64},                    // threads per block
    {5, 2147483647}, {6, 65535}, {7, 65535},                     // blocks
    {8, 49152}, {9, 65536}, {10, 32}, {11, 2147483647},          // shared, constant, warp, pitch
    {12, 65536}, {13, 1980000}, {14, 512}, {15, 1}, {16, 132},   // registers, kHz, alignment, copies beside, processors
    {19, 1}, {31, 1}, {32, 1}, {36, 2619000}, {37, 5120},        // host memory, kernels beside, ECC, memory kHz and bits
    {38, 50 << 20}, {39, 2048}, {40, 3}, {41, 1},                // L2, threads per processor, copy engines, addresses
    {75, 9}, {76, 0}, {78, 1}, {79, 1}, {80, 1},                 // compute capability, priorities, L1
    {81, 233472}, {82, 65536}, {83, 1}, {90, 1}, {95, 1},        // shared and registers per processor, managed
    {97, 232448}, {106, 32}, {111, 1024}, {115, 1}, {119, 1},    // shared at most, blocks, memory pools
};

struct Named { int number; const char *name, *text; };
const Named ERRORS[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {301, "CUDA_ERROR_FILE_NOT_FOUND", "file not found"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {401, "CUDA_ERROR_ILLEGAL_STATE", "the operation cannot be performed in the present state"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
};

const Named *named(int number) {
    for (const Named &error : ERRORS)
        if (error.number == number) return &error;
    return nullptr;
}

int loaded(Module **module, const void *image) {
    std::string library;
    if (int error = load_image(image, &library)) return error;
    auto made = std::make_unique<Module>();
    if (!library.empty()) {
        made->library = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!made->library) {
            fprintf(stderr, "emulated device: %s\n", dlerror());
            return INVALID_IMAGE;
        }
        ((void (*)(Frame *))dlsym(made->library, "emulated_open"))(&made->frame);
    }
    *module = made.release();
    return SUCCESS;
}

int copy(const char *name, void *to, bool to_device, const void *from, bool from_device, size_t bytes) {
    NEEDS_CONTEXT();
    if (to_device && from_device && take_down([=, text = std::string(name)] { return copy(text.c_str(), to, true, from, true, bytes); }))
        return SUCCESS;
    NEEDS_NO_CAPTURE();
    if (to_device) require(to, bytes, std::string(name) + " to");
    if (from_device) require(from, bytes, std::string(name) + " from");
    memmove(to, from, bytes);
    return SUCCESS;
}

int fill(void *at, unsigned value, size_t width, size_t n) {
    NEEDS_CONTEXT();
    if (take_down([=] { return fill(at, value, width, n); })) return SUCCESS;
    require(at, n * width, "memset");
    if (width == 1) memset(at, (int)value, n);
    else
        for (size_t i = 0; i < n; i++) memcpy((char *)at + i * width, &value, width);
    return SUCCESS;
}

int synchronized() {
    NEEDS_CONTEXT();
    NEEDS_NO_CAPTURE();
    check_guards();
    return SUCCESS;
}

} // namespace

API int cuInit(unsigned) { return initialized = true, devices() ? SUCCESS : NO_DEVICE; }
API int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }

API int cuGetErrorName(int error, const char **text) {
    const Named *found = named(error);
    *text = found ? found->name : "CUDA_ERROR_UNKNOWN";
    return SUCCESS;
}
API int cuGetErrorString(int error, const char **text) {
    const Named *found = named(error);
    *text = found ? found->text : "unknown error";
    return SUCCESS;
}

// Devices.
API int cuDeviceGetCount(int *count) { return initialized ? (*count = devices(), SUCCESS) : NOT_INITIALIZED; }
API int cuDeviceGet(int *device, int ordinal) {
    NEEDS_DEVICE(ordinal);
    return *device = ordinal, SUCCESS;
}
API int cuDeviceGetName(char *name, int size, int device) {
    NEEDS_DEVICE(device);
    return snprintf(name, (size_t)size, "Emulated device %d", device), SUCCESS;
}
API int cuDeviceGetAttribute(int *value, int attribute, int device) {
    NEEDS_DEVICE(device);
    auto found = ATTRIBUTES.find(attribute);
    return *value = found == ATTRIBUTES.end() ? 0 : found->second, SUCCESS;
}
API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    NEEDS_DEVICE(device);
    size_t available;
    return memory_of(device, &available, bytes), SUCCESS;
}
API int cuDeviceGetUuid_v2(char *uuid, int device) {
    NEEDS_DEVICE(device);
    memcpy(uuid, "emulated device ", 16);
    return uuid[15] = (char)('0' + device), SUCCESS;
}
API int cuDeviceGetUuid(char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
API int cuDeviceGetPCIBusId(char *text, int size, int device) {
    NEEDS_DEVICE(device);
    return snprintf(text, (size_t)size, "0000:%02x:00.0", device), SUCCESS;
}

// Contexts: the primary one of each device.
API int cuDevicePrimaryCtxRetain(Context **context, int device) {
    NEEDS_DEVICE(device);
    contexts[device].device = device;
    return *context = &contexts[device], SUCCESS;
}
API int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API int cuCtxGetCurrent(Context **context) { return *context = current, SUCCESS; }
API int cuCtxSetCurrent(Context *context) { return current = context, SUCCESS; }
API int cuCtxGetDevice(int *device) {
    NEEDS_CONTEXT();
    return *device = current->device, SUCCESS;
}
API int cuCtxDestroy_v2(Context *) { return SUCCESS; }
API int cuCtxCreate_v3(Context **context, void *, int, unsigned, int device) { return current = *context = &contexts[device], SUCCESS; }
API int cuCtxCreate_v4(Context **context, void *, unsigned, int device) { return current = *context = &contexts[device], SUCCESS; }
API int cuCtxSynchronize() { return synchronized(); }
API int cuCtxSetFlags(unsigned) { return SUCCESS; }
API int cuCtxGetLimit(size_t *value, int) { return *value = 0, SUCCESS; }
API int cuCtxSetLimit(int, size_t) { return SUCCESS; }
API int cuCtxGetCacheConfig(int *config) { return *config = 0, SUCCESS; }
API int cuCtxSetCacheConfig(int) { return SUCCESS; }
API int cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }

// Streams and events.
API int cuStreamCreate(Stream **stream, unsigned) {
    NEEDS_CONTEXT();
    return *stream = new Stream{current->device}, SUCCESS;
}
API int cuStreamCreateWithPriority(Stream **stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
API int cuStreamDestroy_v2(Stream *stream) {
    if ((uintptr_t)stream > 2) delete stream; // 0, 1 and 2 are the streams that always are
    return SUCCESS;
}
API int cuStreamSynchronize(Stream *) { return synchronized(); }
API int cuStreamQuery(Stream *) { return SUCCESS; }
API int cuStreamWaitEvent(Stream *, Event *event, unsigned) { return event ? SUCCESS : INVALID_HANDLE; }
API int cuLaunchHostFunc(Stream *, void (*function)(void *), void *data) { return function(data), SUCCESS; }
API int cuEventCreate(Event **event, unsigned flags) {
    NEEDS_CONTEXT();
    return *event = new Event{!(flags & 2), false, {}}, SUCCESS;
}
API int cuEventDestroy_v2(Event *event) { return delete event, SUCCESS; }
API int cuEventRecord(Event *event, Stream *) {
    if (!event) return INVALID_HANDLE;
    event->recorded = true;
    return event->at = Clock::now(), SUCCESS;
}
API int cuEventQuery(Event *event) { return event ? SUCCESS : INVALID_HANDLE; }
API int cuEventSynchronize(Event *event) { return event ? synchronized() : INVALID_HANDLE; }
API int cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
    if (!start || !end || !start->timed || !end->timed || !start->recorded || !end->recorded) return INVALID_HANDLE;
    return *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count(), SUCCESS;
}
API int cuEventElapsedTime(float *milliseconds, Event *start, Event *end) { return cuEventElapsedTime_v2(milliseconds, start, end); }

// Memory.
API int cuMemAlloc_v2(void **address, size_t bytes) {
    NEEDS_CONTEXT();
    NEEDS_NO_CAPTURE();
    return bytes ? allocate(current->device, bytes, address) : INVALID_VALUE;
}
API int cuMemAllocAsync(void **address, size_t bytes, Stream *) { return cuMemAlloc_v2(address, bytes); }
API int cuMemAllocFromPoolAsync(void **address, size_t bytes, Pool *, Stream *) { return cuMemAlloc_v2(address, bytes); }
API int cuMemFree_v2(void *address) {
    NEEDS_CONTEXT();
    NEEDS_NO_CAPTURE();
    return release(address);
}
API int cuMemFreeAsync(void *address, Stream *) { return cuMemFree_v2(address); }
API int cuMemGetInfo_v2(size_t *available, size_t *total) {
    NEEDS_CONTEXT();
    return memory_of(current->device, available, total), SUCCESS;
}
API int cuMemHostAlloc(void **address, size_t bytes, unsigned) { return *address = malloc(bytes), *address ? SUCCESS : 2; }
API int cuMemAllocHost_v2(void **address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }
API int cuMemFreeHost(void *address) { return free(address), SUCCESS; }
API int cuMemsetD8_v2(void *at, unsigned char value, size_t n) { return fill(at, value, 1, n); }
API int cuMemsetD8Async(void *at, unsigned char value, size_t n, Stream *) { return fill(at, value, 1, n); }
API int cuMemsetD32_v2(void *at, unsigned value, size_t n) { return fill(at, value, 4, n); }
API int cuMemsetD32Async(void *at, unsigned value, size_t n, Stream *) { return fill(at, value, 4, n); }
API int cuMemcpyHtoD_v2(void *to, const void *from, size_t n) { return copy("copy from host", to, true, from, false, n); }
API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t n, Stream *) { return cuMemcpyHtoD_v2(to, from, n); }
API int cuMemcpyDtoH_v2(void *to, const void *from, size_t n) { return copy("copy to host", to, false, from, true, n); }
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t n, Stream *) { return cuMemcpyDtoH_v2(to, from, n); }
API int cuMemcpyDtoD_v2(void *to, const void *from, size_t n) { return copy("copy", to, true, from, true, n); }
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t n, Stream *) { return cuMemcpyDtoD_v2(to, from, n); }
API int cuMemcpyPeerAsync(void *to, Context *, const void *from, Context *, size_t n, Stream *) { return cuMemcpyDtoD_v2(to, from, n); }
API int cuMemcpy(void *to, const void *from, size_t n) { return copy("copy", to, is_live(to), from, is_live(from), n); }
API int cuMemcpyAsync(void *to, const void *from, size_t n, Stream *) { return cuMemcpy(to, from, n); }

// Memory pools: numbers are kept, and what is used is counted.
API int cuDeviceGetDefaultMemPool(Pool **pool, int device) {
    NEEDS_DEVICE(device);
    pools[device].device = device;
    return *pool = &pools[device], SUCCESS;
}
API int cuDeviceGetMemPool(Pool **pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
API int cuDeviceSetMemPool(int, Pool *) { return SUCCESS; }
API int cuMemPoolCreate(Pool **pool, const void *) {
    NEEDS_CONTEXT();
    return *pool = new Pool{current->device, {}}, SUCCESS;
}
API int cuMemPoolDestroy(Pool *pool) {
    if (pool < pools || pool >= pools + 16) delete pool;
    return SUCCESS;
}
// Attributes 1 to 3 are int, 4 to 8 64 bits; 5 to 8 are what is reserved and used, now and at most.
API int cuMemPoolSetAttribute(Pool *pool, int attribute, void *value) {
    if (attribute < 1 || attribute > 8) return INVALID_VALUE;
    memcpy(&pool->values[attribute], value, attribute < 4 ? 4 : 8);
    return SUCCESS;
}
API int cuMemPoolGetAttribute(Pool *pool, int attribute, void *value) {
    if (attribute < 1 || attribute > 8) return INVALID_VALUE;
    size_t available, total;
    memory_of(pool->device, &available, &total);
    if (attribute > 4) pool->values[attribute] = total - available;
    memcpy(value, &pool->values[attribute], attribute < 4 ? 4 : 8);
    return SUCCESS;
}
API int cuMemPoolTrimTo(Pool *, size_t) { return SUCCESS; }

// Modules and kernels.
API int cuModuleLoadData(Module **module, const void *image) {
    NEEDS_CONTEXT();
    return loaded(module, image);
}
API int cuModuleLoadDataEx(Module **module, const void *image, unsigned, int *, void **) { return cuModuleLoadData(module, image); }
API int cuModuleLoad(Module **module, const char *path) {
    NEEDS_CONTEXT();
    FILE *file = fopen(path, "rb");
    if (!file) return FILE_NOT_FOUND;
    char text[8192];
    text[fread(text, 1, sizeof text - 1, file)] = 0; // an image that means anything here is short
    fclose(file);
    return loaded(module, text);
}
API int cuModuleUnload(Module *module) {
    // Its library stays open: another module may be of the same one.
    return delete module, SUCCESS;
}
API int cuModuleGetFunction(Kernel **function, Module *module, const char *name) {
    NEEDS_CONTEXT();
    std::unique_ptr<Kernel> &kernel = module->kernels[name];
    if (!kernel) {
        kernel = std::make_unique<Kernel>();
        kernel->name = name;
        kernel->frame = &module->frame;
        if (module->library) {
            kernel->thunk = (void (*)(void **))dlsym(module->library, (kernel->name + "__door").c_str());
            if (!kernel->thunk) return module->kernels.erase(name), NOT_FOUND;
            kernel->kinds = (const char *)dlsym(module->library, (kernel->name + "__kinds").c_str());
            kernel->bound = *(int *)dlsym(module->library, (kernel->name + "__bound").c_str());
        }
    }
    return *function = kernel.get(), SUCCESS;
}
API int cuModuleGetGlobal_v2(void **, size_t *, Module *, const char *) { return NOT_FOUND; }

API int cuFuncGetAttribute(int *value, int attribute, Kernel *kernel) {
    switch (attribute) {
    case 0: return *value = kernel->bound ? kernel->bound : 1024, SUCCESS; // threads per block at most
    case 4: return *value = 32, SUCCESS;                                   // registers
    case 5: case 6: return *value = 90, SUCCESS;                           // versions of PTX and machine code
    case 8: return *value = kernel->dynamic, SUCCESS;                      // dynamic shared memory at most
    default: return *value = 0, SUCCESS;
    }
}
API int cuFuncSetAttribute(Kernel *kernel, int attribute, int value) {
    if (attribute == 8) {
        if (value < 0 || value > 232448) return INVALID_VALUE;
        kernel->dynamic = value;
    }
    return SUCCESS;
}
API int cuFuncSetCacheConfig(Kernel *, int) { return SUCCESS; }

int launch(Kernel *kernel, Three grid, Three block, unsigned shared, void **args) {
    NEEDS_CONTEXT();
    if (!kernel) return INVALID_HANDLE;
    if (!grid.x || !grid.y || !grid.z || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535) return INVALID_VALUE;
    if (!block.x || !block.y || !block.z || block.x > 1024 || block.y > 1024 || block.z > 64 || block.x * block.y * block.z > 1024)
        return INVALID_VALUE;
    if (shared > (unsigned)kernel->dynamic) return INVALID_VALUE;
    if (!kernel->thunk) die("kernel %s is of an image that only a GPU can run", kernel->name.c_str());
    if (kernel->bound && block.x * block.y * block.z > (unsigned)kernel->bound) return OUT_OF_RESOURCES;
    if (take_kernel(kernel, grid, block, shared, args)) return SUCCESS;
    set_last("kernel " + kernel->name);
    for (int i = 0; kernel->kinds[i]; i++) {
        void *address = kernel->kinds[i] == 'p' ? *(void **)args[i] : nullptr;
        if (address && !is_live(address))
            die("kernel %s: parameter %d, %p, is no memory of the device, or freed", kernel->name.c_str(), i, address);
    }
    run(*kernel, grid, block, shared, args);
    return SUCCESS;
}

API int cuLaunchKernel(Kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                       unsigned shared, Stream *, void **args, void **extra) {
    if (extra) return INVALID_VALUE;
    return launch(kernel, {gx, gy, gz}, {bx, by, bz}, shared, args);
}
API int cuLaunchCooperativeKernel(Kernel *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream *, void **) {
    return NOT_SUPPORTED; // blocks run one after another and cannot wait for each other
}

API int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Kernel *, int threads, size_t) {
    return *blocks = threads > 0 && threads <= 1024 ? 2048 / ((threads + 31) / 32 * 32) : 0, SUCCESS;
}
API int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, Kernel *kernel, int threads, size_t shared, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared);
}
API int cuOccupancyMaxPotentialBlockSize(int *grid, int *block, Kernel *kernel, void *, size_t, int limit) {
    int most = kernel->bound ? kernel->bound : 1024;
    *block = limit > 0 && limit < most ? limit : most;
    return *grid = 132 * (2048 / *block), SUCCESS;
}
API int cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, Kernel *kernel, void *size, size_t shared, int limit, unsigned) {
    return cuOccupancyMaxPotentialBlockSize(grid, block, kernel, size, shared, limit);
}
API int cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, Kernel *kernel, int, int) { return *bytes = (size_t)kernel->dynamic, SUCCESS; }
API int cuProfilerStart() { return SUCCESS; }
API int cuProfilerStop() { return SUCCESS; }
