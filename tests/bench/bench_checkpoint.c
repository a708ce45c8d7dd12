/*
 * The hands of bench_checkpoint.py: holds the state of GPT-2 124M with its moments (1.5 GB), and does with it what the
 * lines on standard input say. Each answer is one line, of seconds where nothing else is said.
 *
 *   bench_checkpoint FOLDER THREADS     says at first the bytes of the state, and the elements of each tensor
 *     write plain|early|direct FILE   the bytes of the state by pwrite into a new file, with its fsync
 *     save at_once|behind             to where training can go on, to the last fsync of data, to the commit; and the path
 *     train THREADS                   steps a second of a little trainer: alone, beside a thread that only counts, beside one
 *                                     that writes and reads the bytes, and while a save is in flight; and the path
 *     read FILE                       the file by pread into the state's memory
 *     load PATH, verify PATH          the checkpoint
 *     copy                            one memcpy of the state
 *     drop FILE                       the file out of the page cache; answers the share that is still there
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "muster/clock.h"
#include "muster/saver.h"

static void must(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "bench_checkpoint: %s: %s\n", what, mst_error_message());
    perror("bench_checkpoint");
    exit(1);
}

typedef struct bench {
    const char *folder;
    mst_kernels kernels;
    mst_checkpoint_context context;
    mst_layout layout;
    mst_shard *shards;
    mst_checkpoint_meta meta;
    mst_saver *at_once, *behind;
    char *state, *copy; /* all shards in one piece, each time */
    size_t bytes;       /* of the tensors; state has padding besides */
} bench;

/* --- the state --- */

static const mst_model_config gpt2 = {.family = MST_FAMILY_GPT2,
                                      .vocab_size = 50257,
                                      .d_model = 768,
                                      .n_layers = 12,
                                      .n_heads = 12,
                                      .n_kv_heads = 12,
                                      .head_dim = 64,
                                      .d_ff = 3072,
                                      .max_seq_len = 1024,
                                      .norm_eps = 1e-5,
                                      .init_deviation = 0.02,
                                      .tie_embeddings = true};

static void begin(bench *b, int threads) {
    must(mst_comm_create_alone(&b->context.comm) == MST_OK, "comm");
    must(mst_queue_create(threads, &b->context.queue) == MST_OK, "queue");
    must(mst_kernels_open(MST_DEVICE_CPU, NULL, &b->kernels) == MST_OK, "kernels");
    b->context.kernels = &b->kernels;
    must(mst_model_layout(&gpt2, &b->layout) == MST_OK, "layout");
    b->meta = (mst_checkpoint_meta){.model = gpt2};
    b->bytes = b->layout.parameters * MST_KIND_COUNT * sizeof(float);

    const size_t elements = b->layout.blocks * MST_BLOCK, all = elements * MST_KIND_COUNT * sizeof(float);
    void *state, *copy;
    must(mst_memory_alloc(MST_SPACE_HOST, all, &state) == MST_OK, "state");
    must(mst_memory_alloc(MST_SPACE_HOST, all, &copy) == MST_OK, "copy");
    b->state = state;
    b->copy = copy;
    uint64_t *words = state;
    for (size_t i = 0; i < all / sizeof *words; i++) words[i] = i * 0x9e3779b97f4a7c15u;
    memset(copy, 1, all); /* memory is given at the first touch */

    float *at = state;
    b->shards = calloc(b->layout.unit_count, sizeof *b->shards);
    must(b->shards != NULL, "shards");
    for (size_t u = 0; u < b->layout.unit_count; u++) {
        const size_t blocks = b->layout.units[u].blocks;
        b->shards[u] =
            (mst_shard){.blocks = blocks, .master = at, .m = at + elements, .v = at + 2 * elements};
        at += blocks * MST_BLOCK;
    }
    mst_saver_options options = {.folder = b->folder};
    must(mst_saver_create(&b->context, &b->layout, b->shards, &options, &b->at_once) == MST_OK, "saver");
    options.copies = true;
    must(mst_saver_create(&b->context, &b->layout, b->shards, &options, &b->behind) == MST_OK, "saver");
}

/* --- what is measured --- */

static double raw_write(const bench *b, const char *how, const char *path) {
    enum { PAGE = 4096, PART = 8 << 20 };
    const bool early = strcmp(how, "early") == 0, direct = strcmp(how, "direct") == 0;
    const size_t bytes = b->bytes / PAGE * PAGE;
    const double begun = mst_clock_now();
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | (direct ? O_DIRECT : 0), 0666);
    must(fd >= 0, path);
    for (size_t at = 0; at < bytes;) {
        const size_t part = bytes - at < PART ? bytes - at : PART;
        const ssize_t put = pwrite(fd, b->state + at, part, (off_t)at);
        must(put > 0, path);
        if (early) sync_file_range(fd, (off_t)at, put, SYNC_FILE_RANGE_WRITE);
        at += (size_t)put;
    }
    must(fsync(fd) == 0, path);
    const double ended = mst_clock_now();
    close(fd);
    return ended - begun;
}

static double raw_read(const bench *b, const char *path, int flags) {
    enum { PART = 4 << 20 };
    const double begun = mst_clock_now();
    int fd = open(path, O_RDONLY | flags);
    must(fd >= 0, path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    ssize_t got;
    for (size_t at = 0; (got = pread(fd, b->copy + at, PART, (off_t)at)) > 0;) at += (size_t)got;
    must(got == 0, path);
    close(fd);
    return mst_clock_now() - begun;
}

static void save(bench *b, mst_saver *saver) {
    mst_saved saved;
    b->meta.step++;
    must(mst_saver_begin(saver, &b->meta) == MST_OK, "begin to save");
    must(mst_saver_wait(saver, &saved) == MST_OK, "save");
    printf("%.6f %.6f %.6f %s\n", saved.stalled, saved.written, saved.seconds, saved.path);
}

/* A step of training, in little: as many operations of products to a byte of the optimizer's update as GPT-2 124M has them at 1,024
 * tokens a step (about 220), over memory that no cache holds. */
enum { SIDE = 1024, COUNT = SIDE * SIDE, ARRAYS = 7, PRODUCTS = 3, SETS = 16 };

static void step(const bench *b, mst_queue *queue, float *memory, size_t number) {
    float *set = memory + number % SETS * ARRAYS * COUNT;
    const mst_matmul_args product = {.m = SIDE,
                                     .n = SIDE,
                                     .k = SIDE,
                                     .dtype = MST_F32,
                                     .c_dtype = MST_F32,
                                     .a = set,
                                     .lda = SIDE,
                                     .b = set + COUNT,
                                     .ldb = SIDE,
                                     .c = set + 2 * COUNT,
                                     .ldc = SIDE};
    const mst_adamw_part all = {.count = COUNT};
    const mst_adamw_args update = {.parts = &all,
                                   .part_count = 1,
                                   .gradient = set + 2 * COUNT,
                                   .m = set + 3 * COUNT,
                                   .v = set + 4 * COUNT,
                                   .master = set + 5 * COUNT,
                                   .weight = set + 6 * COUNT,
                                   .weight_dtype = MST_F32,
                                   .beta1 = 0.9,
                                   .beta2 = 0.95,
                                   .eps = 1e-8,
                                   .correction1 = 1,
                                   .correction2_sqrt = 1};
    for (int i = 0; i < PRODUCTS; i++) must(b->kernels.matmul(queue, &product) == MST_OK, "matmul");
    must(b->kernels.adamw(queue, &update) == MST_OK, "adamw");
}

/* Steps a second, for one second. */
static double pace(bench *b, mst_queue *queue, float *memory) {
    size_t steps = 0;
    const double begun = mst_clock_now();
    for (; mst_clock_now() - begun < 1; steps++) step(b, queue, memory, steps);
    return (double)steps / (mst_clock_now() - begun);
}

/* Takes a processor and nothing else: no memory, no disk. */
static void *count_up(void *context) {
    atomic_bool *ends = context;
    for (volatile uint64_t number = 0; !atomic_load_explicit(ends, memory_order_relaxed);) number++;
    return NULL;
}

static double pace_beside_counting(bench *b, mst_queue *queue, float *memory) {
    pthread_t thread;
    atomic_bool ends = false;
    must(pthread_create(&thread, NULL, count_up, &ends) == 0, "thread");
    const double found = pace(b, queue, memory);
    atomic_store(&ends, true);
    pthread_join(thread, NULL);
    return found;
}

/* The bytes of the state to the disk and back, past the page cache: what a save asks of the machine at the least. */
typedef struct traffic {
    const bench *bench;
    char path[4200];
    atomic_bool over;
} traffic;

static void *write_and_read(void *context) {
    traffic *t = context;
    raw_write(t->bench, "direct", t->path);
    raw_read(t->bench, t->path, O_DIRECT);
    atomic_store(&t->over, true);
    return NULL;
}

static double pace_beside_traffic(bench *b, mst_queue *queue, float *memory) {
    pthread_t thread;
    traffic t = {.bench = b};
    size_t steps = 0;
    snprintf(t.path, sizeof t.path, "%s/traffic.bin", b->folder);
    must(pthread_create(&thread, NULL, write_and_read, &t) == 0, "thread");
    const double begun = mst_clock_now();
    for (; !atomic_load(&t.over); steps++) step(b, queue, memory, steps);
    const double found = (double)steps / (mst_clock_now() - begun);
    pthread_join(thread, NULL);
    unlink(t.path);
    sync(); /* what removing costs the disk is not the next one's */
    return found;
}

/* Steps a second; the save begins and ends as it does in training. */
static double pace_beside_save(bench *b, mst_queue *queue, float *memory, mst_saved *saved) {
    bool over = false;
    size_t steps = 0;
    b->meta.step++;
    must(mst_saver_begin(b->behind, &b->meta) == MST_OK, "begin to save");
    const double begun = mst_clock_now();
    for (; !over; steps++) {
        step(b, queue, memory, steps);
        must(mst_saver_poll(b->behind, &over, saved) == MST_OK, "save");
    }
    return (double)steps / (mst_clock_now() - begun);
}

static void train(bench *b, int threads) {
    mst_queue *queue;
    mst_saved saved;
    void *memory;
    must(mst_queue_create(threads, &queue) == MST_OK, "queue");
    must(mst_memory_alloc(MST_SPACE_HOST, SETS * ARRAYS * COUNT * sizeof(float), &memory) == MST_OK,
         "memory");
    for (size_t i = 0; i < SETS; i++) step(b, queue, memory, i);
    const double alone = pace(b, queue, memory), counting = pace_beside_counting(b, queue, memory),
                 moving = pace_beside_traffic(b, queue, memory),
                 saving = pace_beside_save(b, queue, memory, &saved);
    printf("%.6f %.6f %.6f %.6f %s\n", alone, counting, moving, saving, saved.path);
    mst_memory_free(MST_SPACE_HOST, &memory);
    mst_queue_destroy(&queue);
}

static double drop(const char *path) {
    struct stat facts;
    int fd = open(path, O_RDONLY);
    must(fd >= 0 && fstat(fd, &facts) == 0, path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    const size_t bytes = (size_t)facts.st_size, page = (size_t)sysconf(_SC_PAGESIZE),
                 pages = (bytes + page - 1) / page;
    size_t there = 0;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *resident = malloc(pages + 1);
    must(map != MAP_FAILED && resident != NULL && mincore(map, bytes, resident) == 0, path);
    for (size_t i = 0; i < pages; i++) there += resident[i] & 1;
    free(resident);
    munmap(map, bytes);
    close(fd);
    return (double)there / (double)pages;
}

static double timed(bench *b, const char *what, const char *path) {
    mst_checkpoint_digests digests;
    const double begun = mst_clock_now();
    if (strcmp(what, "load") == 0)
        must(mst_checkpoint_load(&b->context, path, &b->layout, b->shards) == MST_OK, "load");
    else if (strcmp(what, "verify") == 0)
        must(mst_checkpoint_verify(&b->context, path, &digests) == MST_OK, "verify");
    else if (strcmp(what, "copy") == 0)
        memcpy(b->copy, b->state, b->bytes);
    else
        must(false, what);
    return mst_clock_now() - begun;
}

int main(int argc, char **argv) {
    bench b = {.folder = argc == 3 ? argv[1] : ""};
    char line[8192], what[16], how[16], path[4096];
    int threads;
    if (argc != 3) return 2;
    begin(&b, atoi(argv[2]));
    printf("%zu", b.bytes);
    for (size_t i = 0; i < b.layout.tensor_count; i++) printf(" %zu", b.layout.tensors[i].count);
    printf("\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "write %15s %4095s", how, path) == 2)
            printf("%.6f\n", raw_write(&b, how, path));
        else if (sscanf(line, "read %4095s", path) == 1)
            printf("%.6f\n", raw_read(&b, path, 0));
        else if (sscanf(line, "drop %4095s", path) == 1)
            printf("%.6f\n", drop(path));
        else if (sscanf(line, "save %15s", how) == 1)
            save(&b, strcmp(how, "behind") == 0 ? b.behind : b.at_once);
        else if (sscanf(line, "train %d", &threads) == 1)
            train(&b, threads);
        else if (sscanf(line, "%15s %4095s", what, path) >= 1)
            printf("%.6f\n", timed(&b, what, path));
        fflush(stdout);
    }
    return 0;
}
