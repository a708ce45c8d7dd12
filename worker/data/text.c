#include "text.h"

#include <stdlib.h>
#include <string.h>

mst_status text_append(document_text *text, const uint8_t *bytes, size_t count, const char *path) {
    if (count == 0) return MST_OK;
    if (count > text->room - text->count) {
        size_t room = 2 * (text->count + count);
        uint8_t *grown = realloc(text->bytes, room);
        if (grown == NULL)
            return mst_error(MST_ENOMEM, "'%s': out of memory for a document of %zu bytes; split it", path,
                             text->count + count);
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->count, bytes, count);
    text->count += count;
    return MST_OK;
}
