/*
 * The commit protocol. M: the main threads of all ranks, between two training steps, together: they alone call
 * MPI. W: the writing thread of each rank, meanwhile: it alone calls HDF5. R: that of rank 0. At each M the ranks
 * agree on the status; a failure anywhere ends the save on all of them with the same message, and what is
 * unfinished is removed.
 *
 *  0. M, once a run: make the checkpoints folder; clear what killed jobs left there; allocate everything.
 *  1. M: rank 0 makes .tmp-step-N. Each rank copies its shards. Training goes on.
 *  2. W: write the shards' file, part-RRRR, and fsync it. Beside it other threads hash every block of the copy; then they read
 *        the file back and compare every byte with the copy.
 *  3. M, when all have: gather on rank 0 the digests of the blocks and where every piece stands. Training goes on.
 *  4. R: write digests.bin and checksums.bin, fsync them, and hash them: weights and state. The shard files' names follow from the state,
 *        so that a foreign file has another name: rename them.
 *  5. R: if step-N is there already, whole, with the same meta and state: keep it, and be done.
 *  6. R: write model.h5, tokenizer.json and huggingface.tar, fsync them and .tmp-step-N: all names and contents are on the disk.
 *  7. R: write manifest.json.tmp, fsync it, rename it to manifest.json, fsync .tmp-step-N: now it is whole.
 *  8. R: rename .tmp-step-N to step-N (exchange it with one that differs, which is then removed), fsync the parent. If the run
 *        has gone on from an older step than N, a step-N that is there is one that it left, perhaps damaged: that is
 *        renamed to left-step-N first, and the parent fsynced. Until the new name is there, the older one is the newest.
 *  9. R: remove what is not kept.
 * 10. M, when rank 0 has: all ranks hear what came of it.
 *
 * Killed at any instant: before 8 a reader sees no step-N (or the old one), after it the new one, whole. The
 * instant between exists only where names cannot be exchanged; the next start then puts the old one back.
 *
 * A thread that works counts (note_progress) at least every 64 MiB. A main thread that waits for its own threads
 * reports that as work only while the count moves; when it waits for other ranks, it says so (ckpt_agree and its like).
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"
#include "moments.h"
#include "muster/clock.h"
#include "muster/saver.h"
#include "part.h"
#include "snapshot.h"
#include "thread.h"

typedef enum save_phase { PHASE_NONE, PHASE_WRITING, PHASE_COMMITTING } save_phase;

struct mst_saver {
    mst_checkpoint_context context; /* the main thread's */
    mst_checkpoint_context behind;  /* the other threads': without ranks, with a queue of its own */
    int rank, size;
    const mst_layout *layout;
    const mst_shard *shards; /* not owned */
    mst_saver_options options;
    char folder[CKPT_PATH_MAX];

    size_t *order; /* tensors by name */
    ckpt_pieces pieces;
    ckpt_snapshot snapshot; /* empty without options.copies */
    bool narrow;            /* what is written from has bf16 */
    float *wide;            /* then: of the thread that writes, CKPT_CHECK_BYTES */
    ckpt_part part;
    ckpt_gathering gathering;
    ckpt_record *record;
    size_t *record_bytes; /* [size] */
    char *records;        /* rank 0: of all ranks, one after the other */
    uint64_t from; /* step that the run went on from: of the last load or save; UINT64_MAX: neither so far */
    ckpt_thread writer, checker;
    atomic_size_t moved; /* how often they noted progress */

    /* The save in flight. While the writer has a job only `moved` may be touched. */
    save_phase phase;
    mst_checkpoint_meta meta;
    ckpt_paths paths;
    double begun;
    mst_saved saved;
};

/* --- creating --- */

static void note_progress(void *progress_context, bool waiting) {
    mst_saver *s = progress_context;
    (void)waiting;
    atomic_fetch_add_explicit(&s->moved, 1, memory_order_relaxed);
}

static mst_status allocate_records(mst_saver *s) {
    mst_status status = MST_OK;
    size_t all = 1;
    s->record = calloc(1, ckpt_record_bytes(s->pieces.count));
    s->record_bytes = calloc((size_t)s->size, sizeof *s->record_bytes);
    MST_CHECK(s->record != NULL && s->record_bytes != NULL, MST_ENOMEM,
              "checkpoint: no memory for %zu pieces", s->pieces.count);
    for (int rank = 0; rank < s->size; rank++) {
        size_t pieces = 0;
        ckpt_piece piece;
        for (size_t i = 0; i < s->layout->tensor_count; i++)
            pieces += ckpt_piece_of_rank(s->layout, i, rank, s->size, &piece);
        s->record_bytes[rank] = ckpt_record_bytes(pieces);
        all += s->record_bytes[rank];
    }
    if (s->rank == 0) s->records = malloc(all);
    MST_CHECK(s->rank != 0 || s->records != NULL, MST_ENOMEM,
              "checkpoint: no memory for the index of %d ranks (%zu bytes)", s->size, all);
done:
    return status;
}

static mst_status allocate_queue(mst_saver *s) {
    mst_status status = MST_OK;
    MST_TRY(ckpt_thread_queue(CKPT_CHECKERS, CKPT_FAR_BEHIND, &s->behind.queue));
    const size_t bytes = CKPT_BUFFER + (s->narrow ? CKPT_CHECK_BYTES : 0);
    for (int thread = 0; thread < CKPT_CHECKERS; thread++)
        MST_CHECK(mst_queue_scratch(s->behind.queue, thread, bytes) != NULL, MST_ENOMEM,
                  "checkpoint: no memory for a buffer of %zu bytes", bytes);
    if (s->narrow) s->wide = malloc(CKPT_CHECK_BYTES);
    MST_CHECK(s->wide != NULL || !s->narrow, MST_ENOMEM, "checkpoint: no memory for a buffer of %d bytes",
              CKPT_CHECK_BYTES);
done:
    return status;
}

static mst_status allocate(mst_saver *s) {
    mst_status status = MST_OK;
    MST_TRY(ckpt_check_ranges(s->layout, s->shards, s->rank, s->size));
    MST_TRY(ckpt_name_order(s->layout, &s->order));
    MST_TRY(ckpt_pieces_list(s->layout, s->order, s->shards, &s->pieces));
    MST_TRY(ckpt_gathering_create(s->layout, s->rank, s->size, &s->gathering));
    MST_TRY(allocate_records(s));
    if (s->options.copies) MST_TRY(ckpt_snapshot_create(&s->context, s->layout, s->shards, &s->snapshot));
    MST_TRY(allocate_queue(s));
    MST_TRY(ckpt_thread_start(&s->writer, "writes", CKPT_BEHIND));
    MST_TRY(ckpt_thread_start(&s->checker, "checks", CKPT_FAR_BEHIND));
done:
    return status;
}

static mst_status prepare_folder(const mst_saver *s) {
    mst_status status = MST_OK;
    if (s->rank != 0) return MST_OK;
    MST_TRY(ckpt_folder_make(s->folder));
    MST_TRY(ckpt_folder_recover(s->folder));
done:
    return status;
}

static mst_status fill(mst_saver *s, const mst_checkpoint_context *context, const mst_layout *layout,
                       const mst_shard *shards, const mst_saver_options *options) {
    mst_status status = MST_OK;
    const size_t length = strlen(options->folder);
    MST_CHECK(length < sizeof s->folder, MST_EINVAL, "checkpoint: folder '%.80s' has %zu characters",
              options->folder, length);
    memcpy(s->folder, options->folder, length + 1);
    s->from = UINT64_MAX;
    s->context = *context;
    s->behind = (mst_checkpoint_context){.kernels = context->kernels,
                                         .progress = note_progress,
                                         .progress_context = s,
                                         .permit = context->permit,
                                         .permit_context = context->permit_context};
    s->rank = mst_comm_rank(context->comm);
    s->size = mst_comm_size(context->comm);
    s->layout = layout;
    s->shards = shards;
    s->options = *options;
    if (mst_memory_is_apart()) s->options.copies = true; /* the CPU writes, and cannot read the shards */
    s->narrow = !s->options.copies && ckpt_is_narrow(layout, shards);
    s->options.folder = s->folder;
    MST_TRY(allocate(s));
    MST_TRY(prepare_folder(s));
done:
    return status;
}

mst_status mst_saver_create(const mst_checkpoint_context *context, const mst_layout *layout,
                            const mst_shard *shards, const mst_saver_options *options,
                            mst_saver **saver_out) {
    mst_status status = MST_OK;
    mst_saver *s = calloc(1, sizeof *s);
    *saver_out = NULL;
    status = s != NULL ? fill(s, context, layout, shards, options)
                       : mst_error(MST_ENOMEM, "checkpoint: no memory for %zu bytes", sizeof *s);
    MST_TRY(ckpt_agree(context, status));
    *saver_out = s;
    s = NULL;
done:
    mst_saver_destroy(&s);
    return status;
}

void mst_saver_destroy(mst_saver **saver) {
    mst_saver *s = *saver;
    if (s == NULL) return;
    ckpt_thread_end(&s->writer);
    ckpt_thread_end(&s->checker);
    mst_queue_destroy(&s->behind.queue);
    ckpt_snapshot_clear(&s->snapshot);
    ckpt_gathering_clear(&s->gathering);
    ckpt_pieces_clear(&s->pieces);
    free(s->order);
    free(s->record);
    free(s->record_bytes);
    free(s->records);
    free(s->wide);
    free(s);
    *saver = NULL;
}

size_t mst_saver_bytes(const mst_saver *saver) {
    const size_t sums = saver->gathering.bytes_of[saver->rank],
                 all = saver->rank == 0 ? MST_KIND_COUNT * saver->layout->blocks * CKPT_SUM_BYTES : 0;
    return saver->snapshot.bytes + sums + all + ckpt_part_buffers(saver->narrow);
}

size_t mst_saver_bytes_of(const mst_layout *layout, bool copies, mst_dtype moments, int rank, int size) {
    const size_t sums = ckpt_sum_bytes_of_rank(layout, rank, size),
                 all = rank == 0 ? MST_KIND_COUNT * layout->blocks * CKPT_SUM_BYTES : 0;
    const size_t copy = copies ? sums / CKPT_SUM_BYTES * MST_BLOCK * sizeof(float) : 0;
    return copy + sums + all + ckpt_part_buffers(!copies && moments != MST_F32);
}

void mst_saver_goes_on_from(mst_saver *saver, uint64_t step) {
    saver->from = step;
}

bool mst_saver_busy(const mst_saver *saver) {
    return saver->phase != PHASE_NONE;
}

uint64_t mst_saver_step(const mst_saver *saver) {
    return saver->meta.step;
}

/* --- 2: behind, each rank --- */

static const mst_shard *state_to_save(const mst_saver *s) {
    return s->options.copies ? s->snapshot.shards : s->shards;
}

static mst_status check(void *context) {
    mst_saver *s = context;
    return ckpt_part_check(&s->part);
}

static mst_status write_and_check(void *context) {
    mst_saver *s = context;
    s->part = (ckpt_part){.context = &s->behind,
                          .layout = s->layout,
                          .shards = state_to_save(s),
                          .pieces = &s->pieces,
                          .record = s->record,
                          .wide = s->wide};
    mst_status status = ckpt_part_begin(&s->part, s->paths.making, s->rank);
    if (status == MST_OK) {
        ckpt_thread_give(&s->checker, check, s);
        status = ckpt_part_write(&s->part);
        s->record->seconds = mst_clock_now() - s->begun;
        while (!ckpt_thread_rest(&s->checker, 3600)) {}
        if (status == MST_OK) status = ckpt_thread_result(&s->checker);
    }
    return ckpt_part_end(&s->part, status);
}

/* --- 4 to 9: behind, rank 0 --- */

/* What fails here leaves the checkpoint that was just made, and is said. */
static void tidy(mst_saver *s) {
    mst_status status = MST_OK;
    size_t set_aside = 0;
    MST_TRY(ckpt_permitted(&s->behind));
    MST_TRY(ckpt_folder_recover(s->folder));
    MST_TRY(mst_checkpoint_set_aside(s->folder, s->from < s->meta.step ? s->from : s->meta.step, s->meta.step,
                                     &set_aside));
    s->saved.set_aside += set_aside;
    s->from = s->meta.step;
    MST_TRY(mst_checkpoint_prune(s->folder, &s->options.wishes));
done:
    if (status != MST_OK) snprintf(s->saved.warning, sizeof s->saved.warning, "%s", mst_error_message());
}

/* Of the rank that was the last. */
static double written_seconds(const mst_saver *s) {
    double most = 0;
    const char *at = s->records;
    for (int rank = 0; rank < s->size; at += s->record_bytes[rank], rank++)
        most = fmax(most, ((const ckpt_record *)(const void *)at)->seconds);
    return most;
}

static mst_status commit(void *context) {
    mst_status status = MST_OK;
    mst_saver *s = context;
    ckpt_sums sums;
    const ckpt_written written = {.context = &s->behind,
                                  .layout = s->layout,
                                  .order = s->order,
                                  .meta = &s->meta,
                                  .paths = &s->paths,
                                  .gathering = &s->gathering,
                                  .records = s->records,
                                  .record_bytes = s->record_bytes,
                                  .leaves = s->options.tidies && s->from < s->meta.step};
    MST_TRY(ckpt_commit(&written, &sums, &s->saved.set_aside));
    s->saved.digests = (mst_checkpoint_digests){sums.kinds[MST_KIND_MASTER], sums.state};
    s->saved.written = written_seconds(s);
    s->saved.seconds = mst_clock_now() - s->begun;
    if (s->options.tidies) tidy(s);
done:
    return status;
}

/* --- between steps --- */

/* A folder of that name is what an earlier failure could not remove; and somebody may have removed the one above. */
static mst_status make_folder(const mst_saver *s) {
    if (s->rank != 0 || ckpt_system.mkdir(s->paths.making, 0777) == 0) return MST_OK;
    if (errno != EEXIST && errno != ENOENT) return ckpt_errno(errno, "make folder", s->paths.making);
    mst_status status = ckpt_permitted(&s->context);
    if (status != MST_OK) return status;
    ckpt_folder_discard(s->paths.making);
    return ckpt_folder_make(s->paths.making);
}

static mst_status failed(mst_saver *s, mst_status status) {
    return mst_error_context(status, "checkpoint of step %" PRIu64, s->meta.step);
}

mst_status mst_saver_begin(mst_saver *s, const mst_checkpoint_meta *meta) {
    s->meta = *meta;
    s->begun = mst_clock_now();
    mst_status status = ckpt_paths_of(s->folder, meta->step, &s->paths);
    if (status == MST_OK) status = make_folder(s);
    if (status == MST_OK && s->options.copies)
        status = ckpt_snapshot_take(&s->context, s->layout, s->shards, &s->snapshot);
    status = ckpt_agree(&s->context, status);
    if (status != MST_OK) {
        if (s->rank == 0) ckpt_making_discard(&s->context, &s->paths);
        return failed(s, status);
    }
    s->saved = (mst_saved){.step = meta->step, .stalled = mst_clock_now() - s->begun};
    memcpy(s->saved.path, s->paths.final, sizeof s->saved.path);
    ckpt_thread_give(&s->writer, write_and_check, s);
    s->phase = PHASE_WRITING;
    return MST_OK;
}

/* All ranks have written: rank 0 learns of it and goes on. */
static mst_status end_writing(mst_saver *s) {
    mst_status status = MST_OK;
    MST_TRY(ckpt_agree(&s->context, ckpt_thread_result(&s->writer)));
    status = ckpt_gathering_receive(&s->context, &s->pieces, &s->gathering);
    if (status == MST_OK) status = ckpt_gather(&s->context, s->record, s->record_bytes, s->records);
    MST_TRY(ckpt_agree(&s->context, status));
    if (s->rank == 0) ckpt_thread_give(&s->writer, commit, s);
    s->phase = PHASE_COMMITTING;
done:
    if (status == MST_OK) return MST_OK;
    s->phase = PHASE_NONE;
    if (s->rank == 0) ckpt_making_discard(&s->context, &s->paths);
    ckpt_barrier(&s->context); /* nobody returns before it is gone */
    return failed(s, status);
}

static mst_status end_committing(mst_saver *s, mst_saved *saved_out) {
    mst_status status = MST_OK;
    s->phase = PHASE_NONE;
    MST_TRY(ckpt_agree(&s->context, s->rank == 0 ? ckpt_thread_result(&s->writer) : MST_OK));
    MST_TRY(ckpt_broadcast(&s->context, &s->saved, sizeof s->saved));
    *saved_out = s->saved;
done:
    return status == MST_OK ? MST_OK : failed(s, status);
}

mst_status mst_saver_poll(mst_saver *s, bool *over_out, mst_saved *saved_out) {
    bool ready = ckpt_thread_rest(&s->writer, 0);
    *over_out = false;
    mst_status status = ckpt_all(&s->context, ready, &ready);
    if (status == MST_OK && ready)
        status = s->phase == PHASE_WRITING ? end_writing(s) : end_committing(s, saved_out);
    *over_out = status != MST_OK || s->phase == PHASE_NONE;
    return status;
}

mst_status mst_saver_wait(mst_saver *s, mst_saved *saved_out) {
    mst_status status = MST_OK;
    for (bool over = false; status == MST_OK && !over;) {
        ckpt_report(&s->context, false);
        size_t seen = atomic_load_explicit(&s->moved, memory_order_relaxed);
        while (!ckpt_thread_rest(&s->writer, 0.1)) {
            const size_t moved = atomic_load_explicit(&s->moved, memory_order_relaxed);
            if (moved != seen) ckpt_report(&s->context, false);
            seen = moved;
        }
        status = mst_saver_poll(s, &over, saved_out);
    }
    return status;
}

/* --- at once --- */

mst_status mst_checkpoint_save(const mst_checkpoint_context *context, const char *folder,
                               const mst_layout *layout, const mst_shard *shards,
                               const mst_checkpoint_meta *meta, mst_checkpoint_digests *digests_out,
                               char *path_out) {
    mst_status status = MST_OK;
    mst_saver *saver = NULL;
    mst_saved saved;
    const mst_saver_options options = {.folder = folder};
    MST_TRY(mst_saver_create(context, layout, shards, &options, &saver));
    MST_TRY(mst_saver_begin(saver, meta));
    MST_TRY(mst_saver_wait(saver, &saved));
    *digests_out = saved.digests;
    if (path_out != NULL) memcpy(path_out, saved.path, strlen(saved.path) + 1);
done:
    mst_saver_destroy(&saver);
    return status;
}
