/* A training state to checkpoint: a made-up layout with awkward shapes, and values that
 * are a pure function of a seed. */
#ifndef TEST_CHECKPOINT_STATE_H
#define TEST_CHECKPOINT_STATE_H

#include "muster/checkpoint.h"

/* One rank's part of the state. */
typedef struct test_state {
    mst_checkpoint_context context; /* comm is not owned; kernels are those below */
    mst_layout layout;
    mst_shard *shards;
    mst_checkpoint_meta meta;
    mst_kernels kernels;
} test_state;

/* A tensor of the made-up model. */
typedef struct test_shape {
    const char *name;
    size_t dims, shape[2];
    unsigned unit; /* units stand one after the other, from 0 */
} test_shape;

/** Fills this rank's part in place (it points into itself: not to be copied); ends the program when there is
 * no memory. The bits are any bits: NaN, infinities, denormals. */
void test_state_create(mst_comm *comm, uint64_t seed, test_state *state_out);
/** The same with two tensors and one thread, for tests that save hundreds of times. */
void test_state_create_small(mst_comm *comm, uint64_t seed, test_state *state_out);
/** The same with tensors of the caller's choice, which are not kept, and one thread. */
void test_state_create_of(mst_comm *comm, uint64_t seed, const test_shape *shapes, size_t count,
                          test_state *state_out);
void test_state_destroy(test_state *state);

/** The bits of one element of the whole state. */
uint32_t test_state_bits(uint64_t seed, mst_tensor_kind kind, const char *name, uint64_t element);

/** Fills all buffers, padding too, with rubbish. */
void test_state_spoil(test_state *state);
/** Elements of this rank that are not the seed's, padding that is not zero. */
size_t test_state_differences(const test_state *state, uint64_t seed);

/** Joins folder and name. @param path_out [4096], may be folder */
void test_path(const char *folder, const char *name, char *path_out);
/** A new empty folder below $TMPDIR. @param path_out [4096] */
void test_folder_make(char *path_out);
/** Removes a folder and all below it. */
void test_folder_remove(const char *path);
/** Number of entries in a folder, "." and ".." left out;
 * those beginning with a dot are counted in dots_out. */
size_t test_folder_entries(const char *path, size_t *dots_out);

#endif
