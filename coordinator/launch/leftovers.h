/* What a killed mpirun leaves in /dev/shm. */
#ifndef LAUNCH_LEFTOVERS_H
#define LAUNCH_LEFTOVERS_H

#include <stddef.h>

typedef struct leftovers {
    char **names; /* [count] segments that were there before the first attempt; owned */
    size_t count;
} leftovers;

/** Notes which segments are there. Where memory is short, none is removed later. */
void leftovers_note(leftovers *l);

/** Removes segments of this user that were not there when it was noted and that no living process has mapped. */
void leftovers_remove(leftovers *l);

void leftovers_clear(leftovers *l);

#endif
