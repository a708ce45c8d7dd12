/* The decoder's inside: its buffers, the unit held, and the parts that a pass is made of. */
#ifndef MST_MODEL_DECODER_H
#define MST_MODEL_DECODER_H

#include "family.h"
#include "muster/recording.h"
#include "muster/transfer.h"

/* Where a tensor stands within its unit; rows is 0 when the family has no tensor of this role. */
typedef struct mst_part {
    size_t offset, rows, cols;
} mst_part;

/* The two tensors of an adapter within their layer's unit; rows is 0 where a role has none. */
typedef struct mst_adapter {
    mst_part a; /* [rank, in] */
    mst_part b; /* [out, rank] */
} mst_adapter;

/* A norm's input, output and statistics. */
typedef struct mst_norm_buffers {
    void *x;           /* [rows, d_model] */
    void *y;           /* [rows, d_model] */
    void *mean, *rstd; /* ACC [rows] */
} mst_norm_buffers;

/* What the backward pass needs of one layer's forward pass. What is computed again stands in one place for all layers. */
typedef struct mst_layer_buffers {
    /* Before a half: x is the residual stream, and y what the half reads: x itself where the family has no norm. */
    mst_norm_buffers norm1, norm2;
    /* After a half: x is what its last product gives, y is delta. Without a norm x is delta, and nothing is saved. */
    mst_norm_buffers attention_norm, mlp_norm;
    void *qkv;             /* [rows, q + 2 kv] queries, keys and values, turned */
    void *qk;              /* [rows, q + kv] queries and keys before their norms, only where they have any */
    void *q_rstd, *k_rstd; /* ACC [rows, heads that are normalised one by one, or 1] of these */
    void *attention;       /* [rows, q] */
    void *lse;             /* ACC [micro, heads, seq_len] */
    void *gate;            /* [rows, d_ff], SwiGLU only */
    void *up;              /* [rows, d_ff] */
    void *act;             /* [rows, d_ff] */
} mst_layer_buffers;

enum { MST_TURNS = 2 };

/* What a pass brings to the device and takes from it, where the device's memory is apart. Passes take the turns one after the
 * other: so the host is at most one whole pass ahead of the one that the device computes. */
typedef struct mst_turn {
    void *inputs;   /* pinned: the model's tokens, targets and starts, as they stand on the device */
    void *losses;   /* pinned: likewise loss and zloss */
    mst_mark *mark; /* behind all that the pass has queued */
    mst_loss *owed; /* the caller's, which gets the sum of the losses; NULL: nobody does */
} mst_turn;

struct mst_model {
    mst_model_config config;
    mst_model_options options;
    const mst_family *family;
    const mst_layout *layout;
    mst_queue *queue;
    const mst_kernels *kernels;
    mst_recordings *recordings;           /* of stretches; NULL: none are recorded */
    mst_rmsnorm_forward_fn *norm_forward; /* the family's norm */
    mst_rmsnorm_backward_fn *norm_backward;
    mst_dtype dtype, acc;
    size_t rows, chunk_rows;
    size_t width_q, width_k, width_qkv, column_k, column_v; /* of the buffer of queries, keys and values */
    mst_part part[MST_ROLE_COUNT];
    mst_adapter adapter[MST_ROLE_COUNT];
    size_t kept,
        first; /* tokens kept, and while they are extended the position of the pass's first row, else 0 */

    void *arena;
    size_t arena_bytes,
        passing;          /* the first `passing` bytes live for one pass, the tables behind them for ever */
    float *cosine, *sine; /* [positions, head_dim / 2], rotary positions only */
    void *
        keys_values; /* [n_layers, kept_tokens, 2 kv] a kept token's keys, turned, and behind them its values */
    mst_layer_buffers *layers; /* [n_layers], or one for all in a forward-only model */
    mst_norm_buffers final;
    void *delta;                    /* [rows, d_model] what a layer half adds to the residual stream */
    void *logits;                   /* ACC [chunk_rows, vocab] */
    void *loss, *zloss;             /* ACC [rows], one behind the other */
    int32_t *tokens, *targets;      /* [rows], and starts behind them */
    int32_t *starts;                /* [rows] where documents begin, for passes that say it */
    size_t input_bytes, loss_bytes; /* of all three, and of both losses */
    mst_turn turns[MST_TURNS];
    size_t turn; /* the last pass's */

    /* Of the backward pass, one set for all layers. */
    void *dx;    /* [rows, d_model] gradient of the residual stream */
    void *dnorm; /* [rows, d_model] gradient of a norm's output */
    void *
        dsum; /* ACC [rows, d_model, or what the widest adapted projection reads] the gradient of x while products
                         are added up; x's own when dtype is ACC */
    void *dact;       /* [rows, d_ff] */
    void *dattention; /* [rows, q] */
    void *dqkv;       /* [rows, q + 2 kv] */
    void *work;       /* ACC [micro, heads, seq_len] */

    /* Of adapters, one set for all layers; NULL without any. */
    void *low;       /* [rows, rank] scale x A^T */
    void *low_out;   /* [rows, widest row of results] low B^T, where dtype is not ACC */
    void *dlow;      /* [rows, rank] scale dy B */
    void *discarded; /* ACC [widest norm] gradients of norms that are not trained */
};

/* One pass over one microbatch. */
typedef struct mst_pass {
    mst_model *model;
    const mst_weight_source *source;
    const mst_gradient_sink *sink; /* NULL: forward only */
    const int32_t *tokens, *targets;
    const int32_t *starts; /* NULL: a sequence is one document */
    double loss_scale, z_coefficient;
} mst_pass;

/* A unit whose weights this pass holds. */
typedef struct mst_held {
    const mst_pass *pass;
    size_t unit;
    const mst_gradient_sink *sink; /* NULL: it is only read */
    const char *weights;           /* NULL: nothing is held */
    char *gradients;               /* NULL without a sink, and where the unit is not trained */
    const char *adapters;          /* of a layer; NULL: there are none */
    char *adapter_gradients;
} mst_held;

/* The layer's unit number is one more than its own. */
static inline size_t mst_layer_unit(size_t layer) {
    return 1 + layer;
}

static inline size_t mst_layer_of(const mst_held *held) {
    return held->unit - mst_layer_unit(0);
}

static inline bool mst_is_layer(const mst_model *model, size_t unit) {
    return unit >= mst_layer_unit(0) && unit < mst_layer_unit(model->config.n_layers);
}

static inline mst_layer_buffers *mst_layer(const mst_model *model, size_t layer) {
    return &model->layers[model->options.forward_only ? 0 : layer];
}

static inline bool mst_has(const mst_model *model, mst_role role) {
    return model->part[role].rows > 0;
}

static inline bool mst_is_adapted(const mst_model *model, mst_role role) {
    return model->adapter[role].a.rows > 0;
}

/* Adapters alone are trained. */
static inline bool mst_is_frozen(const mst_model *model) {
    return model->options.lora.rank > 0;
}

/* Element `index` of an array of a type that is known at run time only. */
static inline void *mst_at(const void *array, size_t index, mst_dtype dtype) {
    return (char *)(uintptr_t)array + index * mst_dtype_size(dtype);
}

/** Takes hold of a unit's weights, and of its adapters. What was acquired is released again, after errors too.
 * @param sink where its gradients are to be added; NULL: nowhere */
mst_status mst_held_acquire(const mst_pass *pass, size_t unit, const mst_gradient_sink *sink,
                            mst_held *held_out);
/** Releases the weights, if any are held. */
void mst_held_release(mst_held *held);
/** The tensor of a role in the unit held, NULL when the family has none; its gradient also where it is not trained. */
const void *mst_weight(const mst_held *held, mst_role role);
void *mst_gradient(const mst_held *held, mst_role role);
/** Where a norm's gradient goes: that of mst_gradient, or nowhere that counts. NULL when the family has none. */
void *mst_norm_gradient(const mst_held *held, mst_role role);
/** Tells the sink that a unit's gradient is complete, if it is trained. */
mst_status mst_unit_done(const mst_pass *pass, size_t unit);

/*
 * Work between two places of a pass where others may come in (weights are acquired, gradients handed over, losses read): kernels
 * alone, whose arguments follow from the model, from what is held, and from the pass's scales and whether it has starts.
 */
typedef mst_status mst_stretch_fn(const mst_held *held);

enum { MST_STRETCH_UNITS = 2 };

/** Room for recordings of a model's stretches, if its options ask for them. @retval MST_ENOMEM, MST_ELIBRARY */
mst_status mst_stretches_prepare(mst_model *model);

/** Does the work of a stretch, by its recording where there is one. @param held [count] up to MST_STRETCH_UNITS */
mst_status mst_stretch(mst_stretch_fn *work, const mst_held *held, size_t count);

/** Finds where the adapters' tensors stand. Nothing happens without adapters. */
void mst_lora_describe(mst_model *model);

/*
 * A product y = x W (+ b) of one unit. Several that read the same x are given together: their gradients of x
 * are added up in ACC and rounded once.
 */
typedef struct mst_product {
    mst_role role; /* the weight; its bias is the role after it, where the family has one */
    void *y;       /* [rows, out] the result, or in the backward pass its gradient */
    size_t ldy;
} mst_product;

/** x is [rows, in] dense, `in` from the weight's shape. */
mst_status mst_products_forward(const mst_held *held, size_t count, const mst_product *products,
                                const void *x);
/** Adds the weights' and biases' gradients to the sink and writes dx [rows, in] dense. */
mst_status mst_products_backward(const mst_held *held, size_t count, const mst_product *products,
                                 const void *x, void *dx);

/** y += scale (x A^T) B^T of a projection that has an adapter. */
mst_status mst_lora_forward(const mst_held *held, const mst_product *product, const void *x);
/** Adds the gradients of A and B to the sink, and scale (dy B) A to dx, ACC [rows, in]. */
mst_status mst_lora_backward(const mst_held *held, const mst_product *product, const void *x, void *dx);

/** sum = x + delta, all [rows, cols] with rows ld apart; sum may be x or delta. */
mst_status mst_add(const mst_model *model, size_t cols, size_t ld, const void *x, const void *delta,
                   void *sum);

/** norm->y = norm(norm->x), where norm->x = x + delta is computed first if there is a delta. Without a norm of this
 * role only the sum is computed. */
mst_status mst_norm_forward(const mst_held *held, mst_role role, const void *x, const void *delta,
                            const mst_norm_buffers *norm);
/** dx = gradient of the norm's input from dy, plus what reaches it past the norm (dresidual, may be dx; or NULL).
 * Without a norm of this role dx = dy + dresidual. */
mst_status mst_norm_backward(const mst_held *held, mst_role role, const mst_norm_buffers *norm,
                             const void *dy, const void *dresidual, void *dx);

/** Embedding and all layers. Then the residual stream is norm2.x of the last layer plus delta. */
mst_status mst_pass_forward(const mst_pass *pass);
/** Final norm and loss; with a sink also the head's gradient and dx. */
mst_status mst_pass_head(const mst_pass *pass);
/** Layers in reverse order, then the embedding. */
mst_status mst_pass_backward(const mst_pass *pass);
/* Rotary angles that a model needs. */
static inline size_t mst_positions(const mst_model *model) {
    const mst_model_options *options = &model->options;
    return options->kept_tokens > options->seq_len ? options->kept_tokens : options->seq_len;
}

/** Keeps the keys and values of a pass's rows, and lets attention see all that are kept. For models that keep tokens.
 * @param qkv [rows, q + 2 kv] of the layer whose unit is held */
mst_status mst_keep(const mst_held *held, const void *qkv, mst_attention_args *args);

/** Every token and target is in the vocabulary. @param targets NULL: not looked at @retval MST_EINVAL */
mst_status mst_check_tokens(const mst_model *model, const int32_t *tokens, size_t count,
                            const int32_t *targets);
/** Whether a pass's `starts` are such that kernels may trust them. @retval MST_EINVAL */
mst_status mst_check_starts(const mst_pass *pass);
/** What kernels take for `starts` in this pass. */
static inline const int32_t *mst_starts(const mst_pass *pass) {
    return pass->starts ? pass->model->starts : NULL;
}
/** Pinned memory and marks, where the device's memory is apart. @retval MST_ENOMEM, MST_ELIBRARY */
mst_status mst_turns_init(mst_model *model);
/** Waits for passes, whatever came of them, and frees what they used. */
void mst_turns_clear(mst_model *model);

/** Takes the next turn, waits for the pass that had it, and brings tokens, targets and starts to the device. Debug builds: a
 * pass that reads what it has not written computes NaN. */
mst_status mst_pass_begin(const mst_pass *pass);
/** Counts the valid targets; the losses' sums follow when the turn is taken again or with mst_model_settle, on the CPU at once. */
mst_status mst_pass_end(const mst_pass *pass, mst_loss *loss_out);

/** Logits of one row. @param logits_out ACC [vocab] */
mst_status mst_pass_logits(const mst_pass *pass, size_t row, void *logits_out);

#endif
