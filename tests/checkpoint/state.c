#include "state.h"

#include <dirent.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test.h"

/* Rows longer and shorter than a block, ranges that cut rows, sizes around a block, one element; names whose
 * order is not the order of units; a unit with fewer blocks than ranks. */
static const test_shape large[] = {
    {"model.embed_tokens.weight", 2, {130, 97}, 0}, {"model.layers.2.mlp.weight", 2, {3, 9001}, 1},
    {"model.layers.2.norm.weight", 1, {97, 1}, 1},  {"model.layers.2.bias", 1, {4097, 1}, 1},
    {"model.layers.10.mlp.weight", 2, {64, 64}, 2}, {"model.layers.10.norm.weight", 1, {4095, 1}, 2},
    {"model.layers.10.bias", 1, {1, 1}, 2},         {"model.norm.weight", 1, {7, 1}, 3},
    {"lm_head.weight", 2, {20000, 1}, 3},
};
enum { TENSORS = sizeof large / sizeof *large, SMALL_TENSORS = 2 };

static void *must(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "test: out of memory\n");
        exit(1);
    }
    return memory;
}

uint32_t test_state_bits(uint64_t seed, mst_tensor_kind kind, const char *name, uint64_t element) {
    uint64_t h = seed * 0x9e3779b97f4a7c15u + (uint64_t)kind;
    for (; *name != '\0'; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    h ^= element * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(h >> 32);
}

static void build_layout(const test_shape *shapes, size_t tensors, mst_layout *layout) {
    *layout = (mst_layout){.tensor_count = tensors, .unit_count = shapes[tensors - 1].unit + 1};
    layout->tensors = must(calloc(tensors, sizeof *layout->tensors));
    layout->units = must(calloc(layout->unit_count, sizeof *layout->units));
    for (size_t i = 0; i < tensors; i++) {
        mst_tensor *tensor = &layout->tensors[i];
        mst_unit *unit = &layout->units[shapes[i].unit];
        *tensor = (mst_tensor){.dims = shapes[i].dims, .shape = {shapes[i].shape[0], shapes[i].shape[1]}};
        snprintf(tensor->name, sizeof tensor->name, "%s", shapes[i].name);
        tensor->unit = shapes[i].unit;
        tensor->count = shapes[i].shape[0] * shapes[i].shape[1];
        tensor->offset = unit->blocks * MST_BLOCK;
        if (unit->tensors++ == 0) unit->first_tensor = i;
        unit->blocks += (tensor->count + MST_BLOCK - 1) / MST_BLOCK;
        layout->parameters += tensor->count;
    }
    for (size_t u = 0; u < layout->unit_count; u++) {
        snprintf(layout->units[u].name, sizeof layout->units[u].name, "unit %zu", u);
        layout->units[u].first_block = layout->blocks;
        layout->blocks += layout->units[u].blocks;
    }
}

static float *shard_data(const mst_shard *shard, int kind) {
    return kind == 0 ? shard->master : kind == 1 ? shard->m : shard->v;
}

/* What element `i` of a unit's flat buffer must be: the tensor's, or zero in the padding. */
static uint32_t expected_bits(const mst_layout *layout, size_t unit, int kind, size_t i, uint64_t seed) {
    for (size_t t = 0; t < layout->tensor_count; t++) {
        const mst_tensor *tensor = &layout->tensors[t];
        if (tensor->unit == unit && i >= tensor->offset && i < tensor->offset + tensor->count)
            return test_state_bits(seed, (mst_tensor_kind)kind, tensor->name, i - tensor->offset);
    }
    return 0;
}

static void create(mst_comm *comm, uint64_t seed, const test_shape *shapes, size_t tensors, int threads,
                   test_state *s) {
    *s = (test_state){.context = {.comm = comm, .kernels = &s->kernels}};
    build_layout(shapes, tensors, &s->layout);
    if (mst_queue_create(threads, &s->context.queue) != MST_OK ||
        mst_kernels_open(MST_DEVICE_CPU, NULL, &s->kernels) != MST_OK) {
        fprintf(stderr, "test: %s\n", mst_error_message());
        exit(1);
    }
    s->shards = must(calloc(s->layout.unit_count, sizeof *s->shards));
    for (size_t u = 0; u < s->layout.unit_count; u++) {
        mst_shard *shard = &s->shards[u];
        mst_shard_range(&s->layout.units[u], mst_comm_rank(comm), mst_comm_size(comm), &shard->first_block,
                        &shard->blocks);
        size_t count = shard->blocks * MST_BLOCK;
        shard->master = must(calloc(count + 1, 4));
        shard->m = must(calloc(count + 1, 4));
        shard->v = must(calloc(count + 1, 4));
        for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
            for (size_t i = 0; i < count; i++) {
                uint32_t bits = expected_bits(&s->layout, u, kind, shard->first_block * MST_BLOCK + i, seed);
                memcpy(&shard_data(shard, kind)[i], &bits, 4);
            }
        }
    }
    s->meta = (mst_checkpoint_meta){.step = 1000, .updates = 998, .samples = 64000, .tokens = 8192000};
    s->meta.run_id = must(strdup("test-run"));
    s->meta.device_class = must(strdup("cpu, any"));
    s->meta.companions = "muster\0ustar\0\1\2\3"; /* an archive, as far as checkpoints know */
    s->meta.companion_bytes = 16;
    s->meta.tokenizer = "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\"}}\n";
    s->meta.config = must(strdup("run:\n  name: \"t\u00e9st\"\n"));
    s->meta.versions = must(strdup("muster " MST_VERSION));
    s->meta.model = (mst_model_config){.family = MST_FAMILY_LLAMA,
                                       .vocab_size = 130,
                                       .d_model = 97,
                                       .n_layers = 2,
                                       .n_heads = 1,
                                       .n_kv_heads = 1,
                                       .head_dim = 97,
                                       .d_ff = 3,
                                       .max_seq_len = 64,
                                       .norm_eps = 1e-5,
                                       .rope_theta = 10000,
                                       .init_deviation = 0.02};
    memset(s->meta.data.bytes, 0xda, sizeof s->meta.data.bytes);
}

void test_state_create(mst_comm *comm, uint64_t seed, test_state *state_out) {
    create(comm, seed, large, TENSORS, 2, state_out);
}

void test_state_create_small(mst_comm *comm, uint64_t seed, test_state *state_out) {
    create(comm, seed, large, SMALL_TENSORS, 1, state_out);
}

void test_state_create_of(mst_comm *comm, uint64_t seed, const test_shape *shapes, size_t count,
                          test_state *state_out) {
    create(comm, seed, shapes, count, 1, state_out);
}

void test_state_destroy(test_state *state) {
    for (size_t u = 0; u < state->layout.unit_count; u++) {
        free(state->shards[u].master);
        free(state->shards[u].m);
        free(state->shards[u].v);
    }
    free(state->shards);
    free(state->layout.tensors);
    free(state->layout.units);
    mst_checkpoint_meta_clear(&state->meta);
    mst_queue_destroy(&state->context.queue);
}

void test_state_spoil(test_state *state) {
    for (size_t u = 0; u < state->layout.unit_count; u++)
        for (int kind = 0; kind < MST_KIND_COUNT; kind++)
            memset(shard_data(&state->shards[u], kind), 0x5a, state->shards[u].blocks * MST_BLOCK * 4);
}

size_t test_state_differences(const test_state *state, uint64_t seed) {
    size_t differences = 0;
    for (size_t u = 0; u < state->layout.unit_count; u++) {
        const mst_shard *shard = &state->shards[u];
        for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
            for (size_t i = 0; i < shard->blocks * MST_BLOCK; i++) {
                uint32_t bits =
                             expected_bits(&state->layout, u, kind, shard->first_block * MST_BLOCK + i, seed),
                         found;
                memcpy(&found, &shard_data(shard, kind)[i], 4);
                differences += bits != found;
            }
        }
    }
    return differences;
}

void test_path(const char *folder, const char *name, char *path_out) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || length >= (int)sizeof path) exit(1);
    memcpy(path_out, path, sizeof path);
}

void test_folder_make(char *path_out) {
    const char *base = getenv("TMPDIR");
    snprintf(path_out, 4096, "%s/muster-checkpoint-XXXXXX", base != NULL ? base : "/tmp");
    must(mkdtemp(path_out));
}

static int remove_entry(const char *path, const struct stat *facts, int type, struct FTW *place) {
    (void)facts, (void)type, (void)place;
    return remove(path);
}

void test_folder_remove(const char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

size_t test_folder_entries(const char *path, size_t *dots_out) {
    size_t entries = 0;
    *dots_out = 0;
    DIR *folder = opendir(path);
    if (folder == NULL) return 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        entries++;
        *dots_out += entry->d_name[0] == '.';
    }
    closedir(folder);
    return entries;
}
