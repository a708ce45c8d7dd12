/* model.h5: virtual datasets that show every tensor whole. muster itself never reads it;
 * h5py, h5dump and HDFView do. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5.h"
#include "manifest.h"
#include "shard.h"

typedef struct model_file {
    const mst_checkpoint_context *context; /* not owned */
    ckpt_h5 h5;
    const ckpt_names *names;
    const mst_layout *layout;
    hid_t properties; /* of the virtual dataset in the making */
} model_file;

/* Maps elements [first, first + count) of a tensor: at most three hyperslabs, the end of a row,
 * whole rows, the start of one. */
static mst_status map_piece(const model_file *model, hid_t whole, const mst_tensor *tensor,
                            const ckpt_piece *piece, const char *file, const char *dataset) {
    mst_status status = MST_OK;
    const ckpt_h5 *h5 = &model->h5;
    hsize_t extent = piece->count, columns = tensor->dims == 1 ? tensor->count : tensor->shape[1];
    hid_t source = -1;
    CKPT_H5(h5, source = H5Screate_simple(1, &extent, NULL), "map", tensor->name);
    for (uint64_t at = piece->first, end = piece->first + piece->count; at < end;) {
        uint64_t row = at / columns, column = at % columns, left = end - at;
        bool whole_rows = column == 0 && left >= columns;
        hsize_t rows = whole_rows ? left / columns : 1;
        hsize_t width = whole_rows ? columns : left < columns - column ? left : columns - column;
        hsize_t from = at - piece->first, some = rows * width;
        hsize_t start[2] = {row, column}, size[2] = {rows, width};
        const hsize_t *corner = tensor->dims == 1 ? &start[1] : start,
                      *sides = tensor->dims == 1 ? &size[1] : size;
        CKPT_H5(h5, H5Sselect_hyperslab(whole, H5S_SELECT_SET, corner, NULL, sides, NULL), "map",
                tensor->name);
        CKPT_H5(h5, H5Sselect_hyperslab(source, H5S_SELECT_SET, &from, NULL, &some, NULL), "map",
                tensor->name);
        CKPT_H5(h5, H5Pset_virtual(model->properties, whole, file, dataset, source), "map", tensor->name);
        at += some;
    }
done:
    if (source >= 0) H5Sclose(source);
    return status;
}

/* One tensor of one kind, from the pieces of all ranks. Where a source file is missing, readers see NaN. */
static mst_status show_tensor(model_file *model, hid_t group, mst_tensor_kind kind, size_t number) {
    mst_status status = MST_OK;
    const ckpt_h5 *h5 = &model->h5;
    const mst_tensor *tensor = &model->layout->tensors[number];
    hsize_t shape[2] = {tensor->shape[0], tensor->shape[1]};
    const float missing = NAN;
    char dataset[MST_NAME_MAX + 32], file[MST_FILE_NAME_MAX];
    hid_t whole = -1, shown = -1;
    model->properties = -1;
    snprintf(dataset, sizeof dataset, "/%s/%s", mst_tensor_kind_name(kind), tensor->name);
    CKPT_H5(h5, whole = H5Screate_simple((int)tensor->dims, shape, NULL), "describe", tensor->name);
    CKPT_H5(h5, model->properties = H5Pcreate(H5P_DATASET_CREATE), "describe", tensor->name);
    CKPT_H5(h5, H5Pset_fill_value(model->properties, H5T_NATIVE_FLOAT, &missing), "describe", tensor->name);
    CKPT_H5(h5, H5Pset_obj_track_times(model->properties, false), "describe", tensor->name);
    for (int rank = 0; rank < model->names->size; rank++) {
        ckpt_piece piece;
        if (!ckpt_piece_of_rank(model->layout, number, rank, model->names->size, &piece)) continue;
        ckpt_shard_name(model->names, rank, file);
        MST_TRY(map_piece(model, whole, tensor, &piece, file, dataset));
        ckpt_report(model->context, false);
    }
    CKPT_H5(h5, H5Sselect_all(whole), "describe", tensor->name);
    CKPT_H5(h5,
            shown = H5Dcreate2(group, tensor->name, H5T_IEEE_F32LE, whole, H5P_DEFAULT, model->properties,
                               H5P_DEFAULT),
            "create", tensor->name);
done:
    if (shown >= 0) H5Dclose(shown);
    if (model->properties >= 0) H5Pclose(model->properties);
    if (whole >= 0) H5Sclose(whole);
    return status;
}

/* Weights in the root, moments under optimizer/. */
static mst_status show_kind(model_file *model, hid_t parent, mst_tensor_kind kind, const size_t *order) {
    mst_status status = MST_OK;
    const char *name = mst_tensor_kind_name(kind);
    hid_t group = parent;
    if (kind != MST_KIND_MASTER)
        CKPT_H5(&model->h5, group = ckpt_h5_group(parent, name), "create group", name);
    for (size_t i = 0; i < model->layout->tensor_count; i++)
        MST_TRY(show_tensor(model, group, kind, order[i]));
done:
    if (group >= 0 && group != parent) H5Gclose(group);
    return status;
}

/* The shard files with their sizes, so that a reader can tell a missing or foreign one: HDF5 itself says
 * nothing. Datasets, since an attribute ends at 64 KiB. */
static mst_status list_sources(const model_file *model, const mst_manifest_file *shards, size_t count) {
    mst_status status = MST_OK;
    const ckpt_h5 *h5 = &model->h5;
    hsize_t extent = count;
    hid_t group = -1, space = -1, type = -1, plain = -1, files = -1, sizes = -1;
    char(*names)[MST_FILE_NAME_MAX] = calloc(count + 1, sizeof *names);
    uint64_t *bytes = calloc(count + 1, sizeof *bytes);
    MST_CHECK(names != NULL && bytes != NULL, MST_ENOMEM, "checkpoint: no memory for a list of %zu files",
              count);
    for (size_t i = 0; i < count; i++) {
        memcpy(names[i], shards[i].name, sizeof names[i]);
        bytes[i] = shards[i].bytes;
    }
    CKPT_H5(h5, group = ckpt_h5_group(h5->id, "sources"), "create group", "sources");
    CKPT_H5(h5, plain = ckpt_h5_plain_dataset(), "prepare", "datasets");
    CKPT_H5(h5, space = H5Screate_simple(1, &extent, NULL), "describe", "sources");
    CKPT_H5(h5, type = H5Tcopy(H5T_C_S1), "describe", "sources");
    CKPT_H5(h5, H5Tset_size(type, sizeof *names), "describe", "sources");
    CKPT_H5(h5, files = H5Dcreate2(group, "files", type, space, H5P_DEFAULT, plain, H5P_DEFAULT), "create",
            "sources");
    CKPT_H5(h5, H5Dwrite(files, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, names), "write", "sources");
    CKPT_H5(h5, sizes = H5Dcreate2(group, "bytes", H5T_STD_U64LE, space, H5P_DEFAULT, plain, H5P_DEFAULT),
            "create", "sources");
    CKPT_H5(h5, H5Dwrite(sizes, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes), "write", "sources");
done:
    if (sizes >= 0) H5Dclose(sizes);
    if (files >= 0) H5Dclose(files);
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (plain >= 0) H5Pclose(plain);
    if (group >= 0) H5Gclose(group);
    free(bytes);
    free(names);
    return status;
}

mst_status ckpt_model_facts(const ckpt_h5 *h5, uint64_t version, const mst_checkpoint_meta *meta,
                            const mst_digest *weights_digest, const mst_digest *state_digest) {
    mst_status status = MST_OK;
    char weights[MST_DIGEST_HEX], state[MST_DIGEST_HEX];
    mst_digest_to_hex(weights_digest, weights);
    mst_digest_to_hex(state_digest, state);
    MST_TRY(ckpt_h5_put_text(h5, h5->id, "format", "muster checkpoint"));
    MST_TRY(ckpt_h5_put_numbers(h5, h5->id, "version", &version, 0));
    MST_TRY(ckpt_h5_put_numbers(h5, h5->id, "step", &meta->step, 0));
    MST_TRY(ckpt_h5_put_text(h5, h5->id, "run_id", meta->run_id != NULL ? meta->run_id : ""));
    MST_TRY(
        ckpt_h5_put_text(h5, h5->id, "device_class", meta->device_class != NULL ? meta->device_class : ""));
    MST_TRY(ckpt_h5_put_text(h5, h5->id, "weights", weights));
    MST_TRY(ckpt_h5_put_text(h5, h5->id, "state", state));
done:
    return status;
}

static mst_status write_model(model_file *model, const ckpt_file *file, const size_t *order,
                              const mst_checkpoint_meta *meta, const ckpt_sums *sums,
                              const mst_manifest_file *shards, size_t shard_count) {
    mst_status status = MST_OK;
    hid_t optimizer = -1;
    MST_TRY(ckpt_h5_create(file, 0, &model->h5));
    MST_TRY(ckpt_model_facts(&model->h5, ckpt_manifest_version(meta), meta, &sums->kinds[MST_KIND_MASTER],
                             &sums->state));
    MST_TRY(list_sources(model, shards, shard_count));
    MST_TRY(show_kind(model, model->h5.id, MST_KIND_MASTER, order));
    CKPT_H5(&model->h5, optimizer = ckpt_h5_group(model->h5.id, "optimizer"), "create group", "optimizer");
    MST_TRY(show_kind(model, optimizer, MST_KIND_EXP_AVG, order));
    MST_TRY(show_kind(model, optimizer, MST_KIND_EXP_AVG_SQ, order));
done:
    if (optimizer >= 0) H5Gclose(optimizer);
    mst_status closed = ckpt_h5_close(&model->h5);
    return status != MST_OK ? status : closed;
}

mst_status ckpt_model_write(const mst_checkpoint_context *context, const ckpt_names *names,
                            const mst_layout *layout, const size_t *order, const mst_checkpoint_meta *meta,
                            const ckpt_sums *sums, const mst_manifest_file *shards, size_t shard_count,
                            mst_manifest_file *model_out) {
    mst_status status = MST_OK;
    ckpt_file file = CKPT_FILE_CLOSED(context);
    model_file model = {.context = context, .names = names, .layout = layout};
    *model_out = (mst_manifest_file){.name = "model.h5"};
    MST_TRY(ckpt_file_create(names->folder, model_out->name, &file));
    MST_TRY(write_model(&model, &file, order, meta, sums, shards, shard_count));
    MST_TRY(ckpt_file_sync(&file));
    MST_TRY(ckpt_file_size(&file, &model_out->bytes));
    MST_TRY(ckpt_file_digest(&file, 0, model_out->bytes, &model_out->digest));
    MST_TRY(ckpt_file_close(&file));
done:
    if (file.fd >= 0) ckpt_system.close(file.fd);
    return status;
}
