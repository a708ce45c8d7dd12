#include "shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"

void ckpt_shard_name(const ckpt_names *names, int rank, char *name_out) {
    snprintf(name_out, MST_FILE_NAME_MAX, "shard-%04d-of-%04d-%s.h5", rank, names->size, names->id);
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
    MST_TRY(ckpt_h5_create(file, &h5));
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

static int compare_extents(const void *left, const void *right) {
    uint64_t a = ((const ckpt_extent *)left)->offset, b = ((const ckpt_extent *)right)->offset;
    return (a > b) - (a < b);
}

/* Reads the file back: every block must have the digest that the memory had;
 * the rest is hashed for later checks. */
static mst_status check_back(const ckpt_file *file, const mst_layout *layout, const ckpt_pieces *pieces,
                             ckpt_checker *checker, ckpt_record *record) {
    mst_status status = MST_OK;
    size_t count = MST_KIND_COUNT * pieces->count;
    ckpt_extent *extents = malloc(count * sizeof *extents);
    MST_CHECK(extents != NULL, MST_ENOMEM, "checkpoint: no memory for %zu extents", count);
    for (size_t i = 0; i < count; i++) {
        size_t number = i % pieces->count, kind = i / pieces->count, bad;
        const ckpt_piece *piece = &pieces->pieces[number];
        const mst_digest *digests = pieces->digests[kind] + pieces->first_digest[number];
        MST_TRY(ckpt_checker_stored(checker, file, record->offsets[i], piece->count, digests, &bad));
        MST_CHECK(bad == ckpt_blocks(piece->count), MST_EIO,
                  "%s, read back, differs from what was written: %s of %s, element %llu; the disk or memory "
                  "is failing",
                  file->path, mst_tensor_kind_name((mst_tensor_kind)kind),
                  layout->tensors[piece->tensor].name,
                  (unsigned long long)(piece->first + (uint64_t)bad * MST_BLOCK));
        extents[i] = (ckpt_extent){record->offsets[i], piece->count * 4};
    }
    qsort(extents, count, sizeof *extents, compare_extents);
    MST_TRY(ckpt_file_size(file, &record->bytes));
    MST_TRY(ckpt_outside_digest(file, record->bytes, extents, count, &record->outside));
done:
    free(extents);
    return status;
}

mst_status ckpt_shard_write(const mst_checkpoint_context *context, const ckpt_names *names, int rank,
                            const mst_layout *layout, const mst_shard *shards, const ckpt_pieces *pieces,
                            ckpt_record *record_out) {
    mst_status status = MST_OK;
    if (pieces->count == 0) return MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    ckpt_checker checker = {0};
    char name[MST_FILE_NAME_MAX];
    ckpt_shard_name(names, rank, name);
    MST_TRY(ckpt_file_create(names->folder, name, &file));
    MST_TRY(write_pieces(&file, layout, shards, pieces, record_out));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_close(&file));

    MST_TRY(ckpt_checker_create(context, &checker));
    MST_TRY(ckpt_file_open(names->folder, name, &file));
    MST_TRY(check_back(&file, layout, pieces, &checker, record_out));
    MST_TRY(ckpt_file_close(&file));
done:
    ckpt_checker_clear(&checker);
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}
