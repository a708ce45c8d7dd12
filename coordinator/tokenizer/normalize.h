/* Normalization form C. Private to the room. */
#ifndef TOKENIZER_NORMALIZE_H
#define TOKENIZER_NORMALIZE_H

#include "muster/tokenizer.h"

/**
 * Appends a text in NFC. Bytes that are not UTF-8 stay, and what is between them is normalized as if it stood alone.
 *
 * Not collective. @retval MST_ENOMEM
 */
mst_status normalize_nfc(const uint8_t *text, size_t count, mst_byte_list *out);

/** Whether a text is in NFC for sure: of characters only that never change and never join what is before. */
bool normalize_is_plain(const uint8_t *text, size_t count);

#endif
