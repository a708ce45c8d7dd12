#include "emulation_device.h"

#include <stdatomic.h>
#include <stdlib.h>

int mst_emulation_devices(void) {
    const char *count = getenv("MST_EMULATED_GPUS");
    return count ? (int)strtol(count, NULL, 10) : 1;
}

int mst_emulation_fault(void) {
    static atomic_long looks;
    const char *text = getenv("MST_EMULATED_FAULT");
    char *end;
    if (!text) return 0;
    const long error = strtol(text, &end, 10), first = strtol(end + 1, NULL, 10);
    return ++looks < first ? 0 : (int)error;
}
