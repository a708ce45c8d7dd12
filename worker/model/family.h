/*
 * A family of models as data: which norm, positions and MLP it has, and the list of its tensors.
 * The decoder reads these tables and never asks which family it runs; a new family that needs nothing
 * new of the decoder is a new table.
 */
#ifndef MST_MODEL_FAMILY_H
#define MST_MODEL_FAMILY_H

#include "muster/model.h"

/*
 * What a tensor is to the decoder. The bias of a weight is the role after it. Which projections exist, which have
 * biases, whether q, k and v are one fused product and where norms stand all follow from the roles that a family
 * lists. Of NORM1 and ATTENTION_NORM, and of NORM2 and MLP_NORM, it may list either or both.
 */
typedef enum mst_role {
    MST_ROLE_TOKENS,    /* embedding: rows by token */
    MST_ROLE_POSITIONS, /* embedding: rows by position */
    MST_ROLE_NORM1,     /* layer: before attention */
    MST_ROLE_NORM1_BIAS,
    MST_ROLE_QKV, /* fused projection */
    MST_ROLE_QKV_BIAS,
    MST_ROLE_Q,
    MST_ROLE_Q_BIAS,
    MST_ROLE_K,
    MST_ROLE_K_BIAS,
    MST_ROLE_V,
    MST_ROLE_V_BIAS,
    MST_ROLE_Q_NORM, /* of queries before they are turned: over the tensor's length, all heads or each */
    MST_ROLE_Q_NORM_BIAS,
    MST_ROLE_K_NORM,
    MST_ROLE_K_NORM_BIAS,
    MST_ROLE_O,
    MST_ROLE_O_BIAS,
    MST_ROLE_ATTENTION_NORM, /* layer: of attention's output, before it is added to the residual stream */
    MST_ROLE_ATTENTION_NORM_BIAS,
    MST_ROLE_NORM2, /* layer: before the MLP */
    MST_ROLE_NORM2_BIAS,
    MST_ROLE_GATE,
    MST_ROLE_GATE_BIAS,
    MST_ROLE_UP, /* GPT-2 calls it c_fc */
    MST_ROLE_UP_BIAS,
    MST_ROLE_DOWN,
    MST_ROLE_DOWN_BIAS,
    MST_ROLE_MLP_NORM, /* layer: of the MLP's output */
    MST_ROLE_MLP_NORM_BIAS,
    MST_ROLE_FINAL_NORM, /* head */
    MST_ROLE_FINAL_NORM_BIAS,
    MST_ROLE_LM_HEAD, /* head, untied models only */
    MST_ROLE_COUNT
} mst_role;

/* The length of one side of a tensor, in the model's numbers. */
typedef enum mst_extent {
    MST_EXTENT_NONE,      /* a vector has no second side */
    MST_EXTENT_VOCAB,     /* vocab_size */
    MST_EXTENT_POSITIONS, /* max_seq_len */
    MST_EXTENT_MODEL,     /* d_model */
    MST_EXTENT_QUERY,     /* n_heads * head_dim */
    MST_EXTENT_KEY,       /* n_kv_heads * head_dim */
    MST_EXTENT_QKV,       /* a query and two key extents */
    MST_EXTENT_HEAD,      /* head_dim */
    MST_EXTENT_FF,        /* d_ff */
    MST_EXTENT_COUNT
} mst_extent;

typedef enum mst_init {
    MST_INIT_ZERO,
    MST_INIT_ONE,
    MST_INIT_NORMAL,   /* init_deviation */
    MST_INIT_RESIDUAL, /* init_deviation / sqrt(2 n_layers): what is added to the residual stream */
} mst_init;

typedef struct mst_tensor_spec {
    mst_role role;
    const char *name; /* after the layer's prefix; NULL ends a list */
    mst_extent rows, cols;
    mst_init init;
} mst_tensor_spec;

typedef enum mst_norm_kind { MST_NORM_RMS, MST_NORM_LAYER } mst_norm_kind;
typedef enum mst_position_kind { MST_POSITIONS_ROPE, MST_POSITIONS_LEARNED } mst_position_kind;
typedef enum mst_mlp_kind { MST_MLP_SWIGLU, MST_MLP_GELU } mst_mlp_kind;

typedef struct mst_family {
    const char *name;
    mst_norm_kind norm;
    mst_position_kind positions;
    mst_mlp_kind mlp;
    bool
        norm_rounds_first; /* RMSNorm: the normalised value is rounded to the compute type, then multiplied by the
                                 weight and rounded again; otherwise it is rounded once */
    bool in_out;           /* projections are stored [in, out] (Conv1D) instead of [out, in] (Linear);
                                 the LM head never is */
    bool grouped_heads;       /* n_kv_heads may be less than n_heads */
    bool free_head_dim;       /* n_heads * head_dim may differ from d_model */
    const char *layer_prefix; /* followed by the layer's number and a point */
    const mst_tensor_spec *embedding, *layer, *head;
} mst_family;

/** Whether a role is a projection: a product of a layer, which may have an adapter. */
bool mst_role_is_projection(mst_role role);

/** The table of a family; NULL for an unknown id. */
const mst_family *mst_family_get(mst_family_id id);

/** The length that an extent stands for. */
size_t mst_extent_of(const mst_model_config *config, mst_extent extent);

#endif
