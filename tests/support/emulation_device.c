#include "emulation_device.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static atomic_int broken; /* the error */

int mst_emulation_broken(void) {
    return broken;
}

/* The error that this look is to find by the text. */
static int fault_of(const char *text, long look) {
    while (text) {
        int error = 0, device = used;
        long first = 0;
        if (sscanf(text, "%d:%ld:%d", &error, &first, &device) < 2) abort();
        if (device == used && look >= first) return error;
        text = strchr(text, ',');
        if (text) text++;
    }
    return 0;
}

int mst_emulation_fault(void) {
    static atomic_long looks;
    const int error = fault_of(getenv("MST_EMULATED_FAULT"), ++looks);
    if (error != 0) broken = error;
    return broken;
}
