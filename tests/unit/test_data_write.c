/* The token file as HDF5 sees it, and what happens when the disk gets in the way. */
#include <errno.h>
#include <hdf5.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "data_fixture.h"
#include "index.h"

static void put_corpus(const char *path, int documents) {
    FILE *file = fopen(path, "w");
    for (int i = 0; i < documents; i++)
        fprintf(file, "{\"text\": \"document %d with some text in it\"}\n", i);
    fclose(file);
}

static void read_index(const char *path, token_index *index) {
    int fd = open(path, O_RDONLY);
    CHECK_OK(index_read(fd, path, index));
    close(fd);
}

/* A dataset read by HDF5 and by pread at the place that the index gives must be the same bytes. */
static void check_dataset(hid_t file, int fd, const char *name, hid_t type, size_t element,
                          const array_index *array) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT), space = H5Dget_space(dataset),
          creation = H5Dget_create_plist(dataset);
    hid_t stored = H5Dget_type(dataset);
    size_t bytes = (size_t)array->count * element;
    uint8_t *by_hdf5 = calloc(bytes + 1, 1), *by_pread = calloc(bytes + 1, 1);
    CHECK(dataset >= 0 && (uint64_t)H5Sget_simple_extent_npoints(space) == array->count,
          "%s: number of elements", name);
    CHECK(H5Tequal(stored, type) > 0, "%s: type", name);
    CHECK(H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_nfilters(creation) == 0, "%s: layout", name);
    if (array->count > 0) {
        CHECK(H5Dget_offset(dataset) == array->offset, "%s: H5Dget_offset counts from the start of the file",
              name);
        CHECK(array->offset % 4096 == 0, "%s: aligned", name);
        CHECK(H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, by_hdf5) >= 0, "%s: H5Dread", name);
        CHECK(pread(fd, by_pread, bytes, (off_t)array->offset) == (ssize_t)bytes, "%s: pread", name);
        CHECK(memcmp(by_hdf5, by_pread, bytes) == 0, "%s: HDF5 and pread differ", name);
    }
    free(by_hdf5), free(by_pread);
    H5Tclose(stored), H5Pclose(creation), H5Sclose(space), H5Dclose(dataset);
}

static void test_hdf5(double heldout) {
    mst_build_report report;
    token_index index;
    CHECK_OK(build((mst_build_options){.output = "out.h5", .heldout_fraction = heldout}, &report,
                   "corpus.jsonl", NULL));
    read_index("out.h5", &index);
    int fd = open("out.h5", O_RDONLY);
    hid_t file = H5Fopen("out.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    CHECK(file >= 0, "HDF5 opens the file");
    check_dataset(file, fd, "train/tokens", H5T_STD_U16LE, 2, &index.split[0].tokens);
    check_dataset(file, fd, "train/documents", H5T_STD_U64LE, 8, &index.split[0].documents);
    check_dataset(file, fd, "heldout/tokens", H5T_STD_U16LE, 2, &index.split[1].tokens);
    check_dataset(file, fd, "heldout/documents", H5T_STD_U64LE, 8, &index.split[1].documents);
    CHECK((heldout > 0) == (index.split[1].tokens.count > 0), "held-out tokens");
    hsize_t user_block;
    hid_t creation = H5Fget_create_plist(file);
    CHECK(H5Pget_userblock(creation, &user_block) >= 0 && user_block == 65536, "user block");
    H5Pclose(creation);
    H5Fclose(file);
    close(fd);
}

/* More sources than 64 KiB of index can name. */
static void test_many_sources(void) {
    mst_build_report report;
    mst_digest digest;
    mkdir("many", 0777);
    for (int i = 0; i < 800; i++) {
        char name[64], text[32];
        snprintf(name, sizeof name, "many/a-file-with-a-longer-name-%04d\xFF.txt", i);
        snprintf(text, sizeof text, "text %d", i);
        put_text(name, text);
    }
    CHECK_OK(build((mst_build_options){.output = "many.h5"}, &report, "many", NULL));
    CHECK(report.files == 800, "%llu files", (unsigned long long)report.files);
    CHECK_OK(mst_data_verify("many.h5", &digest));
    hid_t file = H5Fopen("many.h5", H5F_ACC_RDONLY, H5P_DEFAULT), creation = H5Fget_create_plist(file);
    hsize_t user_block;
    CHECK(H5Pget_userblock(creation, &user_block) >= 0 && user_block > 65536, "a larger user block");
    H5Pclose(creation);
    H5Fclose(file);
}

static void test_output_mode(void) {
    mst_build_report report;
    struct stat info;
    mode_t former = umask(027);
    CHECK_OK(build((mst_build_options){.output = "mode.h5"}, &report, "corpus.jsonl", NULL));
    umask(former);
    CHECK(stat("mode.h5", &info) == 0 && (info.st_mode & 0777) == 0640, "the output obeys the umask");
}

/*
 * No room after `limit` bytes of any file (RLIMIT_FSIZE: write fails with EFBIG): for every limit
 * up to success the build fails cleanly. In a child, since the limit stays; HDF5's own metadata
 * is cut off at the small limits.
 */
static void test_limits(void) {
    put_text("keep/out.h5", "the former output");
    int failed = 0, succeeded = 0;
    for (rlim_t limit = 0; limit < 4 << 20; limit = limit < 200000 ? limit + 17001 : limit * 3 / 2) {
        pid_t child = fork();
        if (child == 0) {
            mst_build_report report;
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){limit, limit});
            mst_status status =
                build((mst_build_options){.output = "keep/out.h5"}, &report, "corpus.jsonl", NULL);
            bool told = (status == MST_EIO || status == MST_EHDF5) && message_has("keep/", NULL);
            _exit(status == MST_OK ? 0 : told ? 1 : 2);
        }
        int state;
        waitpid(child, &state, 0);
        CHECK(WIFEXITED(state) && WEXITSTATUS(state) < 2, "limit %llu: state %x", (unsigned long long)limit,
              state);
        CHECK(count_files("keep") == 1, "limit %llu: a temporary file was left", (unsigned long long)limit);
        if (WIFEXITED(state) && WEXITSTATUS(state) == 0) {
            succeeded++;
            break;
        }
        failed++;
        size_t count;
        uint8_t *bytes = get_bytes("keep/out.h5", &count);
        CHECK(count == 17 && memcmp(bytes, "the former output", count) == 0, "the former output was touched");
        free(bytes);
    }
    CHECK(failed > 3 && succeeded == 1, "%d limits failed, %d succeeded", failed, succeeded);
}

/* A disk of one MiB, in a mount namespace of a child's own. */
static void test_full_disk(void) {
    pid_t child = fork();
    if (child == 0) {
        mst_build_report report;
        mkdir("small", 0777);
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", "small", "tmpfs", 0, "size=1m") != 0)
            _exit(77);
        mst_status status =
            build((mst_build_options){.output = "small/out.h5"}, &report, "corpus.jsonl", NULL);
        bool told = status == MST_EIO && message_has("No space left on device", "MiB free", NULL);
        printf("full disk: %s\n", mst_error_message());
        fflush(stdout);
        _exit(told && count_files("small") == 0 ? 0 : 1);
    }
    int state;
    waitpid(child, &state, 0);
    if (WIFEXITED(state) && WEXITSTATUS(state) == 77)
        printf("note: the full disk is not tested, mounting needs root\n");
    else
        CHECK(WIFEXITED(state) && WEXITSTATUS(state) == 0, "state %x", state);
}

int main(void) {
    scratch_enter();
    mkdir("keep", 0777);
    put_corpus("corpus.jsonl", 20000);
    test_hdf5(0.1);
    test_hdf5(0);
    test_many_sources();
    test_output_mode();
    test_limits();
    test_full_disk();
    scratch_leave();
    return test_finish("data write");
}
