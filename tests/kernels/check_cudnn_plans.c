/*
 * cuDNN itself, without a GPU: for GPUs that are only described it takes our graphs, makes kernels for them, and says what memory
 * they need. It runs nothing: what the graphs compute is seen with the stand-in of tests/support, and on a GPU.
 * Skipped where there is no cuDNN, or one that is older than 9.11, the first that can be told of a GPU.
 */
#include <stdio.h>
#include <string.h>

#include "muster/footprint.h"
#include "plan.h"

#if CUDNN_VERSION < 91100
int main(void) {
    printf("skipped: built with the headers of a cuDNN that is older than 9.11\n");
    return 77;
}
#else

typedef struct gpu {
    const char *name;
    int version, processors, shared; /* 100 * capability; bytes of shared memory that a block may ask for */
} gpu;

typedef struct shape {
    uint64_t sequences, seq_len, heads, kv_heads, head_dim;
} shape;

static int failures;

static void check(bool holds, const char *what, const gpu *g, const attention_kind *k) {
    if (holds) return;
    failures++;
    fprintf(stderr, "failed: %s: %s, backward %u, %llu x %llu tokens, %llu/%llu heads of %llu\n", what,
            g->name, k->backward, (unsigned long long)k->sequences, (unsigned long long)k->seq_len,
            (unsigned long long)k->heads, (unsigned long long)k->kv_heads, (unsigned long long)k->head_dim);
}

/* As NVIDIA's tables have it; what does not matter to a choice is the same for all. */
static descriptor describe(workshop *w, const gpu *g) {
    char text[1024];
    snprintf(
        text, sizeof text,
        "{\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],\"regsPerBlock\":65536,"
        "\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":"
        "65536,"
        "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":0,"
        "\"isTccDriver\":0,"
        "\"supportCoopLaunch\":1,\"smClockRateKHz\":1500000,\"memClockRateKHz\":2000000,\"l2CacheSize\":"
        "41943040,"
        "\"deviceName\":\"%s\",\"totalGlobalMem\":42949672960,\"cudaDeviceId\":0,\"deviceVer\":%d,"
        "\"driverVer\":13000}",
        g->processors, g->shared, g->name, g->version);
    descriptor d = mst_cudnn_make(w, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    mst_cudnn_set(w, d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, (int64_t)strlen(text),
                  text);
    mst_cudnn_finish(w, d);
    return d;
}

static bool is_same(const cudnn_algorithm *a, const cudnn_algorithm *b) {
    return a->engine == b->engine && a->knob_count == b->knob_count &&
           memcmp(a->knobs, b->knobs, a->knob_count * sizeof *a->knobs) == 0;
}

/* What is recorded is enough to have the plan again, and what there is not is refused. */
static void check_again(const cudnn_place *place, const gpu *g, const attention_kind *k,
                        const cudnn_algorithm *algorithm, size_t workspace) {
    cudnn_algorithm other = *algorithm;
    cudnn_plan plan;
    const bool had = mst_cudnn_plan(place, k, algorithm, &plan);
    check(had && plan.workspace == workspace, "a recorded algorithm is to be had again, with the same memory",
          g, k);
    if (had) mst_cudnn_clear(&plan.w);
    other.engine = 12345;
    check(!mst_cudnn_plan(place, k, &other, &plan), "an engine that there is not is refused", g, k);
    if (mst_cudnn_choose(place, k, workspace, &other, &plan)) {
        check(is_same(algorithm, &other), "the choice is the same again", g, k);
        mst_cudnn_clear(&plan.w);
    }
    if (k->backward)
        check(!mst_cudnn_choose(place, k, workspace / 2, &other, &plan), "half of it is not enough", g, k);
}

static void check_kind(const cudnn_place *place, const gpu *g, const attention_kind *k, bool thoroughly) {
    cudnn_algorithm algorithm;
    cudnn_plan plan;
    const size_t planned =
        mst_attention_workspace(k->sequences, k->seq_len, k->heads, k->kv_heads, k->head_dim);
    const bool chosen = mst_cudnn_choose(place, k, planned, &algorithm, &plan);
    check(chosen, "cuDNN has an algorithm that adds in one order within the planned memory", g, k);
    if (!chosen) return;
    printf("%s, %s: %llu x %llu tokens, %llu/%llu heads of %llu: engine %lld, %zu bytes\n", g->name,
           k->backward ? "backward" : "forward", (unsigned long long)k->sequences,
           (unsigned long long)k->seq_len, (unsigned long long)k->heads, (unsigned long long)k->kv_heads,
           (unsigned long long)k->head_dim, (long long)algorithm.engine, plan.workspace);
    check(k->backward ? plan.workspace + 256 >= planned : plan.workspace <= 256, "it takes what is planned",
          g, k);
    mst_cudnn_clear(&plan.w);
    if (thoroughly) check_again(place, g, k, &algorithm, plan.workspace);
}

int main(void) {
    static const gpu gpus[] = {{"A100", 800, 108, 166912},
                               {"A40", 860, 84, 101376},
                               {"L40S", 890, 142, 101376},
                               {"H200", 900, 132, 232448}};
    static const shape shapes[] = {{16, 1024, 12, 12, 64}, {1, 4096, 32, 8, 128}, {3, 77, 5, 5, 64}};
    enum { OLDEST = 91100, MISSING = 77 };
    const size_t version = mst_cudnn_find() ? MST_CUDNN(cudnnGetVersion)() : 0;
    if (version < OLDEST) {
        printf("skipped: cuDNN is %s (Python: nvidia-cudnn-cu13)\n",
               version ? "older than 9.11" : "not installed");
        return MISSING;
    }
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++) {
        workshop w = {.count = 0};
        const cudnn_place place = {.properties = describe(&w, &gpus[i])};
        for (size_t j = 0; j < 2 * sizeof shapes / sizeof *shapes && w.code == CUDNN_STATUS_SUCCESS; j++) {
            const shape s = shapes[j / 2];
            const uint64_t ld = (s.heads + 2 * s.kv_heads) * s.head_dim;
            const attention_kind kind = {s.sequences, s.seq_len, s.heads, s.kv_heads, s.head_dim,
                                         ld,          ld,        ld,      0.125f,     j % 2};
            check_kind(&place, &gpus[i], &kind, j / 2 == i % 3);
        }
        if (w.code != CUDNN_STATUS_SUCCESS) {
            failures++;
            fprintf(stderr, "failed: cuDNN does not take the description of a GPU: status %d\n", (int)w.code);
        }
        mst_cudnn_clear(&w);
    }
    printf("check_cudnn_plans: cuDNN %zu, %d failed\n", version, failures);
    return failures > 0;
}
#endif
