/* A model in Hugging Face's layout, opened for reading. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "companions.h"
#include "hf.h"
#include "muster/files.h"

#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME  "model.safetensors.index.json"

enum { PART = 1 << 20 /* elements */ };

/* ---- files ---- */

mst_status hf_path_in(const char *folder, const char *name, char path_out[HF_PATH_MAX]) {
    mst_status status = MST_OK;
    const int length = snprintf(path_out, HF_PATH_MAX, "%s/%s", folder, name);
    MST_CHECK(length > 0 && length < HF_PATH_MAX, MST_EIO, "%s: the path is too long", folder);
done:
    return status;
}

mst_status hf_open_weights(mst_hf *hf, const char *name) {
    mst_status status = MST_OK;
    char path[HF_PATH_MAX];
    uint64_t bytes = 0;
    MST_CHECK(hf->file_count < HF_FILES_MAX, MST_EFORMAT, "%s: more than %d weight files", hf->folder,
              HF_FILES_MAX);
    MST_TRY(hf_path_in(hf->folder, name, path));
    hf_file *file = &hf->files[hf->file_count];
    *file = (hf_file){.path = strdup(path), .fd = -1};
    MST_CHECK(file->path != NULL, MST_ENOMEM, "%s: out of memory", path);
    hf->file_count++;
    MST_TRY(hf_file_open(path, &file->fd, &bytes));
    MST_TRY(hf_header_load(file->fd, bytes, path, hf->file_count - 1, &hf->tensors));
done:
    return status;
}

/* A file beside the index, and nothing else. */
static bool is_weight_name(const char *name) {
    const size_t length = strlen(name), end = strlen(".safetensors");
    return name[0] != '.' && strchr(name, '/') == NULL && length > end && length < 256 &&
           strcmp(name + length - end, ".safetensors") == 0;
}

static bool is_named(const hf_file *file, const char *name) {
    return strcmp(mst_base_name(file->path), name) == 0;
}

/* Opens every file that the index names, each once. */
static mst_status open_indexed(mst_hf *hf, const json_t *map, const char *path) {
    mst_status status = MST_OK;
    const char *tensor;
    char plain[HF_PLAIN_MAX];
    json_t *value, *object = json_incref((json_t *)(uintptr_t)map);
    json_object_foreach(object, tensor, value) {
        const char *name = json_string_value(value);
        MST_CHECK(name != NULL && is_weight_name(name), MST_EFORMAT,
                  "%s: weight_map names no .safetensors file of this folder for %s", path,
                  hf_plain(tensor, plain));
        size_t i = 0;
        while (i < hf->file_count && !is_named(&hf->files[i], name)) i++;
        if (i == hf->file_count) MST_TRY(hf_open_weights(hf, name));
    }
done:
    json_decref(object);
    return status;
}

/* The index and the headers have to agree. */
static mst_status compare_index(const mst_hf *hf, const json_t *map, const char *path) {
    mst_status status = MST_OK;
    char plain[HF_PLAIN_MAX];
    for (size_t i = 0; i < hf->tensors.count; i++) {
        const hf_tensor *t = &hf->tensors.at[i];
        const char *name = json_string_value(json_object_get(map, t->name));
        MST_CHECK(name != NULL && is_named(&hf->files[t->file], name), MST_EFORMAT,
                  "%s: weight_map says %s for tensor %s, which is in %s", path,
                  hf_plain(name != NULL ? name : "nothing", plain), t->name, hf->files[t->file].path);
    }
    MST_CHECK(json_object_size(map) == hf->tensors.count, MST_EFORMAT,
              "%s: weight_map names %zu tensors, and its files hold %zu", path, json_object_size(map),
              hf->tensors.count);
done:
    return status;
}

static mst_status open_sharded(mst_hf *hf) {
    mst_status status = MST_OK;
    char path[HF_PATH_MAX];
    json_t *root = NULL;
    MST_TRY(hf_path_in(hf->folder, INDEX_NAME, path));
    MST_TRY(hf_json_load(path, &root));
    const json_t *map = json_object_get(root, "weight_map");
    MST_CHECK(json_is_object(map), MST_EFORMAT, "%s: weight_map is missing", path);
    MST_TRY(open_indexed(hf, map, path));
    MST_TRY(hf_tensors_sort(&hf->tensors));
    MST_TRY(compare_index(hf, map, path));
done:
    json_decref(root);
    return status;
}

static mst_status open_files(mst_hf *hf) {
    mst_status status = MST_OK;
    const bool single = hf_file_exists(hf->folder, SINGLE_NAME),
               index = hf_file_exists(hf->folder, INDEX_NAME);
    hf->files = calloc(HF_FILES_MAX, sizeof *hf->files);
    MST_CHECK(hf->files != NULL, MST_ENOMEM, "%s: out of memory", hf->folder);
    MST_CHECK(single || index, MST_EIO, "%s holds neither " SINGLE_NAME " nor " INDEX_NAME, hf->folder);
    MST_CHECK(!single || !index, MST_EFORMAT,
              "%s holds " SINGLE_NAME " and " INDEX_NAME ": which of them is the model? Remove the other",
              hf->folder);
    if (single) MST_TRY(hf_open_weights(hf, SINGLE_NAME));
    MST_TRY(single ? hf_tensors_sort(&hf->tensors) : open_sharded(hf));
done:
    return status;
}

/* ---- tensors ---- */

/* A tensor of the layout in the files: under its name, or without the prefix that some files lack. */
static hf_tensor *find(const mst_hf *hf, const char *name) {
    const char *prefix = hf->config.family->prefix;
    const size_t length = strlen(prefix);
    hf_tensor *t = hf_tensors_find(&hf->tensors, name);
    return t == NULL && strncmp(name, prefix, length) == 0 ? hf_tensors_find(&hf->tensors, name + length) : t;
}

static mst_status take(mst_hf *hf, size_t number) {
    mst_status status = MST_OK;
    const mst_tensor *wanted = &hf->layout.tensors[number];
    char theirs[128], ours[128];
    const uint64_t shape[2] = {wanted->shape[0], wanted->shape[1]};
    hf_tensor *t = find(hf, wanted->name);
    MST_CHECK(t != NULL, MST_EFORMAT, "%s: tensor %s is missing", hf->folder, wanted->name);
    MST_CHECK(t->dims == wanted->dims && memcmp(t->shape, shape, t->dims * sizeof *shape) == 0, MST_EFORMAT,
              "%s: tensor %s has shape %s; config.json asks for %s", hf->files[t->file].path, t->name,
              hf_shape_text(t->shape, t->dims, theirs), hf_shape_text(shape, wanted->dims, ours));
    MST_CHECK(t->dtype != MST_HF_DTYPES, MST_EUNSUPPORTED,
              "%s: tensor %s is of type %s; muster reads F32, F16 and BF16", hf->files[t->file].path, t->name,
              t->tag);
    if (number == 0) hf->dtype = t->dtype;
    if (t->dtype != hf->dtype) hf->dtype = MST_HF_F32;
    t->used = true;
    hf->of[number] = t;
done:
    return status;
}

static bool is_no_part(const mst_hf *hf, const char *name) {
    for (const char *const *end = hf->config.family->no_parts; *end != NULL; end++) {
        const size_t length = strlen(name), tail = strlen(*end);
        if (length >= tail && strcmp(name + length - tail, *end) == 0) return true;
    }
    return false;
}

static mst_status read_from(const mst_hf *hf, const hf_tensor *t, uint64_t first, uint64_t count,
                            float *values) {
    mst_status status = MST_OK;
    const size_t size = hf_dtype_size(t->dtype);
    const hf_file *file = &hf->files[t->file];
    MST_TRY(mst_file_read(file->fd, file->path, t->offset + first * size,
                          (char *)values + count * (sizeof *values - size), (size_t)count * size));
    hf_widen(t->dtype, values, (size_t)count);
done:
    return status;
}

/* A head that a tied model's file holds all the same has to be the embedding. */
static mst_status check_copy(const mst_hf *hf, hf_tensor *copy) {
    mst_status status = MST_OK;
    const hf_tensor *t = hf->of[0]; /* the layout begins with the embedding */
    float *one = malloc(2 * (size_t)PART * sizeof *one), *other = one + PART;
    MST_CHECK(one != NULL, MST_ENOMEM, "%s: no memory to compare %s", hf->folder, copy->name);
    MST_CHECK(copy->dtype == t->dtype && copy->dims == t->dims &&
                  memcmp(copy->shape, t->shape, sizeof t->shape) == 0,
              MST_EFORMAT, "%s: %s is tied to %s, and is of another type or shape", hf->folder, copy->name,
              t->name);
    for (uint64_t first = 0, count; first < t->count; first += count) {
        count = t->count - first < PART ? t->count - first : PART;
        MST_TRY(read_from(hf, t, first, count, one));
        MST_TRY(read_from(hf, copy, first, count, other));
        MST_CHECK(memcmp(one, other, (size_t)count * sizeof *one) == 0, MST_EFORMAT,
                  "%s: config.json ties %s to %s, and the files hold two different ones", hf->folder,
                  copy->name, t->name);
    }
    copy->used = true;
done:
    free(one);
    return status;
}

static mst_status match(mst_hf *hf) {
    mst_status status = MST_OK;
    MST_TRY(mst_model_layout(&hf->config.model, &hf->layout));
    hf->of = calloc(hf->layout.tensor_count, sizeof *hf->of);
    MST_CHECK(hf->of != NULL, MST_ENOMEM, "%s: no memory for %zu tensors", hf->folder,
              hf->layout.tensor_count);
    for (size_t i = 0; i < hf->layout.tensor_count; i++) MST_TRY(take(hf, i));
    hf_tensor *head = hf_tensors_find(&hf->tensors, "lm_head.weight");
    if (hf->config.model.tie_embeddings && head != NULL) MST_TRY(check_copy(hf, head));
    for (size_t i = 0; i < hf->tensors.count; i++) {
        const hf_tensor *t = &hf->tensors.at[i];
        MST_CHECK(t->used || is_no_part(hf, t->name), MST_EUNSUPPORTED,
                  "%s: tensor %s has no place in a model of type %s; without it the model would compute "
                  "something else",
                  hf->files[t->file].path, t->name, hf->config.family->model_type);
    }
done:
    return status;
}

/* ---- the whole ---- */

static mst_status read_config(mst_hf *hf, const mst_hf_notes *notes) {
    mst_status status = MST_OK;
    char path[HF_PATH_MAX];
    json_t *root = NULL;
    MST_TRY(hf_path_in(hf->folder, "config.json", path));
    MST_TRY(hf_json_load(path, &root));
    MST_TRY(hf_config_read(root, path, notes, &hf->config));
done:
    json_decref(root);
    return status;
}

mst_status mst_hf_open(const char *folder, const mst_hf_notes *notes, mst_hf **hf_out) {
    mst_status status = MST_OK;
    mst_hf *hf = calloc(1, sizeof *hf);
    *hf_out = NULL;
    MST_CHECK(hf != NULL && (hf->folder = strdup(folder)) != NULL, MST_ENOMEM, "%s: out of memory", folder);
    MST_TRY(read_config(hf, notes));
    MST_TRY(open_files(hf));
    if (!hf->config.tie_given)
        hf->config.model.tie_embeddings = hf_tensors_find(&hf->tensors, "lm_head.weight") == NULL;
    MST_TRY(match(hf));
    *hf_out = hf;
    hf = NULL;
done:
    mst_hf_close(&hf);
    return status;
}

void mst_hf_close(mst_hf **hf) {
    mst_hf *h = *hf;
    if (h == NULL) return;
    for (size_t i = 0; i < h->file_count; i++) {
        if (h->files[i].fd >= 0) close(h->files[i].fd);
        free(h->files[i].path);
    }
    free(h->files);
    free(h->tensors.at);
    free(h->of);
    mst_layout_clear(&h->layout);
    free(h->folder);
    free(h);
    *hf = NULL;
}

const mst_model_config *mst_hf_model(const mst_hf *hf) {
    return &hf->config.model;
}
const mst_layout *mst_hf_layout(const mst_hf *hf) {
    return &hf->layout;
}
mst_hf_dtype mst_hf_dtype_of(const mst_hf *hf) {
    return hf->dtype;
}

mst_status mst_hf_read(void *hf, size_t tensor, uint64_t first, uint64_t count, float *values_out) {
    const mst_hf *h = hf;
    return read_from(h, h->of[tensor], first, count, values_out);
}

bool mst_hf_suspect(const mst_hf *hf, size_t tensor, uint64_t first, uint64_t count, const float *values,
                    size_t *suspect, char text_out[MST_HF_SUSPECT_TEXT]) {
    if (*suspect == tensor) return false;
    for (uint64_t i = 0; i < count; i++) {
        if (isfinite(values[i])) continue;
        snprintf(text_out, MST_HF_SUSPECT_TEXT, "tensor %s holds %g at element %" PRIu64,
                 hf->layout.tensors[tensor].name, (double)values[i], first + i);
        *suspect = tensor;
        return true;
    }
    return false;
}

/* ---- into a run ---- */

/* What a load works with. */
typedef struct hf_load {
    const mst_hf *hf;
    mst_queue *queue;
    float *part;                  /* [PART] in host memory, where that of shards is apart; else NULL */
    const mst_hf_notes *warnings; /* NULL: nobody wants to know */
    size_t suspect;               /* as mst_hf_suspect has it */
    void (*progress)(void *progress_context);
    void *progress_context;
} hf_load;

static mst_status load_part(hf_load *l, size_t number, uint64_t first, uint64_t count, float *master) {
    mst_status status = MST_OK;
    float *values = l->part != NULL ? l->part : master;
    char text[MST_HF_SUSPECT_TEXT];
    MST_TRY(read_from(l->hf, l->hf->of[number], first, count, values));
    if (l->warnings != NULL && mst_hf_suspect(l->hf, number, first, count, values, &l->suspect, text))
        l->warnings->say(l->warnings->context, text);
    if (l->part != NULL) MST_TRY(mst_memory_copy(l->queue, master, l->part, count * sizeof *master));
    if (l->progress != NULL) l->progress(l->progress_context);
done:
    return status;
}

static mst_status load_zeros(const hf_load *l, uint64_t count, float *master) {
    if (l->part != NULL) return mst_memory_fill(l->queue, master, 0, count * sizeof *master);
    memset(master, 0, count * sizeof *master);
    return MST_OK;
}

/* The part of a tensor that lies in a shard, and zeros to the end of its last block. */
static mst_status load_tensor(hf_load *l, size_t number, const mst_tensor *t, mst_shard *shard) {
    mst_status status = MST_OK;
    const uint64_t begin = (uint64_t)shard->first_block * MST_BLOCK,
                   end = begin + (uint64_t)shard->blocks * MST_BLOCK,
                   padded = (t->count + MST_BLOCK - 1) / MST_BLOCK * MST_BLOCK;
    const uint64_t low = t->offset > begin ? t->offset : begin, last = t->offset + t->count,
                   high = last < end ? last : end, fill = t->offset + padded < end ? t->offset + padded : end;
    for (uint64_t at = low, count; at < high; at += count) {
        count = high - at < PART ? high - at : PART;
        MST_TRY(load_part(l, number, at - t->offset, count, shard->master + (at - begin)));
    }
    if (low < fill && high < fill) MST_TRY(load_zeros(l, fill - high, shard->master + (high - begin)));
done:
    return status;
}

static mst_status compare_layouts(const char *path, const mst_layout *found, const mst_layout *wanted) {
    mst_status status = MST_OK;
    MST_CHECK(found->tensor_count == wanted->tensor_count, MST_ECONFIG,
              "%s is another model than the config's: %zu tensors, and %zu in the config's", path,
              found->tensor_count, wanted->tensor_count);
    for (size_t i = 0; i < wanted->tensor_count; i++) {
        const mst_tensor *theirs = &found->tensors[i], *t = &wanted->tensors[i];
        MST_CHECK(strcmp(t->name, theirs->name) == 0 && t->dims == theirs->dims &&
                      t->shape[0] == theirs->shape[0] && t->shape[1] == theirs->shape[1],
                  MST_ECONFIG, "%s is another model than the config's: tensor %s differs in name or shape",
                  path, theirs->name);
    }
done:
    return status;
}

mst_status mst_hf_load(mst_hf *hf, const mst_layout *layout, mst_queue *queue, mst_shard *shards,
                       const mst_hf_notes *warnings, void (*progress)(void *progress_context),
                       void *progress_context) {
    mst_status status = MST_OK;
    hf_load l = {.hf = hf,
                 .queue = queue,
                 .warnings = warnings,
                 .suspect = SIZE_MAX,
                 .progress = progress,
                 .progress_context = progress_context};
    if (mst_memory_is_apart()) {
        l.part = malloc((size_t)PART * sizeof *l.part);
        MST_CHECK(l.part != NULL, MST_ENOMEM, "%s: no memory to read it", hf->folder);
    }
    MST_TRY(compare_layouts(hf->folder, &hf->layout, layout));
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const mst_tensor *t = &layout->tensors[i];
        MST_TRY(load_tensor(&l, i, t, &shards[t->unit]));
    }
done:
    free(l.part);
    return status;
}

/* ---- what stands beside the weights ---- */

mst_status mst_hf_tokenizer(const mst_hf *hf, char **json_out, size_t *bytes_out) {
    mst_status status = MST_OK;
    char path[HF_PATH_MAX];
    *json_out = NULL;
    *bytes_out = 0;
    if (!hf_file_exists(hf->folder, "tokenizer.json")) goto done;
    MST_TRY(hf_path_in(hf->folder, "tokenizer.json", path));
    MST_TRY(hf_file_load(path, 1 << 28, json_out, bytes_out));
    MST_CHECK(strlen(*json_out) == *bytes_out, MST_EFORMAT, "%s holds a zero byte", path);
done:
    if (status != MST_OK) {
        free(*json_out);
        *json_out = NULL;
    }
    return status;
}

mst_status mst_hf_companions(const mst_hf *hf, const mst_hf_notes *notes, char **tar_out, size_t *bytes_out) {
    char origin[64];
    snprintf(origin, sizeof origin, "{\"version\": 1, \"dtype\": \"%s\"}\n", mst_hf_dtype_name(hf->dtype));
    return hf_tar_make(hf->folder, origin, notes, tar_out, bytes_out);
}

bool mst_hf_is_there(const char *path) {
    return hf_file_exists(path, "config.json");
}

mst_status mst_init_model(const char *path, mst_model_config *model_out) {
    mst_status status = MST_OK;
    char checkpoint[HF_PATH_MAX];
    mst_hf *hf = NULL;
    mst_checkpoint_meta meta = {0};
    mst_checkpoint_digests digests;
    if (mst_hf_is_there(path)) {
        MST_TRY(mst_hf_open(path, NULL, &hf));
        *model_out = *mst_hf_model(hf);
    } else {
        MST_TRY(mst_checkpoint_resolve(path, checkpoint));
        MST_TRY(mst_checkpoint_open(checkpoint, &meta, &digests));
        MST_CHECK(!meta.has_base, MST_ECONFIG,
                  "%s holds adapters, and no model; 'muster export' makes one model of both", checkpoint);
        *model_out = meta.model;
        hf_config_fill_scaling(model_out); /* its manifest is silent where there is none */
    }
done:
    mst_hf_close(&hf);
    mst_checkpoint_meta_clear(&meta);
    return status;
}

mst_status mst_init_check(const char *path, const mst_model_config *model) {
    mst_status status = MST_OK;
    mst_model_config theirs;
    mst_layout found = {0}, wanted = {0};
    MST_TRY(mst_init_model(path, &theirs));
    MST_TRY(mst_model_layout(&theirs, &found));
    MST_TRY(mst_model_layout(model, &wanted));
    MST_TRY(compare_layouts(path, &found, &wanted));
done:
    mst_layout_clear(&found);
    mst_layout_clear(&wanted);
    return status;
}
