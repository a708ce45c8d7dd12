#include "muster/fault.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool broken;
static char said[256];

const char *mst_device_fault(void) {
    pthread_mutex_lock(&lock);
    const char *fault = broken ? said : NULL; /* once it is there, it never changes */
    pthread_mutex_unlock(&lock);
    return fault;
}

void mst_device_broke(const char *text) {
    pthread_mutex_lock(&lock);
    if (!broken) snprintf(said, sizeof said, "%s", text);
    broken = true;
    pthread_mutex_unlock(&lock);
}
