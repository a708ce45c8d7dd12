/*
 * How of several starters exactly one gets the lease, with nothing but the exclusive creation of a file, which NFS from
 * version 3 on and Lustre have too.
 *
 *  1. Look: the lease is the file lease-EPOCH.json of the highest epoch. Whoever holds it rewrites it in place every few
 *     seconds, through the descriptor that made it: should the file have been removed meanwhile, that touches no other.
 *  2. Judge: held by a process that runs: refused. Left behind, or none: go on.
 *  3. Write the lease of the next epoch under a name of its own and link it to its place, so that it is never there
 *     half-written; where the file system has no links, create it there exclusively. Of those who judged alike, one succeeds.
 *  4. Look again. Unless the folder is as it was judged, but for the new file, remove that and begin again: somebody else
 *     was here in between, or the one that was judged has renewed its lease.
 *  5. Remove the leases of lower epochs. From now on whoever held them is refused (lease_permit), and only now does the
 *     new holder look at the run.
 *
 * Two that judged differently (one of them was asleep since) create different files; since each looks after it has
 * created, at least one sees the other's and withdraws.
 */
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lease_file.h"
#include "stop.h"

lease_times lease_timing = {.renew = 10, .stale = 60, .look = 1};

struct lease {
    char folder[FOLDER_PATH_MAX];
    char path[LEASE_PATH_MAX];
    uint64_t epoch;
    lease_record record; /* after the start the thread's alone, but for the token */
    int file;            /* -1: not created */

    _Atomic double confirmed; /* when a look last found it held; this host's clock */
    pthread_t thread;
    bool started, stop; /* stop: under the mutex */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

/* Seconds that also pass while the host sleeps. */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void nap(double seconds) {
    const double whole = (double)(time_t)seconds;
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - whole))},
              NULL);
}

/* ---- 2: whose it is ---- */

typedef struct taking {
    lease *mine;
    lease_say_fn *say;
    void *say_context;
    lease_found found; /* what was judged */
    char note[1400];   /* why it is taken over */
} taking;

static mst_status refuse(const taking *t) {
    char who[1024];
    lease_describe(&t->found, who, sizeof who);
    return mst_error(
        MST_ECONFIG,
        "the run folder %s is in use by %s; stop that, wait until it has ended, or choose another "
        "--run folder",
        t->mine->folder, who);
}

static void note_takeover(taking *t, const char *why) {
    char who[1024];
    lease_describe(&t->found, who, sizeof who);
    snprintf(t->note, sizeof t->note, "note: taking over the run folder from %s: %.200s", who, why);
}

/* Looks whether the lease changes, for as long as it may last. *again_out: it changed, so that it is to be judged anew. */
static mst_status watch(taking *t, bool *again_out) {
    mst_status status = MST_OK;
    const double begin = now();
    char text[1300], why[100], who[1024];
    lease_describe(&t->found, who, sizeof who);
    snprintf(text, sizeof text,
             "note: the run folder is held by %s; looking for up to %.0f s whether that is still alive", who,
             lease_timing.stale);
    t->say(t->say_context, text);
    while (!*again_out && now() - begin < lease_timing.stale) {
        lease_found seen;
        nap(lease_timing.look);
        t->say(t->say_context, NULL);
        MST_CHECK(!stop_requested(), MST_ESTOPPED,
                  "stopped while waiting for the run folder; nothing was begun");
        MST_TRY(lease_read(t->mine->folder, t->found.epoch, &seen));
        *again_out = seen.epoch == 0;
        if (*again_out || strcmp(seen.text, t->found.text) == 0) continue;
        t->found = seen; /* it was renewed */
        MST_TRY(refuse(t));
    }
    snprintf(why, sizeof why, "it has not renewed its lease for %.0f s", lease_timing.stale);
    note_takeover(t, why);
done:
    return status;
}

/* Refuses if the lease that was found is held; waits where that must be seen first. */
static mst_status judge(taking *t, bool *again_out) {
    const lease_record *mine = &t->mine->record, *other = &t->found.record;
    *again_out = false;
    t->note[0] = '\0';
    if (t->found.epoch == 0) return MST_OK;
    if (!t->found.readable) return watch(t, again_out);
    if (mine->job[0] != '\0' && strcmp(mine->job, other->job) == 0 && mine->restarts > other->restarts) {
        note_takeover(t, "Slurm has put this job back into its queue since");
        return MST_OK;
    }
    if (mine->process.host != other->process.host) return watch(t, again_out);
    if (mst_process_runs(&other->process)) return refuse(t);
    note_takeover(t, "it has ended without giving it back");
    return MST_OK;
}

/* ---- 3 to 5 ---- */

/* Removes the file that this process made under a name. */
static void forget(lease *l, const char *path) {
    unlink(path);
    close(l->file);
    l->file = -1;
}

static mst_status write_record(lease *l, const char *path) {
    char text[LEASE_TEXT_MAX];
    utc_now(l->record.renewed);
    mst_status status = lease_print(&l->record, l->epoch, text);
    if (status != MST_OK) return status;
    const ssize_t bytes = (ssize_t)strlen(text);
    errno = ENOSPC; /* where only a part is written */
    if (pwrite(l->file, text, (size_t)bytes, 0) == bytes && fdatasync(l->file) == 0) return MST_OK;
    return mst_error(MST_EIO, "cannot write %s: %s%s", path, strerror(errno),
                     errno == ENOSPC || errno == EDQUOT ? "; make room or choose another run folder" : "");
}

/* Creates a file, exclusively, with the record in it; not there after a failure. errno says why it could not be created. */
static mst_status write_new(lease *l, const char *path) {
    l->file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (l->file < 0) return mst_error(MST_EIO, "cannot create %s: %s", path, strerror(errno));
    const mst_status status = write_record(l, path);
    if (status != MST_OK) forget(l, path);
    return status;
}

/* Puts the record at l->path. *again_out: another process's is there. */
static mst_status place(lease *l, bool *again_out) {
    char part[LEASE_PATH_MAX];
    struct stat facts;
    lease_part_path(l->folder, l->record.token, part);
    mst_status status = write_new(l, part);
    if (status != MST_OK && l->file < 0 &&
        access(l->folder, W_OK) != 0) /* without a name that is another one each time */
        return mst_error(
            MST_EIO,
            "the run folder %s cannot be written: %s; choose one that this user may write to (--run)",
            l->folder, strerror(errno));
    if (status != MST_OK) return status;
    int error = link(part, l->path) == 0 ? 0 : errno;
    /* On NFS the answer to a link that was made may be lost. */
    if (error != 0 && fstat(l->file, &facts) == 0 && facts.st_nlink == 2) error = 0;
    if (error == 0) {
        unlink(part);
        return MST_OK;
    }
    forget(l, part);
    if (error != EEXIST) { /* no links here */
        status = write_new(l, l->path);
        error = l->file < 0 && errno == EEXIST ? EEXIST : 0;
    }
    *again_out = error == EEXIST;
    return *again_out ? MST_OK : status;
}

/* Creates the lease of the next epoch. *again_out: another process was faster. */
static mst_status create(taking *t, bool *again_out) {
    mst_status status = MST_OK;
    lease *l = t->mine;
    lease_found seen;
    l->epoch = t->found.epoch + 1;
    lease_path(l->folder, l->epoch, l->path);
    utc_now(l->record.since);
    *again_out = false;
    MST_TRY(place(l, again_out));
    if (*again_out) goto done;
    MST_TRY(lease_find(l->folder, l->epoch, &seen));
    *again_out = seen.epoch != t->found.epoch || strcmp(seen.text, t->found.text) != 0;
    if (!*again_out) MST_TRY(lease_remove_below(l->folder, l->epoch));
done:
    if (l->file >= 0 && (status != MST_OK || *again_out)) forget(l, l->path);
    return status;
}

/* ---- renewing ---- */

static const double never = -1e30; /* as the time of a look: the next lease_held has to look */

/* Whether the file says that this process holds the lease. */
static mst_status look(const lease *l) {
    mst_status status = MST_OK;
    lease_found seen;
    char who[1024] = "its lease or the folder was removed";
    MST_TRY(lease_read(l->folder, l->epoch, &seen));
    if (seen.epoch != 0 && seen.readable && strcmp(seen.record.token, l->record.token) == 0) return MST_OK;
    if (lease_find(l->folder, 0, &seen) != MST_OK) seen.epoch = 0; /* the folder is gone, too */
    if (seen.epoch != 0) lease_describe(&seen, who, sizeof who);
    status = mst_error(MST_ELOST,
                       "this run no longer holds the run folder %s (%s%s), so that nothing more is written "
                       "there; perhaps it was stopped, or could not reach the folder, for too long",
                       l->folder, seen.epoch != 0 ? "taken over by " : "", who);
done:
    return status;
}

mst_status lease_permit(void *lease_) {
    lease *l = lease_;
    const double begin = now();
    mst_status status = look(l);
    atomic_store(&l->confirmed, status == MST_OK ? begin : never);
    return status;
}

mst_status lease_held(lease *l) {
    return now() - atomic_load(&l->confirmed) < 2 * lease_timing.renew ? MST_OK : lease_permit(l);
}

/* Waits for the next renewal; false: the end. */
static bool wait_to_renew(lease *l) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const double seconds = (double)until.tv_nsec * 1e-9 + lease_timing.renew;
    until.tv_sec += (time_t)seconds;
    until.tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds));
    pthread_mutex_lock(&l->mutex);
    while (!l->stop && pthread_cond_timedwait(&l->wake, &l->mutex, &until) == 0) continue;
    const bool stop = l->stop;
    pthread_mutex_unlock(&l->mutex);
    return !stop;
}

/* A renewal that fails is tried again in its turn; whether the lease is lost by then, the next lease_held looks. */
static void *renew(void *lease_) {
    lease *l = lease_;
    while (wait_to_renew(l)) {
        if (write_record(l, l->path) != MST_OK || lease_permit(l) != MST_OK)
            atomic_store(&l->confirmed, never);
    }
    return NULL;
}

static mst_status start_renewing(lease *l) {
    sigset_t all, before;
    atomic_store(&l->confirmed, now());
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&l->thread, NULL, renew, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    l->started = error == 0;
    return l->started ? MST_OK : mst_error(MST_EIO, "lease: no thread to renew it: %s", strerror(error));
}

/* ---- the whole ---- */

static mst_status make_record(lease_record *r, const char *host) {
    uint8_t bytes[(sizeof r->token - 1) / 2];
    const char *job = getenv("SLURM_JOB_ID"), *restarts = getenv("SLURM_RESTART_COUNT");
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return mst_error(MST_EIO, "the system gives no random bytes for the lease: %s", strerror(errno));
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(r->token + 2 * i, 3, "%02x", bytes[i]);
    r->process = mst_process_self();
    lease_word(host, r->host);
    lease_word(job != NULL ? job : "", r->job);
    r->restarts = restarts != NULL ? strtoull(restarts, NULL, 10) & INT32_MAX : 0;
    return MST_OK;
}

enum { TRIES = 20 };

static mst_status take(taking *t) {
    mst_status status = MST_OK;
    bool again = true;
    for (int tries = 0; again && tries < TRIES; tries++) {
        /* By the token, so that two that withdrew from each other do not meet again. */
        if (tries > 0) nap(lease_timing.look * (double)t->mine->record.token[tries] / 128);
        MST_TRY(lease_find(t->mine->folder, 0, &t->found));
        MST_TRY(judge(t, &again));
        if (!again) MST_TRY(create(t, &again));
    }
    MST_CHECK(!again, MST_ECONFIG, "several processes start in the run folder %s at once; try again",
              t->mine->folder);
    MST_TRY(start_renewing(t->mine));
    if (t->note[0] != '\0') t->say(t->say_context, t->note);
done:
    return status;
}

mst_status lease_take(const char *folder, const char *host, lease_say_fn *say, void *say_context,
                      lease **lease_out) {
    mst_status status = MST_OK;
    pthread_condattr_t monotonic;
    taking t = {.mine = calloc(1, sizeof *t.mine), .say = say, .say_context = say_context};
    *lease_out = NULL;
    if (t.mine == NULL) return mst_error(MST_ENOMEM, "lease: out of memory");
    t.mine->file = -1;
    pthread_mutex_init(&t.mine->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t.mine->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    snprintf(t.mine->folder, sizeof t.mine->folder, "%s", folder);
    MST_TRY(make_record(&t.mine->record, host));
    MST_TRY(take(&t));
    *lease_out = t.mine;
    t.mine = NULL;
done:
    lease_release(&t.mine);
    return status;
}

void lease_release(lease **lease_) {
    lease *l = *lease_;
    if (l == NULL) return;
    if (l->started) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    if (l->file >= 0) {
        close(l->file);
        if (look(l) == MST_OK) unlink(l->path);
    }
    pthread_cond_destroy(&l->wake);
    pthread_mutex_destroy(&l->mutex);
    free(l);
    *lease_ = NULL;
}
