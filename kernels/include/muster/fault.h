/* A device that is broken: not a program that went wrong on it, and not memory that is short. */
#ifndef MUSTER_FAULT_H
#define MUSTER_FAULT_H

#ifdef __cplusplus
extern "C" {
#endif

/** What this process's device said when it broke (its memory lost bits, a link failed, it is gone), naming it: nothing more can be
 * computed on it. NULL: nothing so far. It stays for the life of the process; a CPU never says so. Not collective; any thread. */
const char *mst_device_fault(void);

/** A device's bodies have met such an error: the first text stays, shortened to some 200 characters. Not collective; any thread. */
void mst_device_broke(const char *text);

#ifdef __cplusplus
}
#endif
#endif
