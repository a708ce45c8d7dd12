#include "emulation_device.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

int mst_emulation_devices(void) {
    const char *count = getenv("MST_EMULATED_GPUS");
    return count ? (int)strtol(count, NULL, 10) : 1;
}

static _Thread_local int used;

void mst_emulation_use(int device) {
    used = device;
    mst_emulation_context(); /* since CUDA 12 */
}

void mst_emulation_context(void) {
    static atomic_ulong made; /* a bit for each device */
    const unsigned long bit = 1ul << used;
    const char *path = getenv("MST_EMULATED_CONTEXTS");
    if ((atomic_fetch_or(&made, bit) & bit) || !path) return;
    FILE *file = fopen(path, "ae");
    if (!file) abort();
    fprintf(file, "%d\n", used);
    fclose(file);
}

int mst_emulation_fault(void) {
    static atomic_long looks;
    const char *text = getenv("MST_EMULATED_FAULT");
    char *end;
    if (!text) return 0;
    const long error = strtol(text, &end, 10), first = strtol(end + 1, NULL, 10);
    return ++looks < first ? 0 : (int)error;
}
