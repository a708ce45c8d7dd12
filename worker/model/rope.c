#include "rope.h"

#include "muster/elementary.h"

double mst_rope_frequency(double theta, size_t head_dim, size_t i) {
    return mst_elementary_exp(-(2.0 * (double)i / (double)head_dim) * mst_elementary_log(theta));
}

void mst_rope_tables(double theta, size_t head_dim, size_t positions, float *cosine, float *sine) {
    size_t pairs = head_dim / 2;
    for (size_t i = 0; i < pairs; i++) {
        double frequency = mst_rope_frequency(theta, head_dim, i);
        for (size_t p = 0; p < positions; p++) {
            double c, s;
            mst_elementary_cos_sin((double)p * frequency, &c, &s);
            cosine[p * pairs + i] = (float)c;
            sine[p * pairs + i] = (float)s;
        }
    }
}
