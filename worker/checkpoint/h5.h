/*
 * HDF5, for writing only. Its bytes go through a driver of ours into a ckpt_file: errors are then the
 * system's own, with path and errno, and no lock is taken (NFS and Lustre often refuse them). HDF5 1.10
 * crashes when closing a file whose writes fail, so the driver keeps the first error to itself and tells HDF5
 * that all went well; h5_close reports it.
 */
#ifndef CHECKPOINT_H5_H
#define CHECKPOINT_H5_H

#include <hdf5.h>

#include "file.h"

/* An HDF5 file that is being written. */
typedef struct ckpt_h5 {
    const ckpt_file *file; /* not owned */
    hid_t id, driver;      /* HDF5 1.10 reads the driver while it closes the file: it stays until then */
    mst_status status;     /* the first failure of a read or write, with its message */
    char message[512];
} ckpt_h5;

/** Records what HDF5 says about its latest failure: "cannot WHAT in PATH: HDF5: ...". @retval MST_EHDF5 */
mst_status ckpt_h5_error(const ckpt_h5 *h5, const char *what, const char *name);

/* For calls that return a negative number when they fail. */
#define CKPT_H5(h5, call, what, name)                                                                        \
    do {                                                                                                     \
        if ((call) < 0) {                                                                                    \
            status = ckpt_h5_error(h5, what, name);                                                          \
            goto done;                                                                                       \
        }                                                                                                    \
    } while (0)

/** Begins an HDF5 file of the earliest format in an empty file.
 * @param user_block bytes at the beginning that are left to us: a power of two from 512 on, or 0
 * @param h5_out must stay where it is until ckpt_h5_close */
mst_status ckpt_h5_create(const ckpt_file *file, uint64_t user_block, ckpt_h5 *h5_out);

/** Ends it: all bytes are handed to the system (not yet fsynced). Accepts one that is not open.
 * @retval MST_EIO, MST_EHDF5 */
mst_status ckpt_h5_close(ckpt_h5 *h5);

/** Creation properties of a dataset: contiguous, space allocated at once, never filled,
 * without times. -1 when HDF5 fails. */
hid_t ckpt_h5_plain_dataset(void);

/** A group. -1 when HDF5 fails. */
hid_t ckpt_h5_group(hid_t parent, const char *name);

/** Attributes of an object. @param count 0: a scalar */
mst_status ckpt_h5_put_numbers(const ckpt_h5 *h5, hid_t object, const char *name, const uint64_t *values,
                               size_t count);
mst_status ckpt_h5_put_text(const ckpt_h5 *h5, hid_t object, const char *name, const char *text);

#endif
