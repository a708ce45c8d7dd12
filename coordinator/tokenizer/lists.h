/* Growing the arrays of muster/tokenizer.h. Private to the room. */
#ifndef TOKENIZER_LISTS_H
#define TOKENIZER_LISTS_H

#include "muster/tokenizer.h"

/** Makes room for `more` elements behind those that are there. @retval MST_ENOMEM */
mst_status token_list_reserve(mst_token_list *list, size_t more);
mst_status byte_list_reserve(mst_byte_list *list, size_t more);

#endif
