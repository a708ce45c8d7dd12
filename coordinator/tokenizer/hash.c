#include "hash.h"

#include <sys/random.h>
#include <time.h>

uint64_t hash_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)time(NULL) * 0x9E3779B97F4A7C15u;
    return seed;
}
