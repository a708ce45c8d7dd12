/* What a person sees of a training: a live line on a terminal, elsewhere a plain line now and then. */
#ifndef TOKENIZER_TRAIN_PROGRESS_H
#define TOKENIZER_TRAIN_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct train_progress {
    FILE *file; /* NULL: nobody looks */
    bool live, drawn;
    double begin, shown; /* of the stage; when something was shown last */
} train_progress;

/** Begins a stage. @param file kept by reference; may be NULL */
void train_progress_begin(train_progress *progress, FILE *file);

void train_progress_reading(train_progress *progress, uint64_t documents, uint64_t bytes);
void train_progress_merging(train_progress *progress, size_t done, size_t all);

/** Ends the stage: on a terminal the live line goes, elsewhere a line is printed, to which "in N s" is added. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void train_progress_end(train_progress *progress, const char *format, ...);
/** Clears the live line, so that a message may follow. */
void train_progress_hide(train_progress *progress);

#endif
