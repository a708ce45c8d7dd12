/* Edit distance between what was typed and what is known. */
#include "muster/nearest.h"

#include <ctype.h>
#include <string.h>

enum { WORD_MAX = 48 }; /* longer words are no slips of the fingers */

static int same(char a, char b) {
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Damerau-Levenshtein distance (optimal string alignment) of two words of at most WORD_MAX letters. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][WORD_MAX + 1]; /* the row being filled and the two above it, in rotation */
    for (size_t j = 0; j <= b_length; j++) rows[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t replaced = above[j - 1] + !same(a[i - 1], b[j - 1]);
            row[j] = least(replaced, least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                row[j] = least(row[j], above2[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

void mst_nearest_offer(mst_nearest *nearest, const char *candidate) {
    size_t length = strlen(nearest->word), candidate_length = strlen(candidate);
    if (length > WORD_MAX || candidate_length > WORD_MAX) return;
    size_t found = distance(nearest->word, length, candidate, candidate_length);
    if (length >= 3 && strncmp(nearest->word, candidate, length) == 0)
        found = least(found, 1); /* a word cut short */
    size_t longer = length > candidate_length ? length : candidate_length;
    if (found * 3 > longer) return;
    if (nearest->best != NULL && found >= nearest->distance) return;
    nearest->best = candidate;
    nearest->distance = found;
}
