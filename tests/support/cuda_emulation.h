/*
 * Runs CUDA kernels on the CPU, so that they can be tested where there is no GPU: kernels/cuda/device.cuh includes this
 * header in place of the toolkit's when MST_CUDA_EMULATED is defined, and a C++ compiler builds the same .cu files.
 *
 * A thread of a kernel is a fiber with a stack of its own. The fibers of a block run one after another, each until it
 * waits; blocks follow each other. What it finds:
 *  - barriers that not all threads reach, or reach at different lines: an error that names kernel, block, thread, line;
 *  - missing barriers: the order of threads and blocks changes from launch to launch, so that the checker's rule "the
 *    same bits every time" breaks;
 *  - shared memory that is read before it was written: it is NaN at a block's start, and so is what cp.async has not
 *    brought yet; device memory is NaN when allocated;
 *  - host code that touches device memory: it is mapped only while a kernel or a copy works (emulation_memory.h);
 *  - with MST_EMULATED_STREAMS, waits between streams and of the host that are missing (emulation_stream.h);
 *  - calls that CUDA refuses while a stream captures (emulation_graph.h), and errors of calls that nobody read;
 *  - accesses outside of arrays, shared ones included, in a build with the address sanitizer.
 * One operating-system thread at a time may launch. Errors end the process: this is a test tool.
 */
#ifndef MUSTER_TESTS_CUDA_EMULATION_H
#define MUSTER_TESTS_CUDA_EMULATION_H

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "emulation_copy.h"
#include "emulation_device.h"
#include "emulation_graph.h"
#include "emulation_memory.h"
#include "emulation_stream.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)   ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

typedef struct CUstream_st *cudaStream_t;

namespace emulation {

enum { WARP = 32, THREADS = 1024, STACK = 128 << 10, SHARED = 228 << 10, SLOT = 32, COPIES = 256, GAP = 64 };

enum state { FRESH, READY, AT_BARRIER, AT_WARP, DONE };

struct copy {
    void *to;
    const void *from;
    unsigned bytes, valid, group;
};

struct fiber {
    void *stack_pointer;
    char *stack;
    state now;
    unsigned rank;
    uint3 index;
    int line;      /* where it waits */
    uint32_t mask; /* of the warp call that it waits in */
    unsigned char slot[SLOT];
    copy copies[COPIES]; /* begun by cp.async, not waited for */
    unsigned copy_count, group;
};

struct warp {
    unsigned char out[WARP][SLOT]; /* what the lanes gave to the last call that all of them reached */
};

/* The block that runs. */
struct machine {
    fiber *fibers; /* [THREADS] */
    warp warps[THREADS / WARP];
    char *stacks[THREADS]; /* free ones */
    unsigned free_stacks, threads, live, waiting;
    int barrier_line;
    void *scheduler; /* its stack pointer */
    fiber *current;
    uint3 block;
    dim3 block_size, grid_size;
    const char *kernel;
    void (*body)(void *);
    void *argument;
    unsigned char *shared;
    size_t shared_used;
    uint64_t epoch; /* number of the block since the start: whose shared memory it is */
    uint64_t launches;
    size_t dynamic_bytes; /* shared memory that the launch asks for */
};

inline machine m;

/* Saves the registers that a call preserves, and goes on with another stack. */
extern "C" void mst_emulation_switch(void **save, void *to);
#if !defined(__x86_64__)
#error "the emulation switches stacks on x86-64 only"
#endif
__asm__(".pushsection .text.mst_emulation_switch,\"axG\",@progbits,mst_emulation_switch,comdat\n"
        ".weak mst_emulation_switch\n"
        ".type mst_emulation_switch,@function\n"
        "mst_emulation_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n    ret\n"
        ".size mst_emulation_switch, .-mst_emulation_switch\n"
        ".popsection\n");

[[noreturn]] inline void fail(const char *what) {
    fprintf(stderr, "emulation: kernel %s, block (%u, %u, %u): %s\n", m.kernel, m.block.x, m.block.y,
            m.block.z, what);
    static const char *const names[] = {"has not begun", "can run", "waits at a barrier",
                                        "waits for its warp", "ended"};
    for (unsigned t = 0, shown = 0; t < m.threads && shown < 8; t++) {
        const fiber &f = m.fibers[t];
        if (t > 0 && f.now == m.fibers[t - 1].now && f.line == m.fibers[t - 1].line)
            continue; /* as the one before */
        fprintf(stderr, "  from thread %u on: %s, line %d\n", t, names[f.now], f.line);
        shown++;
    }
    abort();
}

/* Gives control back to the scheduler until somebody makes this fiber ready. */
inline void wait_as(state now, int line) {
    fiber *f = m.current;
    f->now = now;
    f->line = line;
    mst_emulation_switch(&f->stack_pointer, m.scheduler);
}

inline void release_barrier() {
    for (unsigned t = 0; t < m.threads; t++)
        if (m.fibers[t].now == AT_BARRIER) m.fibers[t].now = READY;
    m.waiting = 0;
}

inline void sync_block(int line) {
    if (m.waiting > 0 && m.barrier_line != line) {
        m.current->line = line;
        fail("threads meet at different __syncthreads");
    }
    m.barrier_line = line;
    m.waiting++;
    if (m.waiting == m.live)
        release_barrier();
    else
        wait_as(AT_BARRIER, line);
}

/* If every living lane of the call that lane `of` waits in has come, hands out what they gave. */
inline bool finish_warp_call(const fiber *of) {
    unsigned first = of->rank / WARP * WARP;
    warp &w = m.warps[of->rank / WARP];
    for (unsigned l = 0; l < WARP && first + l < m.threads; l++) {
        const fiber &f = m.fibers[first + l];
        if (!(of->mask >> l & 1) || f.now == DONE) continue;
        if (f.now != AT_WARP || f.mask != of->mask || f.line != of->line) return false;
    }
    for (unsigned l = 0; l < WARP && first + l < m.threads; l++) {
        fiber &f = m.fibers[first + l];
        if (!(of->mask >> l & 1) || f.now == DONE) continue;
        memcpy(w.out[l], f.slot, SLOT);
        f.now = READY;
    }
    return true;
}

/* Gives `value` to the lanes of the warp in `mask`, and returns what each of them gave. */
template <class T> const T *gather(uint32_t mask, const T &value, int line) {
    static_assert(sizeof(T) <= SLOT, "too much for one warp call");
    fiber *f = m.current;
    if (!(mask >> f->rank % WARP & 1)) fail("the mask of a warp call lacks the lane that calls");
    memcpy(f->slot, &value, sizeof value);
    f->mask = mask;
    f->now = AT_WARP;
    f->line = line;
    if (!finish_warp_call(f)) mst_emulation_switch(&f->stack_pointer, m.scheduler);
    return reinterpret_cast<const T *>(m.warps[f->rank / WARP].out);
}

/* gather for types that do not fill a slot: what lane `from` gave. */
template <class T> T given(uint32_t mask, const T &value, unsigned from, int line) {
    gather(mask, value, line);
    T result;
    memcpy(&result, m.warps[m.current->rank / WARP].out[from], sizeof result);
    return result;
}

inline unsigned lane() {
    return m.current->rank % WARP;
}

inline uint32_t ballot(uint32_t mask, bool vote, int line) {
    gather(mask, (uint32_t)vote, line);
    uint32_t votes = 0;
    unsigned first = m.current->rank / WARP * WARP;
    for (unsigned l = 0; l < WARP && first + l < m.threads; l++)
        if (mask >> l & 1 && m.warps[m.current->rank / WARP].out[l][0]) votes |= 1u << l;
    return votes;
}

/* An array of shared memory: one place in the source, found again by every thread of a block. */
struct shared_site {
    uint64_t epoch;
    unsigned char *memory;
    unsigned char *get(size_t bytes) {
        if (epoch != m.epoch) {
            size_t rounded = (bytes + 15) / 16 * 16;
            if (m.shared_used + rounded + GAP > SHARED) fail("more shared memory than a multiprocessor has");
            memory = m.shared + m.shared_used;
            m.shared_used += rounded + GAP;
            ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
            memset(memory, 0xff, bytes);
            epoch = m.epoch;
        }
        return memory;
    }
};

/* ---------------------------------------------------------------- cp.async */

inline void copy_begin(void *to, const void *from, unsigned bytes, unsigned valid) {
    fiber *f = m.current;
    if (f->copy_count == COPIES) fail("too many cp.async without a wait");
    memset(to, 0xff, bytes);
    f->copies[f->copy_count++] = copy{to, from, bytes, valid, f->group};
}

/* Ends the copies of all groups but the `pending` newest. */
inline void copy_wait(unsigned pending) {
    fiber *f = m.current;
    unsigned kept = 0;
    for (unsigned i = 0; i < f->copy_count; i++) {
        const copy c = f->copies[i];
        if (c.group + pending >= f->group) {
            f->copies[kept++] = c;
            continue;
        }
        memset(c.to, 0, c.bytes);
        memcpy(c.to, c.from, c.valid);
    }
    f->copy_count = kept;
}

/* ---------------------------------------------------------------- the scheduler */

[[noreturn]] inline void fiber_main() {
    m.body(m.argument);
    fiber *f = m.current;
    f->now = DONE;
    void *never;
    mst_emulation_switch(&never, m.scheduler);
    abort();
}

inline void set_up() {
    if (m.fibers) return;
    m.fibers = static_cast<fiber *>(calloc(THREADS, sizeof(fiber)));
    m.shared = static_cast<unsigned char *>(aligned_alloc(128, SHARED));
    for (unsigned i = 0; i < THREADS; i++) m.stacks[i] = static_cast<char *>(aligned_alloc(64, STACK));
    m.free_stacks = THREADS;
}

/* A stack from which a switch goes to fiber_main, aligned as after a call. */
inline void begin(fiber *f) {
    f->stack = m.stacks[--m.free_stacks];
    void **top = reinterpret_cast<void **>(f->stack + STACK) - 2;
    top[0] = reinterpret_cast<void *>(fiber_main);
    top[1] = nullptr;
    for (int i = 1; i <= 6; i++) top[-i] = nullptr;
    f->stack_pointer = top - 6;
}

inline void run(fiber *f) {
    if (f->now == FRESH) begin(f);
    m.current = f;
    f->now = READY;
    mst_emulation_switch(&m.scheduler, f->stack_pointer);
    if (f->now != DONE) return;
    if (f->copy_count > 0) fail("a thread ended before its cp.async");
    ASAN_UNPOISON_MEMORY_REGION(f->stack, STACK);
    m.stacks[m.free_stacks++] = f->stack;
    m.live--;
    if (m.live > 0 && m.waiting == m.live) release_barrier();
    unsigned first = f->rank / WARP * WARP; /* its warp may have waited for this lane only */
    for (unsigned t = first; t < first + WARP && t < m.threads; t++)
        if (m.fibers[t].now == AT_WARP && finish_warp_call(&m.fibers[t])) break;
}

inline void run_block(bool backwards) {
    m.epoch++;
    ASAN_POISON_MEMORY_REGION(m.shared, SHARED);
    m.shared_used = 0;
    m.live = m.threads;
    m.waiting = 0;
    for (unsigned t = 0; t < m.threads; t++) {
        fiber &f = m.fibers[t];
        f.now = FRESH;
        f.rank = t;
        f.index = uint3{t % m.block_size.x, t / m.block_size.x % m.block_size.y,
                        t / (m.block_size.x * m.block_size.y)};
        f.line = 0;
        f.copy_count = f.group = 0;
    }
    while (m.live > 0) {
        bool moved = false;
        for (unsigned i = 0; i < m.threads; i++) {
            fiber *f = &m.fibers[backwards ? m.threads - 1 - i : i];
            if (f->now != FRESH && f->now != READY) continue;
            run(f);
            moved = true;
        }
        if (!moved) fail("threads wait for others that will not come");
    }
}

template <class F> void run_grid(const char *kernel, dim3 grid, dim3 block, size_t dynamic, F &&call) {
    set_up();
    m.kernel = kernel;
    m.dynamic_bytes = dynamic;
    m.grid_size = grid;
    m.block_size = block;
    m.threads = block.x * block.y * block.z;
    m.block = uint3{0, 0, 0};
    if (m.threads == 0 || m.threads > THREADS || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        m.threads = 0, fail("a grid or block that no GPU takes");
    m.body = [](void *f) { (*static_cast<F *>(f))(); };
    m.argument = &call;
    uint64_t order = ++m.launches * 0x9e3779b97f4a7c15u >> 61;
    size_t blocks = (size_t)grid.x * grid.y * grid.z;
    mst_emulation_open();
    for (size_t i = 0; i < blocks; i++) {
        size_t b = order & 1 ? blocks - 1 - i : i;
        m.block =
            uint3{(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
        run_block(order & 2);
    }
    mst_emulation_close();
}

/* Work on a stream, which may be done later and more than once. */
template <class F> int queue(cudaStream_t stream, const F &work) {
    static_assert(std::is_trivially_copyable<F>::value, "arguments are copied byte by byte");
    return mst_emulation_do(
        stream, [](const void *f) { (*static_cast<const F *>(f))(); }, &work, sizeof work);
}

/* A kernel with the configuration of a launch; its arguments follow. */
template <class... P> struct starter {
    const char *name;
    dim3 grid, block;
    size_t dynamic;
    cudaStream_t stream;
    void (*kernel)(P...);
    void operator()(P... arguments) const {
        const starter s = *this;
        queue(stream, [=] { run_grid(s.name, s.grid, s.block, s.dynamic, [&] { s.kernel(arguments...); }); });
    }
};
template <class... P>
starter<P...> start(const char *name, dim3 grid, dim3 block, size_t dynamic, cudaStream_t stream,
                    void (*kernel)(P...)) {
    return {name, grid, block, dynamic, stream, kernel};
}

/* Dynamic shared memory has one place whoever asks; its size stands in the launch. */
inline unsigned char *dynamic_shared() {
    static shared_site site;
    return site.get(m.dynamic_bytes);
}

} // namespace emulation

#define threadIdx (emulation::m.current->index)
#define blockIdx  (emulation::m.block)
#define blockDim  (emulation::m.block_size)
#define gridDim   (emulation::m.grid_size)

#define __syncthreads() emulation::sync_block(__LINE__)
#define __syncwarp()    ((void)emulation::gather(~0u, 0u, __LINE__))
#define __shfl_xor_sync(mask, value, x)                                                                      \
    emulation::given((mask), (value), emulation::lane() ^ (unsigned)(x), __LINE__)
#define __shfl_sync(mask, value, from) emulation::given((mask), (value), (unsigned)(from), __LINE__)
#define __ballot_sync(mask, vote)      emulation::ballot((mask), (vote), __LINE__)
#define __popc(x)                      __builtin_popcount(x)
#define __ffs(x)                       __builtin_ffs((int)(x))

static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---------------------------------------------------------------- the runtime library, as far as we use it */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorMemoryAllocation = 2,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorECCUncorrectable = 214,
    cudaErrorNvlinkUncorrectable = 220,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorHardwareStackError = 714,
    cudaErrorMisalignedAddress = 716,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
} cudaError_t;
enum cudaMemcpyKind { cudaMemcpyDefault };
enum { cudaHostAllocPortable = 1, cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
struct cudaDeviceProp {
    char name[256];
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
#define CUDART_VERSION 0

/* Returns the error of a device that is broken: then nothing is done any more, nor freed. */
#define MST_UNLESS_BROKEN()                                                                                  \
    do {                                                                                                     \
        const cudaError_t broken = static_cast<cudaError_t>(mst_emulation_broken());                         \
        if (broken != cudaSuccess) return broken;                                                            \
    } while (0)

/* Likewise where a capture forbids the call, which needs a context. */
#define MST_UNLESS_CAPTURING()                                                                               \
    do {                                                                                                     \
        mst_emulation_context();                                                                             \
        MST_UNLESS_BROKEN();                                                                                 \
        const cudaError_t forbidden = static_cast<cudaError_t>(mst_emulation_forbidden());                   \
        if (forbidden != cudaSuccess) return forbidden;                                                      \
    } while (0)

static inline cudaError_t cudaMalloc(void **memory, size_t bytes) {
    MST_UNLESS_CAPTURING();
    *memory = mst_emulation_map(bytes);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned) {
    MST_UNLESS_CAPTURING();
    *memory = mst_emulation_pin(bytes);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaFree(void *memory) {
    MST_UNLESS_CAPTURING();
    mst_emulation_finish_all();
    mst_emulation_unmap(memory);
    return cudaSuccess;
}
static inline cudaError_t cudaFreeHost(void *memory) { /* waits for the device, too */
    MST_UNLESS_CAPTURING();
    mst_emulation_finish_all();
    mst_emulation_unpin(memory);
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind,
                                          cudaStream_t stream) {
    MST_UNLESS_BROKEN();
    return static_cast<cudaError_t>(mst_emulation_copy(stream, to, from, bytes));
}
static inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream) {
    MST_UNLESS_BROKEN();
    return static_cast<cudaError_t>(mst_emulation_fill(stream, to, value, bytes));
}
static inline cudaError_t cudaMemGetInfo(size_t *free, size_t *all) {
    mst_emulation_context();
    MST_UNLESS_BROKEN();
    mst_emulation_room(free, all);
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
    mst_emulation_context();
    MST_UNLESS_BROKEN();
    *stream = mst_emulation_stream_create();
    return cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    MST_UNLESS_BROKEN();
    mst_emulation_stream_destroy(stream);
    return cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    MST_UNLESS_CAPTURING();
    mst_emulation_finish(stream);
    return cudaSuccess;
}

/* An event: so many pieces of work of a stream. */
typedef struct CUevent_st {
    cudaStream_t stream;
    uint64_t count;
} * cudaEvent_t;
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
    mst_emulation_context();
    MST_UNLESS_BROKEN();
    *event = static_cast<cudaEvent_t>(calloc(1, sizeof **event));
    return *event ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    MST_UNLESS_CAPTURING(); /* CUDA would let the capture spread to streams that wait for the event: nothing of ours does */
    event->stream = stream;
    event->count = mst_emulation_pushed(stream);
    return cudaSuccess;
}
static inline cudaError_t cudaEventQuery(cudaEvent_t event) {
    MST_UNLESS_BROKEN();
    return mst_emulation_look(event->stream, event->count) ? cudaSuccess : cudaErrorNotReady;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    MST_UNLESS_CAPTURING();
    mst_emulation_wait(event->stream, event->count);
    return cudaSuccess;
}
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    MST_UNLESS_BROKEN();
    mst_emulation_follow(stream, event->stream, event->count);
    return cudaSuccess;
}
static inline cudaError_t cudaGetLastError() {
    const int last = mst_emulation_last_error(), fault = mst_emulation_fault();
    return static_cast<cudaError_t>(last != 0 ? last : fault);
}

/* Graphs. */
typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
static inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    return static_cast<cudaError_t>(mst_emulation_begin(stream));
}
static inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    return static_cast<cudaError_t>(mst_emulation_end(stream, graph));
}
static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph,
                                               unsigned long long) {
    return static_cast<cudaError_t>(mst_emulation_instantiate(executable, graph));
}
static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    return static_cast<cudaError_t>(mst_emulation_launch(executable, stream));
}
static inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    mst_emulation_graph_destroy(graph);
    return cudaSuccess;
}
static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    mst_emulation_executable_destroy(executable);
    return cudaSuccess;
}
static inline const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess                         ? "no error"
           : error == cudaErrorMemoryAllocation         ? "out of memory"
           : error == cudaErrorStreamCaptureUnsupported ? "operation not permitted when stream is capturing"
           : error == cudaErrorStreamCaptureInvalidated
               ? "operation failed due to a previous error during capture"
               : "an error that the test asked for";
}
static inline cudaError_t cudaGetDeviceCount(int *count) {
    *count = mst_emulation_devices();
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
    snprintf(id, (size_t)size, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}
struct cudaIpcMemHandle_t {
    char reserved[64];
};
enum { cudaIpcMemLazyEnablePeerAccess = 1, cudaErrorInvalidValue = 1 };
static inline cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory) {
    static_assert(sizeof(mst_emulation_name) <= sizeof *handle, "what names memory");
    mst_emulation_name name;
    if (!mst_emulation_share(memory, &name)) return static_cast<cudaError_t>(cudaErrorInvalidValue);
    memcpy(handle, &name, sizeof name);
    return cudaSuccess;
}
static inline cudaError_t cudaIpcOpenMemHandle(void **memory, cudaIpcMemHandle_t handle, unsigned) {
    mst_emulation_name name;
    mst_emulation_context();
    MST_UNLESS_BROKEN();
    memcpy(&name, &handle, sizeof name);
    *memory = mst_emulation_join(&name);
    return *memory ? cudaSuccess : static_cast<cudaError_t>(cudaErrorInvalidValue);
}
static inline cudaError_t cudaIpcCloseMemHandle(void *memory) {
    mst_emulation_unmap(memory);
    return cudaSuccess;
}
static inline cudaError_t cudaSetDevice(int device) {
    mst_emulation_use(device);
    MST_UNLESS_BROKEN();
    return cudaSuccess;
}
static inline cudaError_t cudaDriverGetVersion(int *version) {
    *version = 0;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr, int) {
    *value = 99 << 10; /* sm_86 and sm_89, the least of those that we build for */
    return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
    size_t free;
    *properties = cudaDeviceProp{"emulated", 0, 0, 1, 0};
    mst_emulation_room(&free, &properties->totalGlobalMem);
    return cudaSuccess;
}
template <class F> cudaError_t cudaFuncSetAttribute(F *, cudaFuncAttribute, int) {
    return cudaSuccess;
}

#endif
