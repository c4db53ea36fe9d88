// The threads of a block, one after another on one thread of the host.
//
// A fiber runs thread after thread until one waits (barrier, shuffle); that fiber is the waiting thread's from then on,
// and another goes on with the threads that have not started. So a kernel without barriers costs no switch at all.
// EMULATED_ORDER=reverse starts blocks and threads from the last: results must not depend on it.
#include "emulator.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace {

constexpr size_t STACK = 256 << 10, PAGE = 4096;

struct Fiber {
#if defined(__x86_64__)
    void *stack_pointer = nullptr;
#else
    ucontext_t context;
#endif
};

#if defined(__x86_64__)
// Saves what a called function must keep, exchanges stacks, restores: ucontext would ask the kernel for signal masks.
asm(".text\n"
    ".type emulated_switch,@function\n"
    "emulated_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq (%rsi), %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size emulated_switch, . - emulated_switch\n");
extern "C" void emulated_switch(Fiber *from, Fiber *to);

void prepare(Fiber *fiber, char *top, void (*entry)()) {
    void **at = (void **)top - 2;
    at[0] = (void *)entry;
    at[1] = nullptr;
    at -= 6;
    memset(at, 0, 6 * sizeof *at);
    fiber->stack_pointer = at;
}
#else
void emulated_switch(Fiber *from, Fiber *to) { swapcontext(&from->context, &to->context); }

void prepare(Fiber *fiber, char *top, void (*entry)()) {
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = top - STACK + PAGE;
    fiber->context.uc_stack.ss_size = STACK - PAGE;
    makecontext(&fiber->context, entry, 0);
}
#endif

enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct Thread {
    State state = DONE;
    Fiber *fiber = nullptr;
    int line = 0, kind = 0, from = 0, predicate = 0;
    unsigned mask = 0;
    uint64_t value = 0, result = 0;
};

std::mutex one_launch;
Fiber scheduler;
std::vector<Fiber *> idle;
Fiber *running;
std::vector<Thread> threads(1024);
std::vector<int> ready;
const Kernel *kernel;
void **arguments;
Three dims, place;
int count, started, finished, current;
size_t shared_bytes;
bool reversed;

void become(int index) {
    current = index;
    *kernel->frame->thread = {index % dims.x, index / dims.x % dims.y, index / (dims.x * dims.y)};
}

void fiber_main() {
    for (;;) {
        while (started < count) {
            int index = reversed ? count - 1 - started : started;
            started++;
            become(index);
            kernel->thunk(arguments);
            threads[current].state = DONE; // after a wait it is still this fiber's thread
            finished++;
        }
        idle.push_back(running);
        emulated_switch(running, &scheduler);
    }
}

Fiber *take_fiber() {
    if (!idle.empty()) {
        Fiber *fiber = idle.back();
        idle.pop_back();
        return fiber;
    }
    char *stack = (char *)mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) die("no stack for a thread");
    mprotect(stack, PAGE, PROT_NONE);
    Fiber *fiber = new Fiber;
    prepare(fiber, stack + STACK, fiber_main);
    return fiber;
}

void enter(Fiber *fiber) {
    running = fiber;
    emulated_switch(&scheduler, fiber);
}

void wait_here(State state, int line) {
    Thread &thread = threads[current];
    thread.state = state;
    thread.line = line;
    thread.fiber = running;
    emulated_switch(running, &scheduler);
}

[[noreturn]] void stuck(const char *why) {
    std::string text;
    for (int i = 0, shown = 0; i < count && shown < 8; i++) {
        const Thread &t = threads[i];
        if (i > 0 && t.state == threads[i - 1].state && t.line == threads[i - 1].line) continue;
        static const char *const names[] = {"ready", "at __syncthreads", "in a warp's exchange", "done"};
        text += "; from thread " + std::to_string(i) + " on: " + names[t.state];
        if (t.state == AT_BARRIER || t.state == IN_WARP) text += " of line " + std::to_string(t.line);
        shown++;
    }
    die("kernel %s, block (%u, %u, %u): %s%s", kernel->name.c_str(), place.x, place.y, place.z, why, text.c_str());
}

/// The lanes that a waiting thread waits for, if all of them wait with it for the same.
bool warp_is_complete(int index) {
    const Thread &t = threads[index];
    int base = index & ~31;
    for (int lane = 0; lane < 32 && base + lane < count; lane++) {
        if (!(t.mask >> lane & 1)) continue;
        const Thread &other = threads[base + lane];
        if (other.state == DONE) continue;
        if (other.state != IN_WARP || other.mask != t.mask || other.kind != t.kind) return false;
    }
    return true;
}

void release_warp(int index) {
    int base = index & ~31;
    unsigned mask = threads[index].mask, group = 0, votes = 0;
    for (int lane = 0; lane < 32 && base + lane < count; lane++) {
        const Thread &t = threads[base + lane];
        if ((mask >> lane & 1) && t.state == IN_WARP) {
            group |= 1u << lane;
            votes |= (t.value != 0 ? 1u : 0u) << lane;
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        if (!(group >> lane & 1)) continue;
        Thread &t = threads[base + lane];
        // What a lane that takes no part holds is undefined: a NaN shows who uses it.
        if (t.kind == 0) t.result = group >> t.from & 1 ? threads[base + t.from].value : ~0ull;
        else t.result = (uint64_t)group << 32 | votes;
    }
    for (int lane = 31; lane >= 0; lane--)
        if (group >> lane & 1) {
            threads[base + lane].state = READY;
            ready.push_back(base + lane);
        }
}

void release_barrier() {
    int line = -1, votes = 0;
    for (int i = 0; i < count; i++) {
        const Thread &t = threads[i];
        if (t.state == DONE) continue;
        if (t.state != AT_BARRIER) stuck("not all threads reach a barrier");
        if (line >= 0 && t.line != line) stuck("threads wait at different barriers");
        line = t.line;
        votes += t.predicate != 0;
    }
    for (int i = 0; i < count; i++) {
        int index = reversed ? i : count - 1 - i;
        if (threads[index].state == DONE) continue;
        threads[index].state = READY;
        threads[index].result = votes;
        ready.push_back(index);
    }
}

void run_block() {
    started = finished = 0;
    shared_bytes = 0;
    for (int i = 0; i < count; i++) threads[i].state = READY;
    for (;;) {
        if (started < count) {
            enter(take_fiber());
            if (finished < started) { // the one that gave up control waits
                int waiting = current;
                if (threads[waiting].state == IN_WARP && warp_is_complete(waiting)) release_warp(waiting);
            }
        } else if (!ready.empty()) {
            int index = ready.back();
            ready.pop_back();
            become(index);
            enter(threads[index].fiber);
            if (threads[index].state == IN_WARP && warp_is_complete(index)) release_warp(index);
        } else if (finished == count) {
            return;
        } else {
            // Lanes that were waited for may have ended meanwhile.
            for (int i = 0; i < count; i++)
                if (threads[i].state == IN_WARP && warp_is_complete(i)) release_warp(i);
            if (ready.empty()) release_barrier();
        }
    }
}

int barrier(int line, int predicate) {
    threads[current].predicate = predicate;
    wait_here(AT_BARRIER, line);
    return (int)threads[current].result;
}

uint64_t exchange(unsigned mask, int kind, uint64_t value, int from, int line) {
    Thread &t = threads[current];
    if (!(mask >> (current & 31) & 1)) stuck("a lane that is not in the mask takes part in a warp's exchange");
    t.mask = mask;
    t.kind = kind;
    t.value = value;
    t.from = from;
    wait_here(IN_WARP, line);
    return threads[current].result;
}

void fresh(void *shared, size_t bytes) {
    memset(shared, 0xff, bytes);
    shared_bytes += bytes;
    if (shared_bytes > 48 << 10)
        die("kernel %s: %zu bytes of shared arrays, where a block has 48 KB", kernel->name.c_str(), shared_bytes);
}

} // namespace

void run(const Kernel &asked, Three grid, Three block, unsigned dynamic, void **args) {
    std::lock_guard<std::mutex> hold(one_launch);
    static Services services = {barrier, exchange, fresh, nullptr, 0};
    const char *order = getenv("EMULATED_ORDER");
    reversed = order && strcmp(order, "reverse") == 0;
    kernel = &asked;
    arguments = args;
    dims = block;
    count = (int)(block.x * block.y * block.z);
    // Behind the dynamic shared memory lies a guard.
    std::vector<unsigned char> memory(dynamic + 1024);
    services.dynamic = (void *)(((uintptr_t)memory.data() + 255) / 256 * 256);
    unsigned char *end = (unsigned char *)services.dynamic + dynamic;
    *asked.frame->services = &services;
    *asked.frame->block_dim = block;
    *asked.frame->grid_dim = grid;
    uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    for (uint64_t i = 0; i < blocks; i++) {
        uint64_t b = reversed ? blocks - 1 - i : i;
        place = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        *asked.frame->block = place;
        services.block++;
        if (dynamic) memset(services.dynamic, 0xff, dynamic + 64);
        run_block();
        for (int g = 0; dynamic && g < 64; g++)
            if (end[g] != 0xff) die("kernel %s writes behind its %u bytes of dynamic shared memory", asked.name.c_str(), dynamic);
    }
}
