/* The emulation finds what it says it finds: small kernels, each with one mistake. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "device.cuh"
#include "tensor_core.cuh"

enum { THREADS = 64 };

static int failures;

static void check(bool right, const char *what) {
    printf("%s: %s\n", what, right ? "found" : "NOT FOUND");
    failures += !right;
}

/* Whether a child process that calls `action` is ended by this signal, and says `words` on stderr if there are any. */
static bool dies(void (*action)(void), int signal, const char *words) {
    int ends[2], status = 0;
    char text[2048] = "";
    if (pipe(ends) != 0) return false;
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        action();
        _exit(0);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got;
         used < sizeof text - 1 && (got = read(ends[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)got;
    close(ends[0]);
    waitpid(child, &status, 0);
    bool ended =
        WIFSIGNALED(status) ? WTERMSIG(status) == signal : WIFEXITED(status) && WEXITSTATUS(status) != 0;
    return ended && strstr(text, words);
}

/* ---------------------------------------------------------------- barriers */

MST_KERNEL(THREADS) two_barriers() {
    if (threadIdx.x < 16)
        __syncthreads();
    else
        __syncthreads();
}
static void divergent(void) {
    MST_START(two_barriers, 1, THREADS, 0, NULL);
}

MST_KERNEL(THREADS) half_a_warp() {
    if (threadIdx.x % 32 < 16) __shfl_xor_sync(0xffffffffu, 1, 1);
    __syncthreads();
}
static void lonely(void) {
    MST_START(half_a_warp, 1, THREADS, 0, NULL);
}

/* Reads its neighbour's element with or without the barrier. */
MST_KERNEL(THREADS) neighbours(float *out, bool barrier) {
    MST_SHARED(float, shared, THREADS);
    shared[threadIdx.x] = (float)threadIdx.x;
    if (barrier) __syncthreads();
    out[threadIdx.x] = shared[(threadIdx.x + 1) % THREADS];
}

/* Right in each of many launches. */
static bool always_right(bool barrier) {
    bool right = true;
    for (int launch = 0; launch < 16; launch++) {
        float out[THREADS];
        MST_START(neighbours, 1, THREADS, 0, NULL, out, barrier);
        for (int t = 0; t < THREADS; t++) right = right && out[t] == (float)((t + 1) % THREADS);
    }
    return right;
}

/* ---------------------------------------------------------------- memory */

MST_KERNEL(THREADS) unwritten(float *out) {
    MST_SHARED(float, shared, THREADS);
    out[threadIdx.x] = shared[threadIdx.x];
}

MST_KERNEL(THREADS) not_waited_for(const bf16 *from, bf16 *out, bool wait) {
    MST_SHARED(bf16, tile, 8);
    if (threadIdx.x == 0) {
        async_copy(tile, from, true);
        async_commit();
        if (wait) async_wait<0>();
        for (int i = 0; i < 8; i++) out[i] = tile[i];
        async_wait<0>();
    }
}

static void touch(void) {
    void *memory = NULL;
    cudaMalloc(&memory, 64);
    *static_cast<volatile char *>(memory) = 1;
}

/* ---------------------------------------------------------------- what works */

/* c = a b^T of 16 x 16 matrices against sums by hand: the fragments fit together. */
MST_KERNEL(32) product(const bf16 *a_all, const bf16 *b_all, float *out) {
    MST_SHARED(bf16, a, 16 * STRIDE<16>);
    MST_SHARED(bf16, b, 16 * STRIDE<16>);
    load_tile<16, 16, 32>(a, a_all, 16, 0, 16, 16, true);
    load_tile<16, 16, 32>(b, b_all, 16, 0, 16, 16, true);
    async_commit();
    async_wait<0>();
    __syncthreads();
    float c[2][4];
    multiply_rows<16, 16>(c, a, 0, b);
    for (int n = 0; n < 2; n++)
        for (int i = 0; i < 4; i++)
            out[(threadIdx.x / 4 + i / 2 * 8) * 16 + n * 8 + threadIdx.x % 4 * 2 + i % 2] = c[n][i];
}

static bool multiplies(void) {
    alignas(16) bf16 a[256], b[256];
    float out[256];
    bool right = true;
    for (int i = 0; i < 256; i++) {
        a[i] = mst_bf16_from_f32((float)(i * 7 % 31 - 15));
        b[i] = mst_bf16_from_f32((float)(i * 11 % 29 - 14));
    }
    MST_START(product, 1, 32, 0, NULL, a, b, out);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float sum = 0.0f;
            for (int k = 0; k < 16; k++)
                sum += mst_bf16_to_f32(a[i * 16 + k]) * mst_bf16_to_f32(b[j * 16 + k]);
            right = right && out[i * 16 + j] == sum;
        }
    return right;
}

/* ---------------------------------------------------------------- graphs */

MST_KERNEL(1) add(float *to, float x) {
    *to += x;
}

/* What a graph of one kernel and one copy does when, and that the kernel's arguments are those of the capture. */
static bool captures(void) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    float sum = 0, copy = -1, x = 2;
    bool right = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess;
    right = right && cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess;
    MST_START(add, 1, 1, 0, stream, &sum, x);
    right = right && cudaMemcpyAsync(&copy, &sum, sizeof sum, cudaMemcpyDefault, stream) == cudaSuccess;
    x = 100;
    right = right && cudaStreamEndCapture(stream, &graph) == cudaSuccess && sum == 0 && copy == -1;
    right = right && cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess && sum == 0;
    cudaGraphDestroy(graph);
    for (int i = 1; i <= 3; i++)
        right = right && cudaGraphLaunch(executable, stream) == cudaSuccess && sum == 2.0f * (float)i &&
                copy == sum;
    cudaGraphExecDestroy(executable);
    cudaStreamDestroy(stream);
    return right && mst_emulation_graph_launches() == 3 && cudaGetLastError() == cudaSuccess;
}

/* Whether a call is refused while a stream captures, which is then lost, with what it had and what comes after. */
static bool refuses(cudaError_t (*call)(cudaStream_t stream)) {
    cudaStream_t stream = nullptr;
    cudaGraph_t graph;
    float sum = 0;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    MST_START(add, 1, 1, 0, stream, &sum, 1.0f);
    bool right = cudaGetLastError() == cudaSuccess && call(stream) == cudaErrorStreamCaptureUnsupported &&
                 cudaGetLastError() == cudaErrorStreamCaptureUnsupported;
    MST_START(add, 1, 1, 0, stream, &sum, 1.0f);
    right = right && cudaGetLastError() == cudaErrorStreamCaptureInvalidated;
    right = right && cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated && !graph;
    right = right && cudaGetLastError() == cudaErrorStreamCaptureInvalidated &&
            cudaGetLastError() == cudaSuccess && call(stream) == cudaSuccess && sum == 0;
    cudaStreamDestroy(stream);
    return right;
}

static cudaError_t allocate(cudaStream_t) {
    void *memory = NULL;
    cudaError_t error = cudaMalloc(&memory, 64);
    if (error == cudaSuccess) cudaFree(memory);
    return error;
}
static cudaError_t use_legacy_stream(cudaStream_t) {
    char byte;
    return cudaMemsetAsync(&byte, 0, 1, NULL);
}

/* ---------------------------------------------------------------- streams */

MST_KERNEL(1) give(float *to, const float *from) {
    *to = *from;
}

/* Two streams, and pinned memory that their work writes; it is 0 at first. */
struct stage {
    cudaStream_t first, second;
    cudaEvent_t event;
    float *pinned; /* [4] */

    explicit stage(const char *order) {
        void *memory = NULL;
        setenv("MST_EMULATED_STREAMS", order, 1);
        cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
        cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
        unsetenv("MST_EMULATED_STREAMS");
        cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
        cudaHostAlloc(&memory, 4 * sizeof(float), cudaHostAllocPortable);
        pinned = static_cast<float *>(memory);
        for (int i = 0; i < 4; i++) pinned[i] = 0;
    }
    /* Ends all, and has streams work at once again. */
    ~stage() {
        cudaStreamDestroy(first);
        cudaStreamDestroy(second);
        cudaEventDestroy(event);
        cudaFreeHost(pinned);
        mst_emulation_stream_destroy(mst_emulation_stream_create());
    }
};

/* Kernels and copies are done when their stream is waited for, with the arguments of the call, and with what pinned memory holds by
 * then; pageable memory is read at once, and who copies to it waits. */
static bool waits(void) {
    stage s("lazy");
    float *p = s.pinned, pageable = 3, copied = 0;
    MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    bool right = p[0] == 0;
    cudaMemcpyAsync(&p[1], &p[3], sizeof *p, cudaMemcpyDefault, s.first);
    cudaMemcpyAsync(&p[2], &pageable, sizeof *p, cudaMemcpyDefault, s.first);
    p[3] = 5, pageable = 7;
    right = right && p[1] == 0 && p[2] == 0 && cudaStreamSynchronize(s.second) == cudaSuccess && p[0] == 0;
    cudaStreamSynchronize(s.first);
    right = right && p[0] == 1 && p[1] == 5 && p[2] == 3;
    MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    cudaMemcpyAsync(&copied, &p[0], sizeof *p, cudaMemcpyDefault, s.first);
    return right && copied == 2;
}

/* Work that follows an event is done after what stands before it, and no more is done for that. */
static bool follows(const char *order, bool others) {
    stage s(order);
    float *p = s.pinned;
    MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    cudaEventRecord(s.event, s.first);
    MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    cudaStreamWaitEvent(s.second, s.event, 0);
    MST_START(give, 1, 1, 0, s.second, &p[1], &p[0]);
    bool right = p[0] == 0;
    cudaStreamSynchronize(s.second);
    return right && p[0] == (others ? 2 : 1) && p[1] == p[0];
}

/* A wait that is missing: the second stream's work reads what the first has not written. */
static bool misses(const char *order, bool forces_writer) {
    stage s(order);
    float *p = s.pinned;
    MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    MST_START(give, 1, 1, 0, s.second, &p[1], &p[0]);
    cudaStreamSynchronize(forces_writer ? s.first : s.second);
    cudaStreamSynchronize(s.second);
    return p[1] == 0;
}

/* Looks at an event move its stream piece by piece. */
static bool looks(void) {
    stage s("lazy");
    float *p = s.pinned;
    for (int i = 0; i < 2; i++) MST_START(add, 1, 1, 0, s.first, &p[0], 1.0f);
    cudaEventRecord(s.event, s.first);
    bool right = p[0] == 0;
    right = right && cudaEventQuery(s.event) == cudaErrorNotReady && p[0] == 1;
    right = right && cudaEventQuery(s.event) == cudaErrorNotReady && p[0] == 2;
    return right && cudaEventQuery(s.event) == cudaSuccess;
}

/* A graph is done when its stream is waited for, though it is destroyed before. */
static bool launches_later(void) {
    stage s("lazy");
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    cudaStreamBeginCapture(s.first, cudaStreamCaptureModeThreadLocal);
    MST_START(add, 1, 1, 0, s.first, &s.pinned[0], 1.0f);
    cudaStreamEndCapture(s.first, &graph);
    cudaGraphInstantiate(&executable, graph, 0);
    cudaGraphDestroy(graph);
    for (int i = 0; i < 2; i++) cudaGraphLaunch(executable, s.first);
    cudaGraphExecDestroy(executable);
    bool right = s.pinned[0] == 0;
    cudaStreamSynchronize(s.first);
    return right && s.pinned[0] == 2;
}

int main() {
    check(dies(divergent, SIGABRT,
               "kernel two_barriers, block (0, 0, 0): threads meet at different __syncthreads"),
          "threads of a block at two barriers");
    check(dies(lonely, SIGABRT, "threads wait for others that will not come"),
          "a warp call that half a warp makes");
    check(!always_right(false), "a missing barrier");
    check(always_right(true), "nothing, where the barrier is there");
    float out[THREADS];
    MST_START(unwritten, 1, THREADS, 0, NULL, out);
    check(out[0] != out[0] && out[THREADS - 1] != out[THREADS - 1], "shared memory that was not written");
    alignas(16) bf16 from[8] = {1, 2, 3, 4, 5, 6, 7, 8}, copied[8];
    MST_START(not_waited_for, 1, 32, 0, NULL, from, copied, false);
    check(copied[0] == 0xffff, "a read before cp.async has ended");
    MST_START(not_waited_for, 1, 32, 0, NULL, from, copied, true);
    check(memcmp(from, copied, sizeof from) == 0, "nothing, after the wait");
    check(dies(touch, SIGSEGV, ""), "host code that touches device memory");
    check(multiplies(), "the product of two matrices");
    check(captures(), "what a graph does, and when");
    check(refuses(cudaStreamSynchronize), "waiting for a stream that captures");
    check(refuses(allocate), "an allocation during a capture");
    check(refuses(use_legacy_stream), "work on the legacy stream during a capture");
    check(waits(), "what is kept until it is waited for");
    check(follows("lazy", false) && follows("others", true), "work behind an event");
    check(misses("lazy", false) && misses("others", true), "a missing wait for another stream");
    check(looks(), "looks at an event");
    check(launches_later(), "a graph that is kept");
    return failures > 0;
}
