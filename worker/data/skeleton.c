#include "skeleton.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 4096 };

/* Keeps what the innermost HDF5 function said, without the details behind a colon
 * (times, addresses, several lines). */
static herr_t keep_description(unsigned depth, const H5E_error2_t *error, void *text) {
    int length = (int)strcspn(error->desc, ":\n");
    if (depth == 0) snprintf(text, 256, "%.*s in %s", length, error->desc, error->func_name);
    return 0;
}

static mst_status hdf5_error(const char *path, const char *what) {
    char text[256] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_description, text);
    return mst_error(MST_EHDF5, "writing '%s': HDF5 failed to %s: %s; is the disk full?", path, what, text);
}

#define TRY_HDF5(call, what)                                                                                 \
    do {                                                                                                     \
        if ((call) < 0) {                                                                                    \
            status = hdf5_error(path, what);                                                                 \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

static mst_status open_file(const char *path, uint64_t user_block, hid_t *file_out) {
    mst_status status = MST_OK;
    hid_t creation = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    TRY_HDF5(H5Pset_userblock(creation, user_block), "reserve the user block");
    /* Threshold 1: small datasets are aligned too. */
    TRY_HDF5(H5Pset_alignment(access, 1, ALIGNMENT), "set the alignment");
    TRY_HDF5(H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST), "choose the file format");
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && H5_VERSION_LE(1, 10, 99))
    /* The name is ours alone; NFS and Lustre often refuse locks. */
    TRY_HDF5(H5Pset_file_locking(access, false, true), "do without file locks");
#endif
    *file_out = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    TRY_HDF5(*file_out, "create the file");
done:
    H5Pclose(creation);
    H5Pclose(access);
    return status;
}

static mst_status create_array(hid_t group, const char *path, const char *name, hid_t type,
                               array_index *array) {
    mst_status status = MST_OK;
    hsize_t count = array->count;
    hid_t space = H5Screate_simple(1, &count, NULL), creation = H5Pcreate(H5P_DATASET_CREATE),
          dataset = H5I_INVALID_HID;
    TRY_HDF5(H5Pset_layout(creation, H5D_CONTIGUOUS), "make a dataset contiguous");
    TRY_HDF5(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY), "allocate a dataset early");
    TRY_HDF5(H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER), "leave a dataset unfilled");
    TRY_HDF5(H5Pset_obj_track_times(creation, false), "leave out time stamps");
    dataset = H5Dcreate2(group, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    TRY_HDF5(dataset, "create a dataset");
    haddr_t offset = count > 0 ? H5Dget_offset(dataset) : 0;
    MST_CHECK(offset != HADDR_UNDEF, MST_EHDF5, "writing '%s': HDF5 gave dataset '%s' no place", path, name);
    array->offset = offset;
done:
    if (dataset >= 0 && H5Dclose(dataset) < 0 && status == MST_OK)
        status = hdf5_error(path, "close a dataset");
    H5Pclose(creation);
    H5Sclose(space);
    return status;
}

static mst_status create_split(hid_t file, const char *path, mst_split which, token_index *index) {
    mst_status status = MST_OK;
    hid_t token_type = index->token_bytes == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
    hid_t group = H5Gcreate2(file, index_split_name(which), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    TRY_HDF5(group, "create a group");
    MST_TRY(create_array(group, path, "tokens", token_type, &index->split[which].tokens));
    MST_TRY(create_array(group, path, "documents", H5T_STD_U64LE, &index->split[which].documents));
    if (index->split[which].has_loss_mask)
        MST_TRY(create_array(group, path, "loss_mask", H5T_STD_U8LE, &index->split[which].loss_mask));
done:
    if (group >= 0 && H5Gclose(group) < 0 && status == MST_OK) status = hdf5_error(path, "close a group");
    return status;
}

static mst_status create_tokenizer(hid_t file, const char *path, tokenizer_index *tokenizer) {
    mst_status status = MST_OK;
    hid_t group = H5Gcreate2(file, "tokenizer", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    TRY_HDF5(group, "create a group");
    MST_TRY(create_array(group, path, "json", H5T_STD_U8LE, &tokenizer->json));
    MST_TRY(create_array(group, path, "lengths", H5T_STD_U32LE, &tokenizer->lengths));
done:
    if (group >= 0 && H5Gclose(group) < 0 && status == MST_OK) status = hdf5_error(path, "close a group");
    return status;
}

mst_status skeleton_create(const char *path, uint64_t user_block, token_index *index) {
    mst_status status = MST_OK;
    hid_t file = H5I_INVALID_HID;
    H5E_auto2_t print;
    void *print_data;
    H5Eget_auto2(H5E_DEFAULT, &print, &print_data);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* HDF5 would print by itself */
    MST_TRY(open_file(path, user_block, &file));
    for (int which = 0; which < SPLITS; which++) MST_TRY(create_split(file, path, (mst_split)which, index));
    if (index->tokenizer.has_json) MST_TRY(create_tokenizer(file, path, &index->tokenizer));
done:
    if (file >= 0 && H5Fclose(file) < 0 && status == MST_OK) status = hdf5_error(path, "close the file");
    H5Eset_auto2(H5E_DEFAULT, print, print_data);
    return status;
}
