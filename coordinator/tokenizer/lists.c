#include "lists.h"

#include <stdlib.h>

/* Doubles the room until it is enough. */
static mst_status reserve(void **at, size_t count, size_t *room, size_t more, size_t size) {
    size_t wanted = *room > 0 ? *room : 64;
    if (more <= *room - count) return MST_OK;
    while (wanted - count < more && wanted <= SIZE_MAX / 2 / size) wanted *= 2;
    void *grown = wanted - count < more ? NULL : realloc(*at, wanted * size);
    if (grown == NULL) return mst_error(MST_ENOMEM, "tokens: no memory for %zu more", more);
    *at = grown;
    *room = wanted;
    return MST_OK;
}

mst_status token_list_reserve(mst_token_list *list, size_t more) {
    void *at = list->at;
    mst_status status = reserve(&at, list->count, &list->room, more, sizeof *list->at);
    list->at = at;
    return status;
}

mst_status byte_list_reserve(mst_byte_list *list, size_t more) {
    void *at = list->at;
    mst_status status = reserve(&at, list->count, &list->room, more, 1);
    list->at = at;
    return status;
}
