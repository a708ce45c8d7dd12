/* SwiGLU and GELU, forward and backward. */
#include "element.h"
#include "ref.h"

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/* Shazeer 2020. */
mst_status mst_swiglu_forward_ref(mst_queue *queue, const mst_swiglu_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->rows * args->cols; i++) {
        double gate = load(args->gate, args->dtype, i), up = load(args->up, args->dtype, i);
        store(args->y, args->dtype, i, gate * sigmoid(gate) * up);
    }
    return MST_OK;
}

/* d silu(x) / dx = s (1 + x (1 - s)) with s = sigmoid(x), and 1 - s = sigmoid(-x) without cancellation. */
mst_status mst_swiglu_backward_ref(mst_queue *queue, const mst_swiglu_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->rows * args->cols; i++) {
        double gate = load(args->gate, args->dtype, i), up = load(args->up, args->dtype, i);
        double dy = load(args->dy, args->dtype, i), s = sigmoid(gate);
        store(args->dgate, args->dtype, i, dy * up * s * (1.0 + gate * sigmoid(-gate)));
        store(args->dup, args->dtype, i, dy * gate * s);
    }
    return MST_OK;
}

/* Hendrycks and Gimpel 2016, the tanh form: gelu(x) = x (1 + tanh(z)) / 2,
 * z = sqrt(2 / pi) (x + 0.044715 x^3). */
static const double gelu_scale = 0.79788456080286535588, gelu_cubic = 0.044715;

mst_status mst_gelu_forward_ref(mst_queue *queue, const mst_gelu_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->count; i++) {
        double x = load(args->x, args->dtype, i);
        double z = gelu_scale * (x + gelu_cubic * x * x * x);
        /* (1 + tanh(z)) / 2 = sigmoid(2z), which keeps its digits where tanh is near -1. */
        store(args->y, args->dtype, i, x * sigmoid(2.0 * z));
    }
    return MST_OK;
}

mst_status mst_gelu_backward_ref(mst_queue *queue, const mst_gelu_args *args) {
    (void)queue;
    for (size_t i = 0; i < args->count; i++) {
        double x = load(args->x, args->dtype, i), dy = load(args->dy, args->dtype, i);
        double z = gelu_scale * (x + gelu_cubic * x * x * x),
               dz = gelu_scale * (1.0 + 3.0 * gelu_cubic * x * x);
        double s = sigmoid(2.0 * z), one_minus_s = sigmoid(-2.0 * z);
        store(args->dx, args->dtype, i, dy * (s + x * 2.0 * s * one_minus_s * dz));
    }
    return MST_OK;
}
