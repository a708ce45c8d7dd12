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
static mst_status make_piece(const ckpt_h5 *h5, hid_t group, hid_t plain, const mst_tensor *tensor,
                             const ckpt_piece *piece, uint64_t *offset_out) {
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
    haddr_t offset = H5Dget_offset(dataset);
    MST_CHECK(offset != HADDR_UNDEF, MST_EHDF5, "HDF5 says no place for %s in %s", tensor->name,
              h5->file->path);
    *offset_out = offset;
done:
    if (dataset >= 0) H5Dclose(dataset);
    if (space >= 0) H5Sclose(space);
    return status;
}

mst_status ckpt_shard_make(const ckpt_file *file, const mst_layout *layout, const ckpt_pieces *pieces,
                           ckpt_record *record) {
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
            MST_TRY(make_piece(&h5, group, plain, &layout->tensors[piece->tensor], piece,
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
