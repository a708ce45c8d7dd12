/* The standard error of an attempt: passed on as it comes, its last lines kept. */
#ifndef LAUNCH_RELAY_H
#define LAUNCH_RELAY_H

#include "muster/status.h"
#include "tail.h"

typedef struct relay {
    int from, to; /* launch reads from, the ranks write to */
    bool terminal;
    tail *tail; /* not owned */
} relay;

/** @param terminal the ranks are to see a terminal, like the one that this process writes to. @retval MST_EIO */
mst_status relay_open(bool terminal, tail *lines, relay *relay_out);
/** Passes on what is there, without waiting. False at the end. */
bool relay_pass(relay *s);
/** The terminal has a new size. */
void relay_resize(const relay *s);
/** The ranks have it; launch keeps only its own end. */
void relay_handed(relay *s);
void relay_close(relay *s);

#endif
