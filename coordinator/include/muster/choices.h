/* Multiple choice: questions with answers to choose among, and which of them a checkpoint takes for the likeliest. */
#ifndef MUSTER_CHOICES_H
#define MUSTER_CHOICES_H

#include "muster/inference.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One of the answers to a question, behind the question. */
typedef struct mst_choice {
    int32_t *tokens; /* [count] owned */
    size_t count;
    size_t first; /* the first token of the answer; at least 1 */
    size_t bytes; /* of the answer's text */
    double loss;  /* sum over the answer's tokens, nats: what mst_choices_weigh finds */
} mst_choice;

typedef struct mst_question {
    const char *path; /* not owned */
    size_t line;      /* from 1 */
    size_t first;     /* the number of its first choice among all */
    size_t count;     /* of its choices */
    size_t right;     /* which of these is right, from 0 */
} mst_question;

/* Begin with {0}; mst_choices_clear. */
typedef struct mst_choices {
    mst_question *questions;
    mst_choice *choices;
    size_t question_count, question_room, choice_count, choice_room;
    uint64_t cut; /* choices whose questions are longer than the context: the model sees the question's end */
} mst_choices;
void mst_choices_clear(mst_choices *choices);

/**
 * Appends the questions of a file, an object on each line: `ctx`, `question` or `context`, a text; `endings` or `choices`, a list of
 * texts; `label` or `answer`, the number of the right one from 0, or its letter. A blank stands between question and answer where
 * neither of them brings white space; white space at a question's end belongs to the answer, as most tokenizers have it.
 *
 * Not collective. Memory: all tokens.
 * @param path kept by reference
 * @param context tokens that the model sees at most, as mst_inference_context gives it
 * @retval MST_EIO; MST_EFORMAT another thing in a line, or no line (file and line named); MST_ECONFIG an answer longer than the
 * context; as mst_inference_encode; MST_ENOMEM
 */
mst_status mst_choices_read(mst_inference *inference, const char *path, size_t context, mst_choices *choices);

/** Called with how much of the work is done. */
typedef void mst_choices_progress_fn(void *context, uint64_t done, uint64_t all);

/**
 * Finds the loss of every choice.
 *
 * Not collective. Choices of about the same length are computed together, in batches that depend on the questions alone: the
 * same bits on any number of threads. Memory: activations of a batch.
 * @param progress NULL: nobody wants to know
 * @retval MST_ENONFINITE a loss that is not finite (file and line named); as mst_model_loss; MST_ENOMEM
 */
mst_status mst_choices_weigh(mst_inference *inference, mst_choices *choices,
                             mst_choices_progress_fn *progress, void *context);

/* By what the answers of a question are compared: the lowest is chosen, of equal ones the first. */
typedef enum mst_choice_rule {
    MST_CHOICE_MEAN, /* loss per token */
    MST_CHOICE_SUM,  /* loss */
    MST_CHOICE_BYTE, /* loss per byte of the answer's text */
    MST_CHOICE_RULES
} mst_choice_rule;

/** The choice that a rule makes, from 0. @param question one of `choices` that were weighed */
size_t mst_choices_made(const mst_choices *choices, const mst_question *question, mst_choice_rule rule);

typedef struct mst_choices_report {
    uint64_t questions, choices, tokens; /* tokens: of the answers */
    uint64_t right[MST_CHOICE_RULES];    /* questions, by rule */
} mst_choices_report;

/** Counts what is right. @param choices weighed, with a question at least */
void mst_choices_count(const mst_choices *choices, mst_choices_report *report_out);

#ifdef __cplusplus
}
#endif
#endif
