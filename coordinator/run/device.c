#include "device.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/clock.h"

typedef struct place {
    cpu_set_t cores;
    char class_name[sizeof((mst_kernels *)0)->class_name];
    char device_id[sizeof((mst_kernels *)0)->device_id];
    size_t memory; /* of its GPU; 0: it has none */
} place;

/* Cores that this rank may use, divided by the ranks of its host that may use exactly the same. */
static int fair_threads(const mst_comm *comm, const place *places) {
    const int rank = mst_comm_rank(comm);
    int sharers = 1;
    for (int r = 0; r < mst_comm_size(comm); r++)
        if (r != rank && strcmp(mst_comm_host(comm, r), mst_comm_host(comm, rank)) == 0 &&
            CPU_EQUAL(&places[r].cores, &places[rank].cores))
            sharers++;
    const int threads = CPU_COUNT(&places[rank].cores) / sharers;
    return threads > 0 ? threads : 1;
}

/*
 * Cores that mpirun may use and its ranks here may not: Open MPI binds each rank to one core unless told
 * otherwise, which leaves most of a node idle. Other launchers' limits are meant, so only mpirun's are looked
 * at.
 */
static int cores_kept_by_mpirun(const mst_comm *comm, const place *places) {
    cpu_set_t launcher, used;
    if (getenv("OMPI_COMM_WORLD_LOCAL_SIZE") == NULL ||
        sched_getaffinity(getppid(), sizeof launcher, &launcher) != 0)
        return 0;
    CPU_ZERO(&used);
    for (int r = 0; r < mst_comm_size(comm); r++)
        if (strcmp(mst_comm_host(comm, r), mst_comm_host(comm, mst_comm_rank(comm))) == 0)
            CPU_OR(&used, &used, &places[r].cores);
    const int kept = CPU_COUNT(&launcher) - CPU_COUNT(&used);
    return kept > 0 ? kept : 0;
}

/* The class of all ranks: theirs, or where they may differ "mixed: " and each one, in the order of ranks. */
static mst_status name_class(const mst_config *config, const mst_comm *comm, const place *places,
                             run_device *d) {
    mst_status status = MST_OK;
    snprintf(d->class_name, sizeof d->class_name, "%s", places[0].class_name);
    for (int r = 1; r < mst_comm_size(comm); r++) {
        if (strcmp(places[r].class_name, places[0].class_name) == 0) continue;
        MST_CHECK(config->batch.allow_mixed, MST_ECONFIG,
                  "the ranks' device classes differ: rank 0 on %s is '%s', rank %d on %s is '%s'; set "
                  "device.level to the highest that all have (on GPUs device.attention_workspace to 0 where "
                  "only cuDNN differs), "
                  "or, if the result need not be repeatable, batch.allow_mixed to true",
                  mst_comm_host(comm, 0), places[0].class_name, r, mst_comm_host(comm, r),
                  places[r].class_name);
        if (!d->mixed) snprintf(d->class_name, sizeof d->class_name, "mixed: %s", places[0].class_name);
        d->mixed = true;
        const size_t used = strlen(d->class_name);
        if (strstr(d->class_name, places[r].class_name) == NULL)
            snprintf(d->class_name + used, sizeof d->class_name - used, ", %s", places[r].class_name);
    }
done:
    return status;
}

/* The least that a rank has of a GPU's memory, which ranks that share one divide; 0: some rank has no GPU. */
static size_t least_memory(const mst_comm *comm, const place *places) {
    size_t least = SIZE_MAX;
    for (int r = 0; r < mst_comm_size(comm); r++) {
        size_t sharers = 0;
        if (places[r].memory == 0) return 0;
        for (int other = 0; other < mst_comm_size(comm); other++)
            sharers += strcmp(mst_comm_host(comm, other), mst_comm_host(comm, r)) == 0 &&
                       strcmp(places[other].device_id, places[r].device_id) == 0;
        if (places[r].memory / sharers < least) least = places[r].memory / sharers;
    }
    return least;
}

/* What the driver has for this process, and whatever others have. */
static mst_status look_at_memory(run_device *d) {
    mst_status status = MST_OK;
    size_t room, all;
    MST_TRY(mst_memory_room(&room, &all));
    d->taken = all - room;
done:
    return status;
}

/* Where attention may be a library's, bits depend on that, too. */
static void name_attention(const mst_config *config, mst_kernels *kernels) {
    char library[64];
    const size_t used = strlen(kernels->class_name);
    if (strcmp(kernels->name, "cuda") != 0 || mst_config_attention_workspace(config) == 0) return;
    mst_kernels_attention_library(library, sizeof library);
    if (library[0] != '\0')
        snprintf(kernels->class_name + used, sizeof kernels->class_name - used, " %s", library);
}

mst_status device_open(const mst_config *config, mst_comm *comm, int node_rank, run_device *device_out) {
    mst_status status = MST_OK;
    place mine = {{{0}}, "", "", 0}, *places = NULL;
    run_device d = {.threads = config->device.threads};
    *device_out = (run_device){0};
    const bool on_cpu = config->device.kernels == MST_DEVICE_CPU || config->device.kernels == MST_DEVICE_REF;
    char gpu[16];
    snprintf(gpu, sizeof gpu, "%d", node_rank);
    status = mst_kernels_open(config->device.kernels, on_cpu ? config->device.level : gpu, &d.kernels);
    if (status == MST_EUNSUPPORTED)
        status = mst_error(MST_ECONFIG, "device.%s: %s", on_cpu ? "level" : "kernels", mst_error_message());
    if (status == MST_OK) name_attention(config, &d.kernels);
    if (status == MST_OK) status = look_at_memory(&d);
    MST_TRY(mst_comm_agree(comm, status));
    memcpy(mine.class_name, d.kernels.class_name, sizeof mine.class_name);
    memcpy(mine.device_id, d.kernels.device_id, sizeof mine.device_id);
    mine.memory = d.kernels.memory;
    if (sched_getaffinity(0, sizeof mine.cores, &mine.cores) != 0) CPU_SET(0, &mine.cores);
    MST_TRY(mst_comm_allgather_equal(comm, &mine, sizeof mine, (void **)&places));
    MST_TRY(name_class(config, comm, places, &d));
    d.least_memory = least_memory(comm, places);
    if (d.threads == 0) {
        d.threads = fair_threads(comm, places);
        d.idle_cores = cores_kept_by_mpirun(comm, places);
    }
    MST_TRY(mst_comm_agree(comm, mst_queue_create(d.threads, &d.queue)));
    *device_out = d;
    d.queue = NULL;
done:
    mst_queue_destroy(&d.queue);
    free(places);
    return status;
}

void device_close(run_device *device) {
    mst_queue_destroy(&device->queue);
}

/* Values of about 1: products of zeros draw less power and run faster than anything else will. `scratch` is fp32 [count]. */
static mst_status fill_operand(run_device *d, mst_dtype dtype, size_t count, void *scratch, void *operand) {
    mst_status status = MST_OK;
    const mst_cast_args cast = {
        .count = count, .source = scratch, .source_dtype = MST_F32, .result = operand, .result_dtype = dtype};
    float *values = malloc(count * sizeof *values);
    MST_CHECK(values != NULL, MST_ENOMEM, "measure: no memory for %zu values", count);
    for (size_t i = 0; i < count; i++) values[i] = (float)(i * 2654435761u % 65536) / 32768.0f - 1.0f;
    MST_TRY(mst_memory_copy(d->queue, scratch, values, count * sizeof *values));
    MST_TRY(d->kernels.cast(d->queue, &cast));
done:
    free(values);
    return status;
}

/*
 * The best rate of products of side^3 in a tenth of a second, and what that one took: a few products in a row may all
 * meet a processor that wakes up or is lent to others.
 */
static mst_status product_rate(run_device *d, mst_dtype dtype, size_t side, double *rate_out,
                               double *seconds_out) {
    enum { LEAST = 4 };
    static const double long_enough = 0.1;
    mst_status status = MST_OK;
    void *a = NULL, *b = NULL, *c = NULL;
    MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, side * side * 4, &a));
    MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, side * side * 4, &b));
    MST_TRY(mst_memory_alloc(MST_SPACE_DEVICE, side * side * 4, &c));
    MST_TRY(fill_operand(d, dtype, side * side, c, a));
    MST_TRY(fill_operand(d, dtype, side * side, c, b));
    mst_matmul_args args = {.m = side,
                            .n = side,
                            .k = side,
                            .dtype = dtype,
                            .c_dtype = MST_F32,
                            .a = a,
                            .lda = side,
                            .b = b,
                            .ldb = side,
                            .c = c,
                            .ldc = side};
    const double first = mst_clock_now();
    *seconds_out = INFINITY;
    for (int i = 0; i < LEAST || mst_clock_now() - first < long_enough; i++) {
        args.b_transposed = i % 2 == 0; /* which is faster depends on the processor */
        const double begin = mst_clock_now();
        MST_TRY(d->kernels.matmul(d->queue, &args));
        MST_TRY(mst_queue_sync(d->queue));
        if (i > 1)
            *seconds_out = fmin(*seconds_out, mst_clock_now() - begin); /* the first of each kind warms up */
    }
    *rate_out = 2.0 * (double)side * (double)side * (double)side / *seconds_out;
done:
    mst_memory_free(MST_SPACE_DEVICE, &a);
    mst_memory_free(MST_SPACE_DEVICE, &b);
    mst_memory_free(MST_SPACE_DEVICE, &c);
    return status;
}

/* As much as a large matrix product reaches, not the processor's data sheet: large enough to take a while. */
static mst_status local_peak(run_device *d, mst_dtype dtype, double *peak_out) {
    enum { SMALLEST = 1024, LARGEST = 8192 };
    mst_status status = MST_OK;
    double seconds = 0;
    for (size_t side = SMALLEST; status == MST_OK && side <= LARGEST && seconds < 1e-3; side *= 2) {
        status = product_rate(d, dtype, side, peak_out, &seconds);
        if (status == MST_ENOMEM) return MST_OK; /* the smaller one counts; without any nothing is known */
    }
    return status;
}

mst_status device_peak(run_device *d, mst_comm *comm, mst_watchdog *watchdog, mst_dtype dtype,
                       double *peak_out) {
    mst_status status = MST_OK;
    mst_status local = MST_OK;
    double mine = 0, *peaks = NULL;
    *peak_out = 0;
    mst_watchdog_progress(watchdog, "measure", 0);
    if (strcmp(d->kernels.name, "ref") != 0) local = local_peak(d, dtype, &mine);
    mst_watchdog_waiting(watchdog, "measure", 0); /* who is done is not to blame for those that are not */
    MST_TRY(mst_comm_agree(comm, local));
    MST_TRY(mst_comm_allgather_equal(comm, &mine, sizeof mine, (void **)&peaks));
    for (int r = 0; r < mst_comm_size(comm); r++) *peak_out += peaks[r];
done:
    free(peaks);
    return status;
}
