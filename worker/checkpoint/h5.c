#include "h5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

enum { ALIGNMENT = 4096 };

/* --- what HDF5 says --- */

typedef struct story {
    char outer[160], inner[240];
} story;

/* Downwards: the first is the call that we made, the last is the cause. */
static herr_t read_story(unsigned depth, const H5E_error2_t *error, void *context) {
    story *told = context;
    const char *text = error->desc != NULL ? error->desc : "no description";
    if (depth == 0) snprintf(told->outer, sizeof told->outer, "%s", text);
    snprintf(told->inner, sizeof told->inner, "%s", text);
    return 0;
}

mst_status ckpt_h5_error(const ckpt_h5 *h5, const char *what, const char *name) {
    story told = {.outer = "no description"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, read_story, &told);
    if (h5->status != MST_OK) return mst_error(h5->status, "%s", h5->message); /* the cause lies there */
    return mst_error(MST_EHDF5, "cannot %s %s in %s: HDF5: %s: %s", what, name, h5->file->path, told.outer,
                     told.inner);
}

/* --- the driver --- */

typedef struct driver_file {
    H5FD_t base; /* HDF5's own part, first */
    ckpt_h5 *h5;
    haddr_t end_allocated, end_written;
} driver_file;

static void keep_error(ckpt_h5 *h5, mst_status status) {
    if (status == MST_OK || h5->status != MST_OK) return;
    h5->status = status;
    snprintf(h5->message, sizeof h5->message, "%s", mst_error_message());
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t limit) {
    (void)name, (void)flags, (void)limit;
    ckpt_h5 *const *h5 = H5Pget_driver_info(access);
    driver_file *file = h5 != NULL ? calloc(1, sizeof *file) : NULL;
    if (file == NULL) return NULL;
    file->h5 = *h5;
    return &file->base;
}

static herr_t driver_close(H5FD_t *base) {
    free(base);
    return 0;
}

static herr_t driver_query(const H5FD_t *base, unsigned long *flags) {
    (void)base;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA | H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
    return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return ((const driver_file *)base)->end_allocated;
}

static herr_t driver_set_eoa(H5FD_t *base, H5FD_mem_t type, haddr_t end) {
    (void)type;
    ((driver_file *)base)->end_allocated = end;
    return 0;
}

static haddr_t driver_get_eof(const H5FD_t *base, H5FD_mem_t type) {
    (void)type;
    return ((const driver_file *)base)->end_written;
}

static herr_t driver_read(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t offset, size_t bytes,
                          void *buffer) {
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)base;
    memset(buffer, 0, bytes);
    if (file->h5->status != MST_OK || offset >= file->end_written) return 0;
    haddr_t there = file->end_written - offset;
    keep_error(file->h5,
               ckpt_file_read(file->h5->file, buffer, bytes < there ? bytes : (size_t)there, offset));
    return 0;
}

static herr_t driver_write(H5FD_t *base, H5FD_mem_t type, hid_t transfer, haddr_t offset, size_t bytes,
                           const void *buffer) {
    (void)type, (void)transfer;
    driver_file *file = (driver_file *)base;
    if (file->h5->status == MST_OK)
        keep_error(file->h5, ckpt_file_write(file->h5->file, buffer, bytes, offset));
    if (offset + bytes > file->end_written) file->end_written = offset + bytes;
    return 0;
}

static herr_t driver_truncate(H5FD_t *base, hid_t transfer, hbool_t closing) {
    (void)transfer, (void)closing;
    driver_file *file = (driver_file *)base;
    if (file->end_written == file->end_allocated) return 0;
    if (file->h5->status == MST_OK)
        keep_error(file->h5, ckpt_file_resize(file->h5->file, file->end_allocated));
    file->end_written = file->end_allocated;
    return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)600, /* any above the library's own */
#endif
    .name = "muster",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_WEAK,
    .fapl_size = sizeof(ckpt_h5 *),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* --- files --- */

mst_status ckpt_h5_create(const ckpt_file *file, uint64_t user_block, ckpt_h5 *h5_out) {
    mst_status status = MST_OK;
    ckpt_h5 *h5 = h5_out;
    *h5 = (ckpt_h5){.file = file, .id = -1, .driver = -1};
    hid_t access = -1, creation = -1;
    CKPT_H5(h5, H5Eset_auto2(H5E_DEFAULT, NULL, NULL), "prepare", "HDF5");
    CKPT_H5(h5, h5->driver = H5FDregister(&driver_class), "register", "a file driver");
    CKPT_H5(h5, access = H5Pcreate(H5P_FILE_ACCESS), "prepare", "HDF5");
    CKPT_H5(h5, H5Pset_driver(access, h5->driver, &h5), "set", "the file driver");
    CKPT_H5(h5, H5Pset_alignment(access, ALIGNMENT, ALIGNMENT), "set", "the alignment");
    CKPT_H5(h5, H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST), "set",
            "the earliest format");
    CKPT_H5(h5, creation = H5Pcreate(H5P_FILE_CREATE), "prepare", "HDF5");
    CKPT_H5(h5, H5Pset_userblock(creation, user_block), "leave room in", "the file");
    CKPT_H5(h5, h5->id = H5Fcreate(file->path, H5F_ACC_TRUNC, creation, access), "begin", "the file");
done:
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    if (status != MST_OK && h5->driver >= 0) H5FDunregister(h5->driver);
    return status;
}

mst_status ckpt_h5_close(ckpt_h5 *h5) {
    mst_status status = MST_OK;
    if (h5->id < 0) return MST_OK;
    CKPT_H5(h5, H5Fclose(h5->id), "close", "the file");
    if (h5->status != MST_OK) status = mst_error(h5->status, "%s", h5->message);
done:
    h5->id = -1;
    H5FDunregister(h5->driver);
    return status;
}

hid_t ckpt_h5_plain_dataset(void) {
    hid_t plain = H5Pcreate(H5P_DATASET_CREATE);
    if (plain < 0) return -1;
    if (H5Pset_layout(plain, H5D_CONTIGUOUS) >= 0 && H5Pset_alloc_time(plain, H5D_ALLOC_TIME_EARLY) >= 0 &&
        H5Pset_fill_time(plain, H5D_FILL_TIME_NEVER) >= 0 && H5Pset_obj_track_times(plain, false) >= 0)
        return plain;
    H5Pclose(plain);
    return -1;
}

hid_t ckpt_h5_group(hid_t parent, const char *name) {
    hid_t properties = H5Pcreate(H5P_GROUP_CREATE);
    if (properties < 0) return -1;
    hid_t group = -1;
    if (H5Pset_obj_track_times(properties, false) >= 0)
        group = H5Gcreate2(parent, name, H5P_DEFAULT, properties, H5P_DEFAULT);
    H5Pclose(properties);
    return group;
}

/* --- attributes --- */

static mst_status put(const ckpt_h5 *h5, hid_t object, const char *name, hid_t stored, hid_t type,
                      hid_t space, const void *value) {
    mst_status status = MST_OK;
    hid_t attribute = -1;
    CKPT_H5(h5, attribute = H5Acreate2(object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT),
            "create attribute", name);
    CKPT_H5(h5, H5Awrite(attribute, type, value), "write attribute", name);
done:
    if (attribute >= 0) H5Aclose(attribute);
    return status;
}

mst_status ckpt_h5_put_numbers(const ckpt_h5 *h5, hid_t object, const char *name, const uint64_t *values,
                               size_t count) {
    mst_status status = MST_OK;
    hsize_t extent = count;
    hid_t space = -1;
    CKPT_H5(h5, space = count > 0 ? H5Screate_simple(1, &extent, NULL) : H5Screate(H5S_SCALAR), "describe",
            name);
    status = put(h5, object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, space, values);
done:
    if (space >= 0) H5Sclose(space);
    return status;
}

mst_status ckpt_h5_put_text(const ckpt_h5 *h5, hid_t object, const char *name, const char *text) {
    mst_status status = MST_OK;
    hid_t space = -1, type = -1;
    CKPT_H5(h5, space = H5Screate(H5S_SCALAR), "describe", name);
    CKPT_H5(h5, type = H5Tcopy(H5T_C_S1), "describe", name);
    CKPT_H5(h5, H5Tset_size(type, strlen(text) + 1), "describe", name);
    CKPT_H5(h5, H5Tset_cset(type, H5T_CSET_UTF8), "describe", name);
    status = put(h5, object, name, type, type, space, text);
done:
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    return status;
}
