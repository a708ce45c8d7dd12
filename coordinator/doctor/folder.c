/*
 * The run folder, seen from all ranks. Rank 0 makes a folder of its own in it (or, where it does not exist yet, in the
 * nearest one above), with a token; every rank looks for the token, and writes a file beside it. All is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "examination.h"
#include "muster/clock.h"
#include "muster/files.h"
#include "muster/units.h"

enum {
    PATH_ROOM = 4096 + 64,
    CHUNK = 4 << 20,      /* bytes that are written and forced to the disk at a time */
    WRITE_MOST = 64 << 20 /* of a rank */
};
static const double write_seconds = 1.0; /* at most, of a rank, begun with a chunk */
static const double seen_seconds =
    15; /* NFS keeps what it knows of a folder for up to a minute, but looks when asked */

typedef struct file_system {
    unsigned long magic;
    const char *name;
    const char *note; /* NULL: fit for runs */
} file_system;

static const file_system systems[] = {
    {0xEF53, "ext4", NULL},
    {0x58465342, "xfs", NULL},
    {0x9123683E, "btrfs", NULL},
    {0x2FC12FC1, "zfs", NULL},
    {0x6969, "nfs", NULL},
    {0x0BD00BD0, "lustre", NULL},
    {0x47504653, "gpfs", NULL},
    {0x19830326, "beegfs", NULL},
    {0xFE534D42, "smb", NULL},
    {0x00C36400, "ceph", NULL},
    {0x65735546, "fuse", NULL},
    {0x794C7630, "overlay", "it belongs to a container: checkpoints are gone with it"},
    {0x01021994, "tmpfs", "it is memory: checkpoints are gone when the machine starts again"},
};

typedef struct trial {
    char base[4096];      /* an existing folder: the run's, or one above it */
    char path[PATH_ROOM]; /* of the trial, inside; "": none */
    uint64_t token;
} trial;

/* What one rank found. Travels as bytes. */
typedef struct found {
    int sees;              /* the token */
    int error;             /* errno of writing; 0: none */
    double bytes, seconds; /* written and on the disk */
} found;

static void nap(double seconds) {
    const struct timespec pause = {.tv_nsec = (long)(seconds * 1e9)};
    nanosleep(&pause, NULL);
}

/* ---- rank 0 ---- */

/* The folder itself, or the nearest above it that exists. */
static void nearest_folder(const char *wanted, char *base_out) {
    struct stat known;
    snprintf(base_out, 4096, "%s", wanted);
    while (stat(base_out, &known) != 0 && base_out[0] != '\0') {
        char *slash = strrchr(base_out, '/');
        if (slash == NULL || slash == base_out) {
            snprintf(base_out, 4096, slash == NULL ? "." : "/");
            return;
        }
        *slash = '\0';
    }
}

static mst_status make_trial(examination *e, trial *t) {
    mst_status status = MST_OK;
    char file[PATH_ROOM + 16];
    uint64_t name;
    nearest_folder(e->run, t->base);
    MST_CHECK(getrandom(&name, sizeof name, 0) == sizeof name &&
                  getrandom(&t->token, sizeof t->token, 0) == sizeof t->token,
              MST_EIO, "the system gives no random bytes: %s", strerror(errno));
    snprintf(t->path, sizeof t->path, "%s/.muster-doctor-%016llx", t->base, (unsigned long long)name);
    if (mkdir(t->path, 0777) != 0) {
        const int error = errno;
        t->path[0] = '\0';
        MST_CHECK(false, MST_EIO, "nothing can be written in %s: %s", t->base, strerror(error));
    }
    snprintf(file, sizeof file, "%s/token", t->path);
    MST_TRY(mst_file_replace(file, &t->token, sizeof t->token));
done:
    return status;
}

static void remove_trial(const examination *e, const trial *t) {
    char file[PATH_ROOM + 32];
    if (t->path[0] == '\0') return;
    for (int r = -1; r < mst_comm_size(e->comm); r++) {
        if (r < 0)
            snprintf(file, sizeof file, "%s/token", t->path);
        else
            snprintf(file, sizeof file, "%s/rank-%d", t->path, r);
        unlink(file);
    }
    rmdir(t->path);
}

/* ---- every rank ---- */

/* Whether this rank finds the token. Another host's cache may need a moment. */
static bool sees_token(const examination *e, const trial *t) {
    char file[PATH_ROOM + 16];
    const double end = mst_clock_now() + seen_seconds;
    snprintf(file, sizeof file, "%s/token", t->path);
    do {
        uint64_t token = 0;
        const int fd = open(file, O_RDONLY | O_CLOEXEC);
        const bool read_all = fd >= 0 && pread(fd, &token, sizeof token, 0) == sizeof token;
        if (fd >= 0) close(fd);
        if (read_all && token == t->token) return true;
        mst_watchdog_progress(e->watchdog, "token", 0);
        nap(0.05);
    } while (mst_clock_now() < end);
    return false;
}

/* Writes as a checkpoint is written: some MiB, then fsync, until enough is known. */
static void write_file(const examination *e, const trial *t, found *f) {
    char file[PATH_ROOM + 32];
    char *chunk = calloc(1, CHUNK);
    snprintf(file, sizeof file, "%s/rank-%d", t->path, mst_comm_rank(e->comm));
    const int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const double begin = mst_clock_now();
    if (fd < 0 || chunk == NULL) f->error = fd < 0 ? errno : ENOMEM;
    while (f->error == 0 && f->bytes < WRITE_MOST && f->seconds < write_seconds) {
        memset(chunk, (int)f->bytes % 251 + 1, CHUNK);
        const ssize_t written = pwrite(fd, chunk, CHUNK, (off_t)f->bytes);
        if (written != CHUNK)
            f->error = written < 0 ? errno : ENOSPC; /* a disk that becomes full takes a part */
        else if (fsync(fd) != 0)
            f->error = errno;
        else
            f->bytes += CHUNK;
        f->seconds = mst_clock_now() - begin;
        mst_watchdog_progress(e->watchdog, "write", 0);
    }
    if (fd >= 0) close(fd);
    free(chunk);
}

/* ---- rank 0 says what it means ---- */

/* What a run folder holds of the model that adapters adapt. */
static double base_bytes(const mst_config *config) {
    mst_layout layout = {0};
    if (config->lora.rank == 0 || mst_model_layout(&config->model, &layout) != MST_OK) return 0;
    const double bytes = (double)layout.parameters * sizeof(float);
    mst_layout_clear(&layout);
    return bytes;
}

static void judge_system(examination *e, const trial *t) {
    struct statfs here;
    char a[MST_QUANTITY_TEXT], b[MST_QUANTITY_TEXT];
    const file_system *known = NULL;
    if (statfs(t->base, &here) != 0) {
        doctor_say(e, VERDICT_FAIL, "run folder", "%s: %s", t->base, strerror(errno));
        return;
    }
    for (size_t i = 0; i < sizeof systems / sizeof *systems; i++)
        if (systems[i].magic == ((unsigned long)here.f_type & 0xffffffffUL)) known = &systems[i];
    char name[32];
    snprintf(name, sizeof name, "type %lx", (unsigned long)here.f_type);
    const double room = (double)here.f_bavail * (double)here.f_bsize;
    doctor_say(e, known != NULL && known->note != NULL ? VERDICT_WARN : VERDICT_OK, "run folder",
               "%s (%s)%s%s", e->run, known != NULL ? known->name : name,
               known != NULL && known->note != NULL ? ": " : "",
               known != NULL && known->note != NULL ? known->note : "");
    if (!e->has_config) {
        doctor_say(e, VERDICT_OK, "disk", "%s free", mst_quantity_text(MST_QUANTITY_BYTES, room, a));
        return;
    }
    mst_layout layout = {0};
    if (mst_config_layout(&e->config, &layout) != MST_OK) return;
    const double one = 3.0 * (double)layout.parameters * sizeof(float), base = base_bytes(&e->config);
    const uint64_t steps = e->config.run.steps, every = e->config.checkpoint.every;
    const double kept = e->config.checkpoint.keep > 0 ? (double)e->config.checkpoint.keep
                        : every > 0 && steps > 0      ? ceil((double)steps / (double)every)
                                                      : 1;
    mst_layout_clear(&layout);
    mst_quantity_text(MST_QUANTITY_BYTES, one, a);
    mst_quantity_text(MST_QUANTITY_BYTES, room, b);
    if (room < 2 * one + base) /* the one before goes only when the new one stands */
        doctor_say(e, VERDICT_FAIL, "disk", "%s free, a checkpoint takes %s, and two have to fit", b, a);
    else if (room < (kept + 1) * one + base)
        doctor_say(e, VERDICT_WARN, "disk",
                   "%s free, a checkpoint takes %s; not all %.0f that are kept will fit: set "
                   "checkpoint.keep",
                   b, a, kept);
    else
        doctor_say(e, VERDICT_OK, "disk", "%s free, a checkpoint takes %s, %.0f are kept", b, a, kept);
}

/* What muster's lease and its commits need; flock is what HDF5 takes on files that it opens. */
static void judge_operations(examination *e, const trial *t) {
    char one[PATH_ROOM + 16], two[PATH_ROOM + 16];
    snprintf(one, sizeof one, "%s/one", t->path);
    snprintf(two, sizeof two, "%s/two", t->path);
    const int fd = open(one, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const int again = open(one, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const bool exclusive = fd >= 0 && again < 0, links = link(one, two) == 0,
               locks = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (links) unlink(two);
    const bool renames = rename(one, two) == 0 && access(one, F_OK) != 0 && access(two, F_OK) == 0;
    const bool synced = mst_folder_sync(t->path) == MST_OK;
    if (fd >= 0) close(fd);
    if (again >= 0) close(again);
    unlink(one);
    unlink(two);
    if (!exclusive || !renames || !synced)
        doctor_say(e, VERDICT_FAIL, "files",
                   "%s%s%shere: runs cannot be kept safely; use another file system for --run",
                   exclusive ? "" : "exclusive creation does not work ",
                   renames ? "" : "renaming does not work ",
                   synced ? "" : "a folder cannot be forced to the disk ");
    else if (!locks)
        doctor_say(e, VERDICT_WARN, "files",
                   "creating, renaming and fsync work; locks (flock) do not, which HDF5 takes: export "
                   "HDF5_USE_FILE_LOCKING=FALSE");
    else
        doctor_say(e, VERDICT_OK, "files", "exclusive creation, %srenaming, fsync and locks work",
                   links ? "links, " : "");
}

static void judge_seen(examination *e, const found *all) {
    char name[FACT_TEXT];
    int blind = 0, which = 0;
    for (int r = mst_comm_size(e->comm) - 1; r >= 0; r--)
        if (!all[r].sees) {
            blind++;
            which = r;
        }
    if (blind > 0)
        doctor_say(e, VERDICT_FAIL, "same folder",
                   "%s does not see what rank 0 wrote there%s: the run folder has to be on a file "
                   "system that all nodes share",
                   doctor_rank(e, which, name), blind > 1 ? ", nor do others" : "");
    else if (mst_comm_size(e->comm) > 1)
        doctor_say(e, VERDICT_OK, "same folder", "all ranks see it");
}

static void judge_speed(examination *e, const found *all) {
    char name[FACT_TEXT], a[MST_QUANTITY_TEXT], b[MST_QUANTITY_TEXT];
    double bytes = 0, seconds = 0;
    for (int r = 0; r < mst_comm_size(e->comm); r++) {
        if (all[r].error != 0) {
            doctor_say(e, VERDICT_FAIL, "fsync", "%s cannot write there: %s", doctor_rank(e, r, name),
                       strerror(all[r].error));
            return;
        }
        bytes += all[r].bytes;
        seconds = fmax(seconds, all[r].seconds);
    }
    const double rate = bytes / seconds;
    mst_quantity_text(MST_QUANTITY_RATE, rate, a);
    if (!e->has_config) {
        doctor_say(e, VERDICT_OK, "fsync", "%s, all ranks together", a);
        return;
    }
    mst_layout layout = {0};
    if (mst_config_layout(&e->config, &layout) != MST_OK) return;
    const double save = 3.0 * (double)layout.parameters * sizeof(float) / rate;
    mst_layout_clear(&layout);
    doctor_say(e, save > 600 ? VERDICT_WARN : VERDICT_OK, "fsync",
               "%s, all ranks together: a checkpoint takes about %s%s", a,
               mst_quantity_text(MST_QUANTITY_SECONDS, save, b),
               save > 600 ? "; save seldom, or on a faster file system" : "");
}

mst_status doctor_folder(examination *e) {
    mst_status status = MST_OK;
    trial t = {0};
    found mine = {0}, *all = NULL;
    int made = 0;
    if (e->run[0] == '\0') goto done;
    if (e->file != NULL) {
        made = make_trial(e, &t) == MST_OK;
        if (!made) doctor_say(e, VERDICT_FAIL, "run folder", "%s", mst_error_message());
    }
    mst_watchdog_waiting(e->watchdog, "run folder", 0);
    MST_TRY(mst_comm_broadcast(e->comm, 0, &made, sizeof made));
    if (!made) goto done;
    MST_TRY(mst_comm_broadcast(e->comm, 0, &t, sizeof t));
    mine.sees = sees_token(e, &t);
    mst_watchdog_waiting(e->watchdog, "run folder", 0);
    MST_TRY(mst_comm_barrier(e->comm)); /* all write at once, as they save */
    if (mine.sees) write_file(e, &t, &mine);
    mst_watchdog_waiting(e->watchdog, "run folder", 0);
    MST_TRY(mst_comm_allgather_equal(e->comm, &mine, sizeof mine, (void **)&all));
    if (e->file != NULL) {
        judge_system(e, &t);
        judge_operations(e, &t);
        judge_seen(e, all);
        judge_speed(e, all);
    }
done:
    if (e->file != NULL) remove_trial(e, &t);
    free(all);
    return status;
}
