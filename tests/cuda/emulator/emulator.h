// What the parts of the emulated device know of each other. Types are declared here as the libraries' interfaces
// have them; no header of CUDA is needed to build this.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

/// Says what went wrong and ends the program: for what a real device answers with silent damage.
[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *format, ...);

/// A symbol that a binary links and nothing here implements: names itself once and returns an error of its library.
int missing(const char *name, int error);

/// The kernel or library call that was asked for last: who to look at when memory is found damaged.
void set_last(const std::string &name);

/// `bytes` bytes at `address` lie in one live allocation of the device, or the program ends. `what` says who asks.
void require(const void *address, size_t bytes, const std::string &what);

/// The byte at `address` lies in a live allocation.
bool is_live(const void *address);

/// The guards around all allocations, and freed memory, are as they were left.
void check_guards();

int allocate(int device, size_t bytes, void **address);
int release(void *address);
void memory_of(int device, size_t *available, size_t *total);
int devices();

/// A kernel as the compiler step made it.
struct Kernel {
    std::string name;
    void (*thunk)(void **args) = nullptr; // calls the kernel for one thread; none in images that only a GPU can run
    const char *kinds = nullptr;          // a letter for each parameter: p for addresses, v for values
    int bound = 0;                        // __launch_bounds__, 0 if the source has none
    int dynamic = 48 << 10;               // the most dynamic shared memory
    struct Frame *frame = nullptr;
};

struct Three { unsigned x, y, z; };

/// What a compiled source shows of itself: where its threads look who they are.
struct Frame {
    Three *thread, *block, *block_dim, *grid_dim;
    const struct Services **services;
};

/// What kernels ask for while they run; the same as in device.h.
struct Services {
    int (*barrier)(int line, int predicate);
    uint64_t (*exchange)(unsigned mask, int kind, uint64_t value, int from, int line);
    void (*fresh)(void *shared, size_t bytes);
    void *dynamic;
    uint64_t block;
};

/// Runs all threads of all blocks.
void run(const Kernel &kernel, Three grid, Three block, unsigned dynamic, void **args);

/// A compiled source from the image that stands for it; an error number of the driver otherwise.
int load_image(const void *image, std::string *library);

/// C = alpha A B + beta C, A m x k, B k x n, element (i, j) at i * rows + j * columns. beta = 0 does not read C.
/// tf32: factors are rounded to 10 bits of mantissa, as tensor cores do.
struct Strided { const float *at; long rows, columns; };
void gemm(long m, long n, long k, float alpha, Strided a, Strided b, float beta, float *c, long rows, long columns, bool tf32);

/// A kernel as the driver launches it, after checks; an error number of the driver.
int launch(Kernel *kernel, Three grid, Three block, unsigned shared, void **args);

/// Something in a graph: a kernel with its arguments, or other work.
struct Node {
    std::function<int()> work;
    Kernel *kernel;
    Three grid, block;
    unsigned shared;
    std::vector<uint64_t> arguments; // eight bytes of each, whatever its size
    void tell(void **args);
};
struct Graph { std::vector<std::shared_ptr<Node>> nodes; };

/// Whether this thread's stream takes down.
bool is_taking();

/// Keeps work for the graph that is being taken down; false if none is, and it is to be done now.
bool take_down(std::function<int()> work);
bool take_kernel(Kernel *kernel, Three grid, Three block, unsigned shared, void **args);
