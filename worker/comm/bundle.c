/* A program that was unpacked somewhere with an MPI beside it: `cmake --build ... --target bundle` makes such a folder. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "muster/comm.h"

/* Where the parts of Open MPI and of its PMIx lie under the folder above this program's; bin/mpirun sets the same. */
static const struct {
    const char *variable, *folder;
} parts[] = {{"OPAL_PREFIX", "lib/muster-mpi"},
             {"OPAL_PKGLIBDIR", "lib/muster-mpi/plugins"},
             {"OPAL_PKGDATADIR", "lib/muster-mpi/texts"},
             {"OPAL_SYSCONFDIR", "lib/muster-mpi/etc"},
             {"PMIX_PKGLIBDIR", "lib/muster-mpi/pmix-plugins"},
             {"PMIX_PKGDATADIR", "lib/muster-mpi/pmix-texts"}};

enum { PARTS = sizeof parts / sizeof *parts, PATH_ROOM = PATH_MAX + 32 };

/* The folder above this program's. */
static bool find_root(char root[PATH_MAX]) {
    const ssize_t length = readlink("/proc/self/exe", root, PATH_MAX - 1);
    if (length <= 0) return false;
    root[length] = '\0';
    for (int level = 0; level < 2; level++) {
        char *slash = strrchr(root, '/');
        if (slash == NULL) return false;
        *slash = '\0';
    }
    return true;
}

/* mpirun is found as other programs find it: first in the bundle's bin. */
static bool put_first(const char *root) {
    const char *others = getenv("PATH");
    char *path = NULL;
    if (asprintf(&path, "%s/bin%s%s", root, others != NULL ? ":" : "", others != NULL ? others : "") < 0)
        return false;
    const bool done = setenv("PATH", path, 1) == 0;
    free(path);
    return done;
}

mst_status mst_comm_enter_bundle(void) {
    mst_status status = MST_OK;
    char root[PATH_MAX], path[PATH_ROOM];
    if (!find_root(root)) goto done;
    snprintf(path, sizeof path, "%s/%s", root, parts[0].folder);
    if (access(path, F_OK) != 0) goto done;
    for (size_t i = 0; i < PARTS; i++) {
        snprintf(path, sizeof path, "%s/%s", root, parts[i].folder);
        MST_CHECK(setenv(parts[i].variable, path, 1) == 0, MST_ENOMEM, "bundle: out of memory");
    }
    MST_CHECK(put_first(root), MST_ENOMEM, "bundle: out of memory");
done:
    return status;
}
