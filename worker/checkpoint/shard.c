#include "shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"

void ckpt_shard_name(const ckpt_names *names, int rank, char *name_out) {
    snprintf(name_out, MST_FILE_NAME_MAX, "shard-%04d-of-%04d-%s.h5", rank, names->size, names->id);
}

void ckpt_part_name(int rank, char *name_out) {
    snprintf(name_out, MST_FILE_NAME_MAX, "part-%04d", rank);
}

/* One piece: a dataset under its kind's group, with its place in the tensor as attributes. */
static mst_status write_piece(const ckpt_h5 *h5, hid_t group, hid_t plain, const mst_tensor *tensor,
                              const ckpt_piece *piece, const float *data, uint64_t *offset_out) {
    mst_status status = MST_OK;
    hid_t space = -1, dataset = -1;
    hsize_t extent = piece->count;
    uint64_t shape[2] = {tensor->shape[0], tensor->shape[1]};
    CKPT_H5(h5, space = H5Screate_simple(1, &extent, NULL), "describe", tensor->name);
    CKPT_H5(h5,
            dataset = H5Dcreate2(group, tensor->name, H5T_IEEE_F32LE, space, H5P_DEFAULT, plain, H5P_DEFAULT),
            "create", tensor->name);
    MST_TRY(ckpt_h5_put_numbers(h5, dataset, "first", &piece->first, 0));
    MST_TRY(ckpt_h5_put_numbers(h5, dataset, "shape", shape, tensor->dims));
    CKPT_H5(h5, H5Dwrite(dataset, H5T_IEEE_F32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), "write",
            tensor->name);
    haddr_t offset = H5Dget_offset(dataset);
    MST_CHECK(offset != HADDR_UNDEF, MST_EHDF5, "HDF5 says no place for %s in %s", tensor->name,
              h5->file->path);
    *offset_out = offset;
done:
    if (dataset >= 0) H5Dclose(dataset);
    if (space >= 0) H5Sclose(space);
    return status;
}

static mst_status write_pieces(const ckpt_file *file, const mst_layout *layout, const mst_shard *shards,
                               const ckpt_pieces *pieces, ckpt_record *record) {
    mst_status status = MST_OK;
    ckpt_h5 h5;
    hid_t group = -1, plain = -1;
    MST_TRY(ckpt_h5_create(file, 0, &h5));
    CKPT_H5(&h5, plain = ckpt_h5_plain_dataset(), "prepare", "datasets");
    for (int kind = 0; kind < MST_KIND_COUNT; kind++) {
        const char *name = mst_tensor_kind_name(kind);
        CKPT_H5(&h5, group = ckpt_h5_group(h5.id, name), "create group", name);
        for (size_t i = 0; i < pieces->count; i++) {
            const ckpt_piece *piece = &pieces->pieces[i];
            const mst_tensor *tensor = &layout->tensors[piece->tensor];
            const float *data = ckpt_shard_data(&shards[tensor->unit], kind) + piece->at;
            MST_TRY(write_piece(&h5, group, plain, tensor, piece, data,
                                &record->offsets[kind * pieces->count + i]));
            if (h5.status != MST_OK) goto done; /* a full disk is not written to any further */
        }
        H5Gclose(group);
        group = -1;
    }
done:
    if (group >= 0) H5Gclose(group);
    if (plain >= 0) H5Pclose(plain);
    mst_status closed = ckpt_h5_close(&h5);
    return status != MST_OK ? status : closed;
}

mst_status ckpt_part_write(const mst_checkpoint_context *context, const char *folder, int rank,
                           const mst_layout *layout, const mst_shard *shards, const ckpt_pieces *pieces,
                           ckpt_record *record_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    char name[MST_FILE_NAME_MAX];
    if (pieces->count == 0) return MST_OK;
    ckpt_part_name(rank, name);
    MST_TRY(ckpt_file_create(folder, name, &file));
    ckpt_file_bypass(&file);
    MST_TRY(write_pieces(&file, layout, shards, pieces, record_out));
    MST_TRY(ckpt_file_sync(&file));
    ckpt_file_forget(&file);
    MST_TRY(ckpt_file_close(&file));
done:
    if (file.direct >= 0) ckpt_system.close(file.direct);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}

/* The first byte that differs, or `bytes`. */
static size_t first_difference(const void *one, const void *other, size_t bytes) {
    const char *a = one, *b = other;
    size_t i = 0;
    if (memcmp(a, b, bytes) == 0) return bytes;
    while (a[i] == b[i]) i++;
    return i;
}

static mst_status compare_piece(const ckpt_file *file, uint64_t offset, const ckpt_piece *piece,
                                const float *data, void *buffer, uint64_t *equal_out) {
    mst_status status = MST_OK;
    const uint64_t most = CKPT_BUFFER / sizeof *data;
    for (uint64_t at = 0, some; at < piece->count; at += some) {
        some = piece->count - at < most ? piece->count - at : most;
        MST_TRY(ckpt_file_read(file, buffer, some * sizeof *data, offset + at * sizeof *data));
        *equal_out = at + first_difference(buffer, data + at, some * sizeof *data) / sizeof *data;
        if (*equal_out < at + some) goto done;
    }
done:
    return status;
}

static int compare_offsets(const void *left, const void *right) {
    uint64_t a = ((const mst_manifest_place *)left)->offset, b = ((const mst_manifest_place *)right)->offset;
    return (a > b) - (a < b);
}

static mst_status compare_pieces(const ckpt_file *file, const mst_layout *layout, const mst_shard *shards,
                                 const ckpt_pieces *pieces, void *buffer, const ckpt_record *record,
                                 mst_manifest_place *places) {
    mst_status status = MST_OK;
    for (size_t i = 0; i < MST_KIND_COUNT * pieces->count; i++) {
        const mst_tensor_kind kind = (mst_tensor_kind)(i / pieces->count);
        const ckpt_piece *piece = &pieces->pieces[i % pieces->count];
        const mst_tensor *tensor = &layout->tensors[piece->tensor];
        const float *data = ckpt_shard_data(&shards[tensor->unit], kind) + piece->at;
        uint64_t equal = 0;
        MST_TRY(compare_piece(file, record->offsets[i], piece, data, buffer, &equal));
        MST_CHECK(equal == piece->count, MST_EIO,
                  "%s, read back, differs from what was written: %s of %s, element %llu; the disk or memory "
                  "is failing",
                  file->path, mst_tensor_kind_name(kind), tensor->name,
                  (unsigned long long)(piece->first + equal));
        places[i] = (mst_manifest_place){.offset = record->offsets[i], .bytes = piece->count * sizeof *data};
    }
done:
    return status;
}

mst_status ckpt_part_check(const mst_checkpoint_context *context, const char *folder, int rank,
                           const mst_layout *layout, const mst_shard *shards, const ckpt_pieces *pieces,
                           void *buffer, ckpt_record *record) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    const size_t count = MST_KIND_COUNT * pieces->count;
    char name[MST_FILE_NAME_MAX];
    if (count == 0) return MST_OK;
    mst_manifest_place *places = malloc(count * sizeof *places);
    MST_CHECK(places != NULL, MST_ENOMEM, "checkpoint: no memory for %zu places", count);
    ckpt_part_name(rank, name);
    MST_TRY(ckpt_file_open(folder, name, &file));
    MST_TRY(compare_pieces(&file, layout, shards, pieces, buffer, record, places));
    /* HDF5's own structure is hashed for later checks. */
    qsort(places, count, sizeof *places, compare_offsets);
    MST_TRY(ckpt_file_size(&file, &record->bytes));
    MST_TRY(ckpt_outside_digest(&file, record->bytes, places, count, &record->outside));
    MST_TRY(ckpt_file_close(&file));
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    free(places);
    return status;
}
