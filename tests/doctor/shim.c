/* Loaded before muster on one rank: another HDF5, or a machine that hangs, as $DOCTOR_SHIM says. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release);

int H5get_libversion(unsigned *major, unsigned *minor, unsigned *release) {
    const char *wish = getenv("DOCTOR_SHIM");
    while (wish != NULL && strcmp(wish, "hang") == 0) pause();
    *major = 9;
    *minor = 8;
    *release = 7;
    return 0;
}
