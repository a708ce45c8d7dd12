/* What a rank sees of its machine. A fact that cannot be had stays empty: that is no failure. */
#include <hdf5.h>
#include <mpi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "examination.h"
#include "muster/clock.h"
#include "muster/run.h"

/* The first line of a small file; "" where there is none. */
static void read_line(const char *path, char *text_out, size_t room) {
    FILE *file = fopen(path, "re");
    text_out[0] = '\0';
    if (file == NULL) return;
    if (fgets(text_out, (int)room, file) == NULL) text_out[0] = '\0';
    text_out[strcspn(text_out, "\n")] = '\0';
    fclose(file);
}

/* The number behind a key in a file of lines "key: number ...". Below 0: not there. */
static double read_value(const char *path, const char *key) {
    char line[256];
    double value = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL) return -1;
    while (value < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0) value = strtod(line + strlen(key), NULL);
    fclose(file);
    return value;
}

static void versions(facts *f) {
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    unsigned major = 0, minor = 0, release = 0;
    MPI_Get_library_version(text, &length); /* also before MPI_Init, and without it */
    text[strcspn(text, "\n")] = '\0';
    snprintf(f->mpi, sizeof f->mpi, "%.*s", FACT_TEXT - 1, text);
    f->mpi[strcspn(f->mpi, ",")] = '\0';
    for (char *tab = f->mpi; (tab = strchr(tab, '\t')) != NULL;) *tab = ' ';
    H5get_libversion(&major, &minor, &release);
    snprintf(f->hdf5, sizeof f->hdf5, "%u.%u.%u", major, minor, release);
    snprintf(f->muster, sizeof f->muster, "%s, compiler %s", MST_VERSION, __VERSION__);
}

/* Where device.kernels is auto and finds a GPU, what follows is about a run on it. */
static void device_class(examination *e, facts *f) {
    mst_kernels kernels;
    mst_kernels_describe_cuda(f->cuda, sizeof f->cuda);
    read_line("/sys/module/nvidia/version", f->driver, sizeof f->driver);
    mst_kernels_describe_gpus(f->gpus, sizeof f->gpus);
    const mst_device device = e->has_config ? e->config.device.kernels : MST_DEVICE_CPU;
    const bool on_cpu = device == MST_DEVICE_CPU || device == MST_DEVICE_REF;
    char gpu[16];
    snprintf(gpu, sizeof gpu, "%d", mst_comm_node_rank(e->comm));
    if (mst_kernels_open(device,
                         !on_cpu         ? gpu
                         : e->has_config ? e->config.device.level
                                         : NULL,
                         &kernels) != MST_OK) {
        snprintf(f->class_name, sizeof f->class_name, "none: %.*s", FACT_TEXT - 8, mst_error_message());
        return;
    }
    snprintf(f->class_name, sizeof f->class_name, "%s", kernels.class_name);
    if (kernels.memory > 0) e->config.device.kernels = MST_DEVICE_CUDA;
}

/* Memory that could be had now: the system's estimate, and what the job's cgroup (version 2, 1) leaves. */
static double available_memory(void) {
    static const char *const limits[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"}};
    double available = 1024 * read_value("/proc/meminfo", "MemAvailable:");
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const double limit = read_value(limits[i][0], ""), used = read_value(limits[i][1], "");
        if (limit > 0 && used >= 0 && limit - used < available) available = limit - used;
    }
    return available;
}

static double limit_of(int resource) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return -1;
    return limit.rlim_cur == RLIM_INFINITY ? 1e300 : (double)limit.rlim_cur;
}

static void machine(facts *f) {
    struct statvfs shm;
    if (sched_getaffinity(0, sizeof f->cores, &f->cores) != 0) CPU_SET(0, &f->cores);
    f->online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    f->available = available_memory();
    f->shm_free = statvfs("/dev/shm", &shm) == 0 ? (double)shm.f_bavail * (double)shm.f_frsize : -1;
    f->open_files = limit_of(RLIMIT_NOFILE);
    f->core_bytes = limit_of(RLIMIT_CORE);
    read_line("/proc/sys/kernel/core_pattern", f->core_pattern, sizeof f->core_pattern);
    read_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", f->clock_source,
              sizeof f->clock_source);
}

/* Ticks that all cores of the machine were busy so far. */
static double busy_ticks(void) {
    char line[256];
    double user = 0, nice = 0, system = 0, idle, wait, irq = 0, soft = 0, steal = 0;
    read_line("/proc/stat", line, sizeof line);
    if (sscanf(line, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &wait, &irq, &soft,
               &steal) < 4)
        return -1;
    return user + nice + system + irq + soft + steal;
}

/* Cores that are busy while all ranks sleep: others' work. All ranks come here together, from a wait of their own. */
static double others_load(void) {
    const struct timespec pause = {.tv_nsec = 400000000};
    const double begin = mst_clock_now(), before = busy_ticks();
    nanosleep(&pause, NULL);
    const double ticks = busy_ticks() - before, seconds = mst_clock_now() - begin;
    return before >= 0 ? ticks / (double)sysconf(_SC_CLK_TCK) / seconds : 0;
}

/* Seconds of this thread for a chain of additions that each wait for the one before: the clock of a core, whatever its
 * load. The least of some tries. */
static double spin_seconds(void) {
    enum { TRIES = 5, ADDITIONS = 2000000 };
    double best = 1e300;
    for (int i = 0; i < TRIES; i++) {
        struct timespec begin, end;
        volatile double seed = 1e-9;
        double sum = 0, step = seed;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        for (int n = 0; n < ADDITIONS; n++) sum += step;
        seed = sum;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        const double seconds =
            (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
        if (seconds < best) best = seconds;
    }
    return best;
}

static mst_status needs(const examination *e, facts *f) {
    mst_status status = MST_OK;
    mst_plan_memory memory;
    const int size = mst_comm_size(e->comm), nodes = mst_comm_nodes(e->comm);
    const mst_transport wanted = e->config.batch.transport;
    if (!e->has_config) goto done;
    MST_TRY(mst_plan_memory_of(&e->config, size, nodes, mst_comm_rank(e->comm), &memory));
    f->need = memory.host > 0 ? memory.host : mst_plan_reported(&memory) + memory.program;
    const bool apart = nodes == size && (wanted == MST_TRANSPORT_AUTO || nodes == 1);
    const bool by_messages = wanted == MST_TRANSPORT_MPI ||
                             e->config.batch.shape.sharding == MST_SHARDING_ALL ||
                             e->config.device.kernels == MST_DEVICE_CUDA;
    if (!apart && !by_messages) f->shared_need = memory.frozen + memory.weights + memory.gradients;
done:
    return status;
}

/* What all ranks' cores give together, each with its part of its node's. */
static mst_status peak(examination *e, facts *f) {
    mst_status status = MST_OK;
    mst_config config = e->config; /* what it points to stays e's */
    mst_peak measured;
    const int cores = CPU_COUNT(&f->cores), ranks = mst_comm_node_size(e->comm);
    if (!e->has_config) goto done;
    /* Ranks that mpirun bound have their own cores; others share all. */
    const int fair = cores > f->online / ranks ? cores / ranks : cores;
    if (config.device.threads == 0) config.device.threads = fair > 0 ? fair : 1;
    f->threads = config.device.threads;
    mst_watchdog_progress(e->watchdog, "measure", 0);
    MST_TRY(mst_run_peak(&config, mst_comm_node_rank(e->comm), &measured));
    f->flops = measured.flops;
    f->driver_bytes = measured.driver;
done:
    return status;
}

mst_status doctor_gather(examination *e) {
    mst_status status = MST_OK;
    facts mine;
    memset(&mine, 0, sizeof mine); /* padding travels too */
    const int rank = mst_comm_rank(e->comm);
    const MPI_Comm *node = mst_comm_mpi(e->comm, true);
    mine.node = rank;
    mst_watchdog_progress(e->watchdog, "gather", 0);
    versions(&mine);
    device_class(e, &mine);
    machine(&mine);
    mine.spin = spin_seconds();
    mst_watchdog_waiting(e->watchdog, "gather", 0);
    if (node != NULL)
        MST_TRY(mst_comm_agree(
            e->comm, mst_comm_mpi_status(MPI_Bcast(&mine.node, 1, MPI_INT, 0, *node), "MPI_Bcast")));
    MST_TRY(mst_comm_barrier(e->comm));
    mine.busy = others_load();
    status = needs(e, &mine);
    if (status == MST_OK && strncmp(mine.class_name, "none: ", 6) != 0) status = peak(e, &mine);
    mst_watchdog_waiting(e->watchdog, "gather", 0);
    MST_TRY(mst_comm_agree(e->comm, status));
    MST_TRY(mst_comm_allgather_equal(e->comm, &mine, sizeof mine, (void **)&e->all));
done:
    return status;
}
