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
    return failures > 0;
}
