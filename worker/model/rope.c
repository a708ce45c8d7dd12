#include "rope.h"

#include "muster/elementary.h"

#define MST_TWO_PI 6.283185307179586477

/* Llama 3: pairs that turn less than `low` times in the original length turn slower by the factor, those that turn
 * more than `high` times stay as they are, and in between the change is linear in the number of turns. */
static double scaled(const mst_model_config *config, double frequency) {
    double factor = config->rope_factor;
    if (factor == 0 || factor == 1) return frequency;
    double low = config->rope_low_freq_factor, high = config->rope_high_freq_factor;
    double turns = (double)config->rope_original_seq_len * frequency / MST_TWO_PI;
    if (turns < low) return frequency / factor;
    if (turns > high) return frequency;
    double kept = (turns - low) / (high - low);
    return (1 - kept) * frequency / factor + kept * frequency;
}

double mst_rope_frequency(const mst_model_config *config, size_t i) {
    double power = 2.0 * (double)i / (double)config->head_dim;
    return scaled(config, mst_elementary_exp(-power * mst_elementary_log(config->rope_theta)));
}

void mst_rope_tables(const mst_model_config *config, size_t positions, float *cosine, float *sine) {
    size_t pairs = config->head_dim / 2;
    for (size_t i = 0; i < pairs; i++) {
        double frequency = mst_rope_frequency(config, i);
        for (size_t p = 0; p < positions; p++) {
            double c, s;
            mst_elementary_cos_sin((double)p * frequency, &c, &s);
            cosine[p * pairs + i] = (float)c;
            sine[p * pairs + i] = (float)s;
        }
    }
}
