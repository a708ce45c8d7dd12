/* "Did you mean ...?": the nearest of some known words. */
#ifndef MUSTER_NEAREST_H
#define MUSTER_NEAREST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A search: start it as {word}, offer every known word, read best. */
typedef struct mst_nearest {
    const char *word; /* what was typed */
    const char *best; /* nearest word so far; NULL: none is near enough to be a slip of the fingers */
    size_t distance;
} mst_nearest;

/** Offers a known word, kept by reference. Near: at most 1 letter in 3 wrong (Damerau-Levenshtein distance,
 * blind to case), or the word is the candidate's beginning. Not collective. */
void mst_nearest_offer(mst_nearest *nearest, const char *candidate);

#ifdef __cplusplus
}
#endif
#endif
