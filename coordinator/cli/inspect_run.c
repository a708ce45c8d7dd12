#include "inspect_run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "muster/checkpoint.h"
#include "muster/run.h"

static void put_number(double value) {
    if (isfinite(value))
        printf("  %12.4f", value);
    else
        printf("  %12s", "-");
}

static void put_entry(const mst_checkpoint_entry *entry, bool newest) {
    printf("%-14s %12" PRIu64, newest ? "checkpoints" : "", entry->step);
    put_number(entry->loss);
    put_number(entry->bits_per_byte);
    printf("%s%s%s\n", newest ? "  newest" : "", entry->best ? "  best" : "",
           entry->readable ? "" : "  its manifest is missing or damaged");
}

mst_status inspect_run(const char *path) {
    mst_status status = MST_OK;
    mst_checkpoint_entry *entries = NULL;
    size_t count = 0;
    char folder[4096], holder[1024];
    struct stat facts;
    const mst_checkpoint_wishes best = {.best = 1};
    int length = snprintf(folder, sizeof folder, "%s/checkpoints", path);
    const bool is_run = length > 0 && length < (int)sizeof folder && stat(folder, &facts) == 0;
    if (is_run) {
        MST_TRY(mst_run_holder(path, holder, sizeof holder));
        printf("\n%-14s %s\n", "training here", holder[0] != '\0' ? holder : "nobody");
    }
    MST_TRY(mst_checkpoint_list(is_run ? folder : path, &entries, &count));
    mst_checkpoint_choose(entries, count, &best);
    printf("%s%-14s %12s  %12s  %12s\n", is_run ? "" : "\n", "", "step", "held-out loss", "bits per byte");
    for (size_t i = 0; i < count; i++) put_entry(&entries[i], i == 0);
done:
    free(entries);
    return status;
}
