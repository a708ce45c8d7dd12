#include "matmul_onednn.h"

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if DNNL_VERSION_MAJOR != 2 && DNNL_VERSION_MAJOR != 3
#error "muster knows the C interfaces of oneDNN 2 and 3"
#endif

enum { BUCKETS = 256 };

typedef void thread_count_fn(int threads);

typedef struct member {
    dnnl_stream_t stream;
    dnnl_memory_t a, b, bias, c, scratch;
} member;

struct onednn_team {
    onednn_team *next; /* in the product's list of free teams */
    int threads;
    member members[];
};

struct onednn_product {
    onednn_key key;
    onednn_product *next; /* in its bucket */
    bool reference_only;  /* oneDNN has no fast implementation; nothing below is set */
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    size_t scratch_bytes;
    onednn_team *free_teams; /* owned */
};

/* The library, opened once per process; products are never removed, so a pointer to one stays good. */
static struct library {
    pthread_mutex_t lock;
    bool open;
    mst_status status;
    dnnl_engine_t engine;
    thread_count_fn *set_openmp_threads; /* NULL when oneDNN is built without OpenMP */
    char limit[16];                      /* the level asked for, "" for none */
    onednn_product *buckets[BUCKETS];
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the two interfaces: in 3 a memory descriptor is a handle, in 2 it is a structure ---- */

typedef struct shape {
    dnnl_memory_desc_t md;
} shape;

#if DNNL_VERSION_MAJOR >= 3

typedef const_dnnl_memory_desc_t shape_pointer;

static dnnl_status_t shape_init(shape *s, const dnnl_dims_t dims, dnnl_data_type_t type,
                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(&s->md, 2, dims, type, strides);
}

static void shape_clear(shape *s) {
    if (s->md != NULL) dnnl_memory_desc_destroy(s->md);
}

static dnnl_status_t add_to_result(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_sum(post, 1.0f, 0, dnnl_data_type_undef);
}

static dnnl_status_t describe(dnnl_primitive_desc_t *description, const shape *a, const shape *b,
                              const shape *bias, const shape *c, dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(description, library.engine, a->md, b->md, bias->md, c->md,
                                             attributes);
}

static const char *dnnl_isa_3(dnnl_cpu_isa_t isa) {
    return isa == dnnl_cpu_isa_avx2_vnni_2            ? "avx2_vnni_2"
           : isa == dnnl_cpu_isa_avx512_core_fp16     ? "avx512_core_fp16"
           : isa == dnnl_cpu_isa_avx512_core_amx_fp16 ? "avx512_core_amx_fp16"
                                                      : NULL;
}

#else

typedef const dnnl_memory_desc_t *shape_pointer;

static dnnl_status_t shape_init(shape *s, const dnnl_dims_t dims, dnnl_data_type_t type,
                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(&s->md, 2, dims, type, strides);
}

static void shape_clear(shape *s) {
    (void)s;
}

static dnnl_status_t add_to_result(dnnl_post_ops_t post) {
    return dnnl_post_ops_append_sum(post, 1.0f);
}

static dnnl_status_t describe(dnnl_primitive_desc_t *description, const shape *a, const shape *b,
                              const shape *bias, const shape *c, dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t operation;
    bool has_bias = bias->md.ndims != 0;
    dnnl_status_t status =
        dnnl_matmul_desc_init(&operation, &a->md, &b->md, has_bias ? &bias->md : NULL, &c->md);
    if (status != dnnl_success) return status;
    return dnnl_primitive_desc_create(description, &operation, attributes, library.engine, NULL);
}

static const char *dnnl_isa_3(dnnl_cpu_isa_t isa) {
    (void)isa;
    return NULL;
}

#endif

/* ---- the library ---- */

static mst_status failed(dnnl_status_t code, const char *operation) {
    static const char *const names[] = {"success",       "out of memory",     "invalid arguments",
                                        "unimplemented", "last impl reached", "runtime error",
                                        "not required"};
    size_t i = (size_t)code;
    mst_status status = code == dnnl_out_of_memory ? MST_ENOMEM : MST_ELIBRARY;
    return mst_error(status, "matmul: oneDNN could not %s: %s", operation,
                     i < sizeof names / sizeof *names ? names[i] : "unknown status");
}

#define TRY_DNNL(call, operation)                                                                            \
    do {                                                                                                     \
        dnnl_status_t code_ = (call);                                                                        \
        if (code_ != dnnl_success) {                                                                         \
            status = failed(code_, (operation));                                                             \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

/*
 * oneDNN must compute every call on the calling thread: its own partition depends on the number of threads.
 * Its OpenMP runtime is asked by name, so that we neither choose nor link one.
 */
static mst_status find_thread_count(void) {
    mst_status status = MST_OK;
    const dnnl_version_t *version = dnnl_version();
    if (version->cpu_runtime == DNNL_RUNTIME_SEQ) return MST_OK;
    MST_CHECK(version->cpu_runtime == DNNL_RUNTIME_OMP, MST_EUNSUPPORTED,
              "matmul: this oneDNN is built with threading runtime %u, which cannot be held to one thread "
              "per call; "
              "use a oneDNN built with OpenMP or without threads",
              version->cpu_runtime);
    void *symbol = dlsym(RTLD_DEFAULT, "omp_set_num_threads");
    MST_CHECK(symbol != NULL, MST_ELIBRARY,
              "matmul: oneDNN uses OpenMP, but omp_set_num_threads is not to be found");
    memcpy(&library.set_openmp_threads, &symbol, sizeof symbol);
done:
    return status;
}

/* The caller holds the lock. */
static mst_status open_library(void) {
    if (library.open) return library.status;
    mst_status status = MST_OK;
    MST_TRY(find_thread_count());
    TRY_DNNL(dnnl_engine_create(&library.engine, dnnl_cpu, 0), "open the CPU");
done:
    library.open = true;
    library.status = status;
    return status;
}

/* A thread count is a property of the calling thread, so every call says it again;
 * it costs a few instructions. */
static void stay_on_this_thread(void) {
    if (library.set_openmp_threads != NULL) library.set_openmp_threads(1);
}

static const char *isa_name(dnnl_cpu_isa_t isa) {
    switch (isa) {
    case dnnl_cpu_isa_sse41:
        return "sse41";
    case dnnl_cpu_isa_avx:
        return "avx";
    case dnnl_cpu_isa_avx2:
        return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
        return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
        return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
        return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
        return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
        return "avx512_core_amx";
    default:
        return dnnl_isa_3(isa);
    }
}

static onednn_traits traits;

static void find_traits(void) {
    /* The values are sets of bits: a greater instruction set contains the bits of the smaller. */
    unsigned isa = (unsigned)dnnl_get_effective_cpu_isa();
    unsigned wide = dnnl_cpu_isa_avx512_core, bf16 = dnnl_cpu_isa_avx512_core_bf16;
    traits = (onednn_traits){.wide = (isa & wide) == wide, .bf16 = (isa & bf16) == bf16};
}

onednn_traits onednn_traits_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_traits);
    return traits;
}

void onednn_class(char *text, size_t size) {
    const dnnl_version_t *version = dnnl_version();
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    const char *name = isa_name(isa);
    char number[32];
    snprintf(number, sizeof number, "isa%x", (unsigned)isa);
    long l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    snprintf(text, size, "onednn-%d.%d.%d-%s-l2=%ldk", version->major, version->minor, version->patch,
             name != NULL ? name : number, l2 > 0 ? l2 / 1024 : 0);
}

mst_status onednn_limit(const char *level) {
    mst_status status = MST_OK;
    pthread_mutex_lock(&library.lock);
    bool v2 = strcmp(level, "x86-64-v2") == 0, v3 = strcmp(level, "x86-64-v3") == 0;
    const char *wanted = v2 || v3 ? level : "";
    if (strcmp(wanted, library.limit) == 0) goto done;
    /* oneDNN refuses a change once it has chosen its kernels; lifting a limit would be such a change too. */
    bool changed = library.limit[0] == '\0' &&
                   dnnl_set_max_cpu_isa(v2 ? dnnl_cpu_isa_sse41 : dnnl_cpu_isa_avx2) == dnnl_success;
    MST_CHECK(
        changed, MST_EUNSUPPORTED,
        "matmul: level %s comes too late: oneDNN is in use with %s; choose one level per process, before the "
        "first product",
        level, library.limit[0] != '\0' ? library.limit : "the best level");
    snprintf(library.limit, sizeof library.limit, "%s", wanted);
done:
    pthread_mutex_unlock(&library.lock);
    return status;
}

/* ---- products ---- */

static dnnl_data_type_t type_of(int32_t dtype) {
    return dtype == MST_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t matrix(shape *s, int64_t rows, int64_t cols, int64_t ld, bool transposed,
                            int32_t dtype) {
    dnnl_dims_t dims = {rows, cols}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return shape_init(s, dims, type_of(dtype), strides);
}

static mst_status make_attributes(const onednn_key *key, dnnl_primitive_attr_t *attributes_out) {
    mst_status status = MST_OK;
    dnnl_post_ops_t post = NULL;
    TRY_DNNL(dnnl_primitive_attr_create(attributes_out), "create attributes");
    TRY_DNNL(dnnl_primitive_attr_set_scratchpad_mode(*attributes_out, dnnl_scratchpad_mode_user),
             "take our scratch");
    /* The environment may have allowed fp32 products in bf16. */
    TRY_DNNL(dnnl_primitive_attr_set_fpmath_mode(*attributes_out, dnnl_fpmath_mode_strict), "be strict");
    if (key->accumulate) {
        TRY_DNNL(dnnl_post_ops_create(&post), "create post-operations");
        TRY_DNNL(add_to_result(post), "add to the result");
        TRY_DNNL(dnnl_primitive_attr_set_post_ops(*attributes_out, post), "set post-operations");
    }
done:
    if (post != NULL) dnnl_post_ops_destroy(post);
    return status;
}

/* Fills in a product whose key is set. */
static mst_status make_primitive(onednn_product *p) {
    mst_status status = MST_OK;
    const onednn_key *key = &p->key;
    dnnl_primitive_attr_t attributes = NULL;
    shape a = {0}, b = {0}, bias = {0}, c = {0};
    const char *implementation = "";
    MST_TRY(make_attributes(key, &attributes));
    TRY_DNNL(matrix(&a, key->m, key->k, key->lda, key->a_transposed, key->dtype), "describe a");
    TRY_DNNL(matrix(&b, key->k, key->n, key->ldb, key->b_transposed, key->dtype), "describe b");
    TRY_DNNL(matrix(&c, key->m, key->n, key->ldc, false, key->c_dtype), "describe c");
    if (key->bias) TRY_DNNL(matrix(&bias, 1, key->n, key->n, false, MST_F32), "describe the bias");
    stay_on_this_thread();
    dnnl_status_t code = describe(&p->description, &a, &b, &bias, &c, attributes);
    p->reference_only = code == dnnl_unimplemented;
    if (p->reference_only) goto done;
    TRY_DNNL(code, "describe a product");
    TRY_DNNL(dnnl_primitive_desc_query(p->description, dnnl_query_impl_info_str, 0, &implementation),
             "name an implementation");
    p->reference_only = strncmp(implementation, "ref", 3) == 0;
    if (p->reference_only) goto done;
    p->scratch_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(p->description, dnnl_query_scratchpad_md, 0));
    TRY_DNNL(dnnl_primitive_create(&p->primitive, p->description), "create a product");
done:
    shape_clear(&a);
    shape_clear(&b);
    shape_clear(&bias);
    shape_clear(&c);
    if (attributes != NULL) dnnl_primitive_attr_destroy(attributes);
    return status;
}

/* FNV-1a over the bytes of a key. */
static size_t bucket_of(const onednn_key *key) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ ((const unsigned char *)key)[i]) * 0x100000001b3u;
    return (size_t)(hash >> 32) % BUCKETS;
}

mst_status onednn_product_find(const onednn_key *key, onednn_product **product_out) {
    mst_status status = MST_OK;
    onednn_product *made = NULL;
    pthread_mutex_lock(&library.lock);
    MST_TRY(open_library());
    onednn_product **bucket = &library.buckets[bucket_of(key)], *p = *bucket;
    while (p != NULL && memcmp(&p->key, key, sizeof *key) != 0) p = p->next;
    if (p == NULL) {
        made = calloc(1, sizeof *made);
        MST_CHECK(made != NULL, MST_ENOMEM, "matmul: no memory for a product's %zu bytes", sizeof *made);
        made->key = *key;
        MST_TRY(make_primitive(made));
        made->next = *bucket;
        *bucket = p = made;
        made = NULL;
    }
    MST_CHECK(!p->reference_only, MST_EUNSUPPORTED,
              "matmul: oneDNN has no fast %s product of [%lld, %lld, %lld] on this processor",
              mst_dtype_name((mst_dtype)key->dtype), (long long)key->m, (long long)key->n, (long long)key->k);
    *product_out = p;
done:
    if (made != NULL && made->description != NULL) dnnl_primitive_desc_destroy(made->description);
    free(made);
    pthread_mutex_unlock(&library.lock);
    return status;
}

size_t onednn_product_scratch(const onednn_product *product) {
    return product->scratch_bytes;
}

/* ---- teams ---- */

static void team_destroy(onednn_team *team) {
    for (int i = 0; team != NULL && i < team->threads; i++) {
        member *one = &team->members[i];
        dnnl_memory_t memories[] = {one->a, one->b, one->bias, one->c, one->scratch};
        for (size_t j = 0; j < sizeof memories / sizeof *memories; j++)
            if (memories[j] != NULL) dnnl_memory_destroy(memories[j]);
        if (one->stream != NULL) dnnl_stream_destroy(one->stream);
    }
    free(team);
}

/* A memory object of the shape that the product expects, without data. */
static dnnl_status_t make_memory(const onednn_product *p, dnnl_query_t what, int index,
                                 dnnl_memory_t *memory_out) {
    shape_pointer md = dnnl_primitive_desc_query_md(p->description, what, index);
    return dnnl_memory_create(memory_out, md, library.engine, DNNL_MEMORY_NONE);
}

static mst_status make_member(const onednn_product *p, member *one) {
    mst_status status = MST_OK;
    TRY_DNNL(dnnl_stream_create(&one->stream, library.engine, dnnl_stream_default_flags), "create a stream");
    TRY_DNNL(make_memory(p, dnnl_query_src_md, 0, &one->a), "create memory");
    TRY_DNNL(make_memory(p, dnnl_query_weights_md, 0, &one->b), "create memory");
    TRY_DNNL(make_memory(p, dnnl_query_dst_md, 0, &one->c), "create memory");
    TRY_DNNL(make_memory(p, dnnl_query_scratchpad_md, 0, &one->scratch), "create memory");
    if (p->key.bias) TRY_DNNL(make_memory(p, dnnl_query_weights_md, 1, &one->bias), "create memory");
done:
    return status;
}

mst_status onednn_team_take(onednn_product *product, int threads, onednn_team **team_out) {
    mst_status status = MST_OK;
    onednn_team *team = NULL;
    pthread_mutex_lock(&library.lock);
    onednn_team **place = &product->free_teams;
    while (*place != NULL && (*place)->threads < threads) place = &(*place)->next;
    if (*place != NULL) {
        *team_out = *place;
        *place = (*place)->next;
        goto done;
    }
    size_t bytes = sizeof *team + (size_t)threads * sizeof *team->members;
    team = calloc(1, bytes);
    MST_CHECK(team != NULL, MST_ENOMEM, "matmul: no memory for the handles' %zu bytes", bytes);
    team->threads = threads;
    for (int i = 0; i < threads; i++) MST_TRY(make_member(product, &team->members[i]));
    *team_out = team;
    team = NULL;
done:
    team_destroy(team);
    pthread_mutex_unlock(&library.lock);
    return status;
}

void onednn_team_give(onednn_product *product, onednn_team **team) {
    if (*team == NULL) return;
    pthread_mutex_lock(&library.lock);
    (*team)->next = product->free_teams;
    product->free_teams = *team;
    pthread_mutex_unlock(&library.lock);
    *team = NULL;
}

/* The interface takes inputs without const. */
static void *writable(const void *p) {
    void *q;
    memcpy(&q, &p, sizeof q);
    return q;
}

mst_status onednn_run(const onednn_product *product, onednn_team *team, int thread, const void *a,
                      const void *b, const float *bias, void *c, void *scratch) {
    mst_status status = MST_OK;
    member *one = &team->members[thread];
    dnnl_exec_arg_t arguments[5] = {{DNNL_ARG_SRC, one->a},
                                    {DNNL_ARG_WEIGHTS, one->b},
                                    {DNNL_ARG_DST, one->c},
                                    {DNNL_ARG_SCRATCHPAD, one->scratch},
                                    {DNNL_ARG_BIAS, one->bias}};
    TRY_DNNL(dnnl_memory_set_data_handle(one->a, writable(a)), "take a");
    TRY_DNNL(dnnl_memory_set_data_handle(one->b, writable(b)), "take b");
    TRY_DNNL(dnnl_memory_set_data_handle(one->c, c), "take c");
    TRY_DNNL(dnnl_memory_set_data_handle(one->scratch, scratch), "take scratch");
    if (product->key.bias) TRY_DNNL(dnnl_memory_set_data_handle(one->bias, writable(bias)), "take the bias");
    stay_on_this_thread();
    TRY_DNNL(dnnl_primitive_execute(product->primitive, one->stream, product->key.bias ? 5 : 4, arguments),
             "compute a product");
    TRY_DNNL(dnnl_stream_wait(one->stream), "wait for a product");
done:
    return status;
}
