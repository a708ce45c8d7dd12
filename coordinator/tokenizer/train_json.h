/* A trained vocabulary as a tokenizer.json. */
#ifndef TOKENIZER_TRAIN_JSON_H
#define TOKENIZER_TRAIN_JSON_H

#include "train_merge.h"
#include "train_scheme.h"

/** The bytes in the order of their ids: that of the characters which stand for them in the file, as Hugging Face's trainer
 * has it. */
void train_byte_order(uint8_t order_out[256]);

/** Whether a piece is spelled like one of the names; a merge_refusal (context: the training). */
bool train_is_special(void *context, const uint8_t *bytes, size_t count);

/** @retval MST_ECONFIG an empty special token, one that is no UTF-8, that is there already or that is the name of a byte */
mst_status train_check_special(const mst_tokenizer_training *training);

/** @param json_out freed by the caller with free @retval MST_ENOMEM */
mst_status train_json(const mst_tokenizer_training *training, const train_scheme *scheme,
                      const merge_vocab *vocab, char **json_out);

#endif
