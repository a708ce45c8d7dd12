#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "muster/files.h"

enum { LENGTH_BYTES = 8 };

/* All types that a file may hold; those that are no weights may stand in it, too, and are passed over. */
static uint64_t element_size(const char *tag) {
    static const struct {
        const char *tag;
        uint64_t size;
    } sizes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                 {"U16", 2},  {"I16", 2}, {"F16", 2}, {"BF16", 2},    {"U32", 4},
                 {"I32", 4},  {"F32", 4}, {"U64", 8}, {"I64", 8},     {"F64", 8}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(sizes[i].tag, tag) == 0) return sizes[i].size;
    return 0;
}

static mst_status read_shape(const json_t *shape, const char *name, hf_tensor *t) {
    mst_status status = MST_OK;
    MST_CHECK(json_is_array(shape) && json_array_size(shape) <= HF_DIMS_MAX, MST_EFORMAT,
              "%s: tensor %s: its shape is no list of at most %d sizes", name, t->name, HF_DIMS_MAX);
    t->dims = json_array_size(shape);
    t->count = 1;
    for (size_t d = 0; d < t->dims; d++) {
        const json_t *side = json_array_get(shape, d);
        MST_CHECK(json_is_integer(side) && json_integer_value(side) >= 0, MST_EFORMAT,
                  "%s: tensor %s: side %zu of its shape is no whole number from 0 on", name, t->name, d);
        t->shape[d] = (uint64_t)json_integer_value(side);
        MST_CHECK(t->shape[d] == 0 || t->count <= ((uint64_t)1 << 48) / t->shape[d], MST_EFORMAT,
                  "%s: tensor %s has more than 2^48 elements", name, t->name);
        t->count *= t->shape[d];
    }
done:
    return status;
}

static mst_status read_offsets(const json_t *offsets, uint64_t data_bytes, uint64_t size, const char *name,
                               hf_tensor *t) {
    mst_status status = MST_OK;
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    MST_CHECK(json_array_size(offsets) == 2 && json_is_integer(from) && json_is_integer(to), MST_EFORMAT,
              "%s: tensor %s: data_offsets is no list of two whole numbers", name, t->name);
    const json_int_t begin = json_integer_value(from), end = json_integer_value(to);
    MST_CHECK(begin >= 0 && begin <= end && (uint64_t)end <= data_bytes, MST_EFORMAT,
              "%s: tensor %s: bytes %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT
              " are not in the file, which has %" PRIu64 " bytes of data",
              name, t->name, begin, end, data_bytes);
    t->offset = (uint64_t)begin;
    t->bytes = (uint64_t)(end - begin);
    MST_CHECK(t->bytes == t->count * size, MST_EFORMAT,
              "%s: tensor %s: %" PRIu64 " elements of %s take %" PRIu64
              " bytes, and the header gives it %" PRIu64,
              name, t->name, t->count, t->tag, t->count * size, t->bytes);
done:
    return status;
}

static mst_status read_tensor(const char *key, const json_t *value, uint64_t data_bytes, const char *name,
                              hf_tensor *t) {
    mst_status status = MST_OK;
    char plain[HF_PLAIN_MAX];
    const char *tag = json_string_value(json_object_get(value, "dtype"));
    MST_CHECK(strlen(key) < sizeof t->name, MST_EFORMAT, "%s: a tensor's name is longer than %zu bytes", name,
              sizeof t->name - 1);
    memcpy(t->name, key, strlen(key) + 1);
    for (const char *at = key; *at != '\0'; at++)
        MST_CHECK(*at > ' ' && *at <= '~', MST_EFORMAT, "%s: a tensor's name holds the byte %d", name,
                  (unsigned char)*at);
    MST_CHECK(json_is_object(value) && tag != NULL, MST_EFORMAT, "%s: tensor %s: no dtype is given", name,
              t->name);
    const uint64_t size = element_size(tag);
    MST_CHECK(size > 0, MST_EFORMAT, "%s: tensor %s: dtype '%s' is not known", name, t->name,
              hf_plain(tag, plain));
    memcpy(t->tag, tag, strlen(tag) + 1);
    t->dtype = hf_dtype_tagged(tag);
    MST_TRY(read_shape(json_object_get(value, "shape"), name, t));
    MST_TRY(read_offsets(json_object_get(value, "data_offsets"), data_bytes, size, name, t));
done:
    return status;
}

static mst_status make_room(hf_tensor_list *list, size_t more, const char *name) {
    mst_status status = MST_OK;
    MST_CHECK(more <= HF_TENSORS_MAX - list->count, MST_EFORMAT, "%s: more than %d tensors", name,
              HF_TENSORS_MAX);
    if (list->count + more <= list->room) goto done;
    hf_tensor *at = realloc(list->at, (list->count + more) * sizeof *at);
    MST_CHECK(at != NULL, MST_ENOMEM, "%s: no memory for %zu tensors", name, list->count + more);
    list->at = at;
    list->room = list->count + more;
done:
    return status;
}

static int by_offset(const void *left, const void *right) {
    const hf_tensor *a = left, *b = right;
    if (a->offset != b->offset) return (a->offset > b->offset) - (a->offset < b->offset);
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty ones first */
}

static mst_status check_cover(hf_tensor *tensors, size_t count, uint64_t data_bytes, const char *name) {
    mst_status status = MST_OK;
    uint64_t end = 0;
    if (count > 0) qsort(tensors, count, sizeof *tensors, by_offset);
    for (size_t i = 0; i < count; end += tensors[i++].bytes)
        MST_CHECK(tensors[i].offset == end, MST_EFORMAT,
                  "%s: tensor %s begins at byte %" PRIu64 ", and the one before it ends at %" PRIu64, name,
                  tensors[i].name, tensors[i].offset, end);
    MST_CHECK(end == data_bytes, MST_EFORMAT, "%s: its tensors end at byte %" PRIu64 ", its data at %" PRIu64,
              name, end, data_bytes);
done:
    return status;
}

mst_status hf_header_parse(const char *text, size_t bytes, uint64_t data_bytes, const char *name, size_t file,
                           hf_tensor_list *list) {
    mst_status status = MST_OK;
    json_t *root = NULL, *value;
    const char *key;
    const size_t before = list->count;
    MST_TRY(hf_json_parse(text, bytes, name, &root));
    MST_TRY(make_room(list, json_object_size(root), name));
    json_object_foreach(root, key, value) {
        hf_tensor *t = &list->at[list->count];
        if (strcmp(key, "__metadata__") == 0) continue;
        *t = (hf_tensor){.file = file};
        MST_TRY(read_tensor(key, value, data_bytes, name, t));
        list->count++;
    }
    MST_TRY(check_cover(list->at + before, list->count - before, data_bytes, name));
    for (size_t i = before; i < list->count; i++) list->at[i].offset += LENGTH_BYTES + bytes;
done:
    json_decref(root);
    return status;
}

mst_status hf_header_load(int fd, uint64_t file_bytes, const char *name, size_t file, hf_tensor_list *list) {
    mst_status status = MST_OK;
    uint64_t length = 0;
    char *text = NULL;
    MST_CHECK(file_bytes >= LENGTH_BYTES, MST_EFORMAT, "%s: %" PRIu64 " bytes are no safetensors file", name,
              file_bytes);
    MST_TRY(mst_file_read(fd, name, 0, &length, sizeof length));
    MST_CHECK(length <= file_bytes - LENGTH_BYTES && length <= HF_JSON_BYTES_MAX, MST_EFORMAT,
              "%s: a header of %" PRIu64 " bytes; the file has %" PRIu64 ", and at most %d are read", name,
              length, file_bytes, HF_JSON_BYTES_MAX);
    text = malloc((size_t)length + 1);
    MST_CHECK(text != NULL, MST_ENOMEM, "%s: no memory for %" PRIu64 " bytes", name, length);
    MST_TRY(mst_file_read(fd, name, LENGTH_BYTES, text, (size_t)length));
    MST_TRY(hf_header_parse(text, (size_t)length, file_bytes - LENGTH_BYTES - length, name, file, list));
done:
    free(text);
    return status;
}

/* ---- by name ---- */

static int by_name(const void *left, const void *right) {
    return strcmp(((const hf_tensor *)left)->name, ((const hf_tensor *)right)->name);
}

mst_status hf_tensors_sort(hf_tensor_list *list) {
    mst_status status = MST_OK;
    if (list->count > 0) qsort(list->at, list->count, sizeof *list->at, by_name);
    for (size_t i = 1; i < list->count; i++)
        MST_CHECK(by_name(&list->at[i - 1], &list->at[i]) != 0, MST_EFORMAT,
                  "tensor %s is in two of the model's files", list->at[i].name);
done:
    return status;
}

static int name_is(const void *name, const void *tensor) {
    return strcmp(name, ((const hf_tensor *)tensor)->name);
}

hf_tensor *hf_tensors_find(const hf_tensor_list *list, const char *name) {
    return list->count == 0 ? NULL : bsearch(name, list->at, list->count, sizeof *list->at, name_is);
}

const char *hf_shape_text(const uint64_t *shape, size_t dims, char text_out[128]) {
    size_t used = 0;
    text_out[used++] = '[';
    for (size_t d = 0; d < dims && used < 100; d++)
        used += (size_t)snprintf(text_out + used, 128 - used, "%s%" PRIu64, d > 0 ? ", " : "", shape[d]);
    snprintf(text_out + used, 128 - used, "]");
    return text_out;
}

/* ---- writing ---- */

static void put_entry(FILE *stream, const hf_entry *e, mst_hf_dtype dtype, uint64_t begin, uint64_t end) {
    fprintf(stream, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", e->name, hf_dtype_tag(dtype), e->shape[0]);
    if (e->dims == 2) fprintf(stream, ",%zu", e->shape[1]);
    fprintf(stream, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, end);
}

mst_status hf_header_make(const hf_entry *entries, size_t count, mst_hf_dtype dtype, char **bytes_out,
                          size_t *count_out) {
    mst_status status = MST_OK;
    char *bytes = NULL;
    size_t length = 0;
    uint64_t end = 0;
    FILE *stream = open_memstream(&bytes, &length);
    MST_CHECK(stream != NULL, MST_ENOMEM, "export: no memory for a header");
    fwrite("\0\0\0\0\0\0\0\0", 1, LENGTH_BYTES, stream);
    fputs("{\"__metadata__\":{\"format\":\"pt\"}", stream);
    for (size_t i = 0; i < count; i++) {
        const uint64_t begin = end;
        end += entries[i].count * hf_dtype_size(dtype);
        put_entry(stream, &entries[i], dtype, begin, end);
    }
    fputc('}', stream);
    while (fflush(stream) == 0 && length % 8 != 0) fputc(' ', stream);
    const bool failed = ferror(stream) != 0;
    MST_CHECK(fclose(stream) == 0 && !failed, MST_ENOMEM, "export: no memory for a header");
    const uint64_t json = length - LENGTH_BYTES;
    memcpy(bytes, &json, sizeof json);
    *bytes_out = bytes;
    *count_out = length;
    bytes = NULL;
done:
    free(bytes);
    return status;
}
