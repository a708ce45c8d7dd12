/* A document that is gathered piece by piece. */
#ifndef MUSTER_DATA_TEXT_H
#define MUSTER_DATA_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "muster/status.h"

typedef struct document_text {
    uint8_t *bytes; /* owned: free it */
    size_t count, room;
} document_text;

/** Appends a piece. @param path of its file, for the message @retval MST_ENOMEM */
mst_status text_append(document_text *text, const uint8_t *bytes, size_t count, const char *path);

#endif
