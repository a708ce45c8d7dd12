/* config.json to and from muster's description of a model. */
#ifndef CONVERT_HF_CONFIG_H
#define CONVERT_HF_CONFIG_H

#include "families.h"
#include "json.h"
#include "numbers.h"

typedef struct hf_config {
    const hf_family *family;
    mst_model_config model;
    bool tie_given; /* otherwise the weights say whether there is a head of its own */
} hf_config;

/**
 * Reads a model's description.
 *
 * Not collective.
 * @param name begins messages @param notes fields that are passed over; or NULL
 * @retval MST_EUNSUPPORTED a family or a field that changes what the model computes; its name is in the message
 * @retval MST_EFORMAT a field is missing, of the wrong type, or does not fit the others
 */
mst_status hf_config_read(const json_t *root, const char *name, const mst_hf_notes *notes,
                          hf_config *config_out);

/** A description of a model that has no origin. @param end number of the token that ends a text; -1: none
 * @retval MST_ENOMEM */
mst_status hf_config_make(const mst_model_config *model, mst_hf_dtype dtype, int32_t end, json_t **root_out);

/** Where positions are not scaled: what a config says that does not speak of it. */
void hf_config_fill_scaling(mst_model_config *model);

enum { HF_KEYS_MAX = 256 };

/** Names the keys, "n_heads, head_dim", in which two models differ that compute something else from the same weights; "": none. */
void hf_config_differences(const mst_model_config *one, const mst_model_config *other,
                           char keys_out[HF_KEYS_MAX]);

/** Whether two models compute the same from the same weights. */
bool hf_config_same(const mst_model_config *one, const mst_model_config *other);

/** JSON text in which every number is the same when it is read again, as short as that allows; freed by the caller. */
mst_status hf_json_print(const json_t *root, char **text_out);

/** Says a line, where somebody wants to know. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void hf_note(const mst_hf_notes *notes, const char *format, ...);

#endif
