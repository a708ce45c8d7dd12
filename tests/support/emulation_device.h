/* The machine that the emulation plays, as far as tests choose it:
 *   MST_EMULATED_GPUS=N     so many devices (1)
 *   MST_EMULATED_BYTES=N    so much memory on each (no limit)
 *   MST_EMULATED_MOST=FILE  a process that ends adds a line: the most bytes that it has had on its device
 *   MST_EMULATED_CONTEXTS=FILE  a process adds a line for each device that it makes a context on: its number
 *   MST_EMULATED_FAULT=E:N[:D][,E:N:D...]  the Nth look for errors of kernels finds error E (on device D alone, where it is named); and
 *                           from then on so does every call that can fail, as after an error that CUDA cannot get over */
#ifndef MUSTER_TESTS_EMULATION_DEVICE_H
#define MUSTER_TESTS_EMULATION_DEVICE_H

#ifdef __cplusplus
extern "C" {
#endif

int mst_emulation_devices(void);
/* This thread's calls are for that device from now on; at first they are for device 0. */
void mst_emulation_use(int device);
/* A call that needs the device's context: it makes one where the process has none there. */
void mst_emulation_context(void);
/* What a look for errors of kernels finds: 0, or the error. */
int mst_emulation_fault(void);
/* The error that a look has found before, which all calls return now; 0: none. */
int mst_emulation_broken(void);

#ifdef __cplusplus
}
#endif
#endif
