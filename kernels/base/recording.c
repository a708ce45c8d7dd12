#include "muster/recording.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A piece of work that was met. */
typedef struct entry {
    mst_recording *recording; /* NULL: it is recorded when it comes again */
    uint64_t basis;           /* the device's, when it was met or recorded */
} entry;

struct mst_recordings {
    mst_queue *queue;
    const mst_recording_face *face; /* NULL: the device records nothing */
    size_t room, count, key_bytes;
    entry *entries;    /* [room] */
    char *keys;        /* [room][key_bytes] */
    size_t next;       /* the entry after the one found last: work comes in the same order again */
    char failure[512]; /* "": there was none */
};

mst_status mst_recordings_create(mst_queue *queue, size_t room, size_t key_bytes,
                                 mst_recordings **recordings_out) {
    mst_status status = MST_OK;
    mst_recordings *r = NULL;
    *recordings_out = NULL;
    MST_TRY(mst_memory_drive(queue));
    r = calloc(1, sizeof *r);
    MST_CHECK(r, MST_ENOMEM, "recordings: out of memory");
    const mst_queue_face *face = mst_queue_face_of(queue);
    *r = (mst_recordings){
        .queue = queue, .face = face ? face->recordings : NULL, .room = room, .key_bytes = key_bytes};
    r->entries = calloc(room, sizeof *r->entries);
    r->keys = calloc(room, key_bytes);
    MST_CHECK(r->entries && r->keys, MST_ENOMEM, "recordings: no memory for %zu", room);
    *recordings_out = r;
    r = NULL;
done:
    mst_recordings_destroy(&r);
    return status;
}

void mst_recordings_destroy(mst_recordings **recordings) {
    mst_recordings *r = *recordings;
    if (!r) return;
    mst_recordings_forget(r);
    free(r->entries);
    free(r->keys);
    free(r);
    *recordings = NULL;
}

static void drop(mst_recordings *r, entry *e) {
    if (e->recording) r->face->destroy(mst_queue_device(r->queue), e->recording);
    e->recording = NULL;
}

void mst_recordings_forget(mst_recordings *r) {
    for (size_t i = 0; i < r->count; i++) drop(r, &r->entries[i]);
    r->count = r->next = 0;
}

const char *mst_recordings_failure(const mst_recordings *r) {
    return r->failure[0] ? r->failure : NULL;
}

/* The first error says why nothing is recorded any more. */
static void explain(mst_recordings *r) {
    if (!r->failure[0]) snprintf(r->failure, sizeof r->failure, "%s", mst_error_message());
}

static uint64_t basis_of(const mst_recordings *r) {
    return r->face->basis(mst_queue_device(r->queue));
}

static entry *find(mst_recordings *r, const void *key) {
    for (size_t i = 0; i < r->count; i++) {
        const size_t at = (r->next + i) % r->count;
        if (memcmp(r->keys + at * r->key_bytes, key, r->key_bytes) != 0) continue;
        r->next = at + 1;
        return &r->entries[at];
    }
    return NULL;
}

/* The work was done as it came, on what the device has now: when it comes again, it is recorded. */
static void note(mst_recordings *r, entry *known, const void *key) {
    if (!known && r->count == r->room) return;
    entry *e = known ? known : &r->entries[r->count];
    drop(r, e);
    e->basis = basis_of(r);
    if (known) return;
    memcpy(r->keys + r->count * r->key_bytes, key, r->key_bytes);
    r->next = ++r->count;
}

static mst_status record(mst_recordings *r, entry *e, mst_work_fn *work, void *context) {
    mst_status status = MST_OK;
    void *device = mst_queue_device(r->queue);
    MST_TRY(r->face->begin(device));
    status = work(context);
    if (status != MST_OK) explain(r);
    const mst_status ended = r->face->end(device, status == MST_OK ? &e->recording : NULL);
    if (status == MST_OK) status = ended;
done:
    return status;
}

/* Whether the work was done by its recording, which is made first where it is not there yet. */
static bool replayed(mst_recordings *r, entry *e, mst_work_fn *work, void *context) {
    if (!e || e->basis != basis_of(r)) return false;
    mst_status status = e->recording ? MST_OK : record(r, e, work, context);
    if (status == MST_OK) status = r->face->play(mst_queue_device(r->queue), e->recording);
    if (status == MST_OK) return true;
    explain(r);
    mst_recordings_forget(r);
    return false;
}

mst_status mst_recordings_run(mst_recordings *r, const void *key, mst_work_fn *work, void *context) {
    mst_status status = MST_OK;
    if (!r->face || r->failure[0]) return work(context);
    entry *e = find(r, key);
    if (replayed(r, e, work, context)) goto done;
    MST_TRY(work(context));
    if (!r->failure[0]) note(r, e, key);
done:
    return status;
}
