#include "choices.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "converting.h"
#include "json.h"
#include "muster/choices.h"
#include "muster/terminal.h"
#include "output.h"

/* Of the share of right answers that so many questions give. */
static double standard_error(double share, uint64_t questions) {
    return questions > 1 ? sqrt(share * (1 - share) / (double)(questions - 1)) : NAN;
}

typedef struct shares {
    double of[MST_CHOICE_RULES], error; /* of MST_CHOICE_MEAN, which is the result */
} shares;

static shares shares_of(const mst_choices_report *r) {
    shares s;
    for (mst_choice_rule rule = 0; rule < MST_CHOICE_RULES; rule++)
        s.of[rule] = (double)r->right[rule] / (double)r->questions;
    s.error = standard_error(s.of[MST_CHOICE_MEAN], r->questions);
    return s;
}

static void print_text(const char *checkpoint, const mst_choices_report *r) {
    const shares s = shares_of(r);
    printf("checkpoint     %s\n", checkpoint);
    printf("questions      %" PRIu64 "\n", r->questions);
    printf("answers        %" PRIu64 "\n", r->choices);
    printf("tokens         %" PRIu64 "\n", r->tokens);
    printf("accuracy       %.6f by mean loss per token: %" PRIu64 " right", s.of[MST_CHOICE_MEAN],
           r->right[MST_CHOICE_MEAN]);
    if (isfinite(s.error)) printf(", standard error %.6f", s.error);
    printf("\nby sum         %.6f\n", s.of[MST_CHOICE_SUM]);
    printf("by byte        %.6f\n", s.of[MST_CHOICE_BYTE]);
}

static mst_status print_json(const char *checkpoint, const mst_choices *choices,
                             const mst_choices_report *r) {
    const shares s = shares_of(r);
    return cli_json_print(json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:o, s:f, s:f}", "checkpoint",
                                    cli_json_text(checkpoint), "questions", (json_int_t)r->questions,
                                    "answers", (json_int_t)r->choices, "tokens", (json_int_t)r->tokens, "cut",
                                    (json_int_t)choices->cut, "accuracy", s.of[MST_CHOICE_MEAN],
                                    "standard_error", cli_json_number(s.error), "accuracy_by_sum",
                                    s.of[MST_CHOICE_SUM], "accuracy_by_byte", s.of[MST_CHOICE_BYTE]));
}

/* ---- details ---- */

static json_t *describe(const mst_choices *all, const mst_question *question) {
    json_t *losses = json_array(), *tokens = json_array(), *bytes = json_array();
    for (size_t i = 0; i < question->count; i++) {
        const mst_choice *choice = &all->choices[question->first + i];
        json_array_append_new(losses, cli_json_number(choice->loss));
        json_array_append_new(tokens, json_integer((json_int_t)(choice->count - choice->first)));
        json_array_append_new(bytes, json_integer((json_int_t)choice->bytes));
    }
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "file", cli_json_text(question->path),
                     "line", (json_int_t)question->line, "right", (json_int_t)question->right, "chosen",
                     (json_int_t)mst_choices_made(all, question, MST_CHOICE_MEAN), "chosen_by_sum",
                     (json_int_t)mst_choices_made(all, question, MST_CHOICE_SUM), "chosen_by_byte",
                     (json_int_t)mst_choices_made(all, question, MST_CHOICE_BYTE), "losses", losses, "tokens",
                     tokens, "bytes", bytes);
}

static mst_status write_details(const mst_choices *all, const char *path) {
    mst_status status = MST_OK;
    char *text = NULL;
    size_t bytes = 0;
    FILE *file = open_memstream(&text, &bytes);
    MST_CHECK(file != NULL, MST_ENOMEM, "--details: out of memory");
    for (size_t i = 0; i < all->question_count; i++) {
        json_t *line = describe(all, &all->questions[i]);
        const bool written = line != NULL && json_dumpf(line, file, JSON_PRESERVE_ORDER) == 0;
        json_decref(line);
        MST_CHECK(written && fputc('\n', file) != EOF, MST_ENOMEM, "--details: out of memory");
    }
    const int failed = fclose(file);
    file = NULL;
    MST_CHECK(failed == 0, MST_ENOMEM, "--details: out of memory");
    MST_TRY(cli_output_write(path, text, bytes));
done:
    if (file != NULL) fclose(file);
    free(text);
    return status;
}

/* ---- the command ---- */

/* The details are written anew: they are not to be a file of questions, under whatever name. */
static mst_status check_details(const cli_args *args, const char *details) {
    mst_status status = MST_OK;
    const char *const *paths;
    const size_t count = cli_texts(args, "choices", &paths);
    struct stat there, questions;
    MST_TRY(cli_output_check(details));
    if (stat(details, &there) != 0) goto done;
    for (size_t i = 0; i < count; i++)
        MST_CHECK(stat(paths[i], &questions) != 0 || questions.st_dev != there.st_dev ||
                      questions.st_ino != there.st_ino,
                  MST_ECONFIG, "--details: '%s' holds the questions of --choices; name another file",
                  details);
done:
    return status;
}

mst_status cli_check_choices(const cli_args *args) {
    static const char *const of_tokens[] = {"split", "batches", "dtype"}, *const of_choices[] = {"context",
                                                                                                 "details"};
    mst_status status = MST_OK;
    if (cli_flag(args, "choices")) {
        MST_CHECK(cli_operand_count(args) == 1, MST_ECONFIG,
                  "'%s' is a token file: --choices are evaluated alone", cli_operands(args)[1]);
        for (size_t i = 0; i < sizeof of_tokens / sizeof *of_tokens; i++)
            MST_CHECK(!cli_flag(args, of_tokens[i]), MST_ECONFIG,
                      "--%s is for token files, not for --choices", of_tokens[i]);
    } else {
        for (size_t i = 0; i < sizeof of_choices / sizeof *of_choices; i++)
            MST_CHECK(!cli_flag(args, of_choices[i]), MST_ECONFIG, "--%s is for --choices", of_choices[i]);
    }
    if (cli_flag(args, "details")) MST_TRY(check_details(args, cli_text(args, "details", NULL)));
done:
    return status;
}

static mst_status read_all(const cli_args *args, mst_inference *inference, mst_choices *choices) {
    mst_status status = MST_OK;
    const char *const *paths;
    const size_t count = cli_texts(args, "choices", &paths);
    uint64_t wanted = 0;
    size_t context = 0;
    MST_CHECK(mst_inference_text_is_known(inference), MST_ECONFIG,
              "%s does not say what its tokens stand for, so it cannot read questions",
              mst_inference_path(inference));
    MST_TRY(cli_whole(args, "context", 1, UINT64_C(1) << 24, &wanted));
    MST_TRY(mst_inference_context(inference, (size_t)wanted, &context));
    for (size_t i = 0; i < count; i++) MST_TRY(mst_choices_read(inference, paths[i], context, choices));
    if (choices->cut > 0)
        fprintf(stderr,
                "note: %" PRIu64 " of %zu answers stand behind more than %zu tokens: the model saw the last "
                "ones (--context)\n",
                choices->cut, choices->choice_count, context);
done:
    return status;
}

mst_status cli_choices(const cli_args *args, mst_inference *inference) {
    mst_status status = MST_OK;
    const char *details = cli_text(args, "details", NULL), *checkpoint = mst_inference_path(inference);
    cli_converting progress = {.verb = "evaluating", .live = mst_terminal_live(stderr)};
    mst_choices choices = {0};
    mst_choices_report report;
    MST_TRY(read_all(args, inference, &choices));
    status = mst_choices_weigh(inference, &choices, cli_converting_show, &progress);
    cli_converting_end(&progress);
    MST_TRY(status);
    mst_choices_count(&choices, &report);
    if (details != NULL) MST_TRY(write_details(&choices, details));
    if (cli_flag(args, "json"))
        MST_TRY(print_json(checkpoint, &choices, &report));
    else
        print_text(checkpoint, &report);
done:
    mst_choices_clear(&choices);
    return status;
}
