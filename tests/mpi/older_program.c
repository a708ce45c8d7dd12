/* What an older muster says of itself. */
#include "cli.h"

const char cli_program[] = "muster 0.0.9 of the sources 0123456789ab";
