/* Parsing of a command's words by its table, and the questions a command asks about them. */
#include "cli.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "muster/nearest.h"

/* An option as it was given. */
typedef struct occurrence {
    const cli_option *option;
    const char *value; /* NULL for a flag */
} occurrence;

struct cli_args {
    const cli_command *command;
    bool help;
    size_t given_count;
    occurrence *given; /* in the order of the command line */
    size_t operand_count;
    const char **operands;
    const char **values; /* of the options, those of one option together, in order */
};

static const cli_option no_options[] = {{0}};
static const cli_operand no_operands[] = {{0}};

static const cli_option *options_of(const cli_command *command) {
    return command->options != NULL ? command->options : no_options;
}

static const cli_option *find_letter(const cli_command *command, char letter) {
    for (const cli_option *option = options_of(command); option->name != NULL; option++)
        if (option->letter == letter) return option;
    return NULL;
}

static const cli_option *find_name(const cli_command *command, const char *name, size_t length) {
    for (const cli_option *option = options_of(command); option->name != NULL; option++)
        if (strlen(option->name) == length && memcmp(option->name, name, length) == 0) return option;
    return NULL;
}

static mst_status unknown_option(const cli_command *command, const char *word) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    mst_nearest nearest = {.word = name};
    for (const cli_option *option = options_of(command); option->name != NULL; option++)
        mst_nearest_offer(&nearest, option->name);
    mst_nearest_offer(&nearest, "help");
    if (nearest.best != NULL)
        return mst_error(MST_ECONFIG, "%s: unknown option '--%s'; did you mean '--%s'?", command->name, name,
                         nearest.best);
    return mst_error(MST_ECONFIG, "%s: unknown option '--%s'; see 'muster %s --help'", command->name, name,
                     command->name);
}

/* Reads the option in words[*place] and, where it has one, its value; moves *place to its last word. */
static mst_status take_option(cli_args *args, int count, char *const *words, int *place) {
    const char *word = words[*place], *value = NULL;
    const cli_command *command = args->command;
    const cli_option *option;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        option = find_name(command, word + 2, length);
        if (option == NULL) return unknown_option(command, word);
        if (word[2 + length] == '=') value = word + 2 + length + 1;
    } else {
        option = find_letter(command, word[1]);
        if (option == NULL)
            return mst_error(MST_ECONFIG, "%s: unknown option '-%c'; see 'muster %s --help'", command->name,
                             word[1], command->name);
        if (word[2] != '\0') value = word + 2;
    }
    if (option->argument == NULL && value != NULL)
        return mst_error(MST_ECONFIG, "%s: --%s takes no value, but '%s' was given", command->name,
                         option->name, value);
    if (option->argument != NULL && value == NULL) {
        if (*place + 1 >= count)
            return mst_error(MST_ECONFIG, "%s: --%s needs a value: --%s %s", command->name, option->name,
                             option->name, option->argument);
        value = words[++*place];
    }
    args->given[args->given_count++] = (occurrence){option, value};
    return MST_OK;
}

static mst_status check_required(const cli_args *args) {
    const cli_command *command = args->command;
    const cli_operand *operand = command->operands != NULL ? command->operands : no_operands;
    size_t wanted = 0;
    bool many = false;
    for (; operand->name != NULL; operand++, wanted++) {
        if (!operand->optional && args->operand_count <= wanted)
            return mst_error(MST_ECONFIG, "%s: %s is missing; see 'muster %s --help'", command->name,
                             operand->name, command->name);
        many = many || operand->many;
    }
    if (!many && args->operand_count > wanted)
        return mst_error(MST_ECONFIG, "%s: unexpected word '%s'; see 'muster %s --help'", command->name,
                         args->operands[wanted], command->name);
    for (const cli_option *option = options_of(command); option->name != NULL; option++)
        if (option->required && !cli_flag(args, option->name))
            return mst_error(MST_ECONFIG, "%s: --%s %s is missing; see 'muster %s --help'", command->name,
                             option->name, option->argument, command->name);
    return MST_OK;
}

/* A shell's variable that is not set gives an empty word, which is no path. */
static bool is_empty_path(const char *value, const char *name) {
    cli_values values;
    cli_values_of(name, &values);
    return value[0] == '\0' && (values.files || values.folders);
}

static mst_status check_paths(const cli_args *args) {
    const char *command = args->command->name;
    const cli_operand *operand = args->command->operands;
    for (size_t i = 0; i < args->operand_count; i++) {
        if (is_empty_path(args->operands[i], operand->name))
            return mst_error(MST_ECONFIG, "%s: %s is empty; see 'muster %s --help'", command, operand->name,
                             command);
        if (!operand->many) operand++;
    }
    for (size_t i = 0; i < args->given_count; i++) {
        const cli_option *option = args->given[i].option;
        if (option->argument != NULL && is_empty_path(args->given[i].value, option->argument))
            return mst_error(MST_ECONFIG, "%s: --%s %s is empty; see 'muster %s --help'", command,
                             option->name, option->argument, command);
    }
    return MST_OK;
}

/* Puts the values of each option side by side, so that cli_texts can give them as one array. */
static void group_values(cli_args *args) {
    size_t place = 0;
    for (const cli_option *option = options_of(args->command); option->name != NULL; option++)
        for (size_t i = 0; i < args->given_count; i++)
            if (args->given[i].option == option) args->values[place++] = args->given[i].value;
}

static bool is_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

mst_status cli_parse(const cli_command *command, int count, char *const *words, cli_args **args_out) {
    mst_status status = MST_OK;
    size_t room = (size_t)count + 1;
    cli_args *args = calloc(1, sizeof *args);
    MST_CHECK(args != NULL, MST_ENOMEM, "no memory for the command line");
    args->command = command;
    args->given = calloc(room, sizeof *args->given);
    args->operands = calloc(room, sizeof *args->operands);
    args->values = calloc(room, sizeof *args->values);
    MST_CHECK(args->given != NULL && args->operands != NULL && args->values != NULL, MST_ENOMEM,
              "no memory for a command line of %d words", count);

    for (int i = 0; i < count && strcmp(words[i], "--") != 0; i++)
        args->help = args->help || is_help(words[i]);
    bool only_operands = false;
    for (int i = 0; i < count && !args->help; i++) {
        bool dashed = words[i][0] == '-' && words[i][1] != '\0'; /* "-" alone is an operand */
        if (only_operands || !dashed)
            args->operands[args->operand_count++] = words[i];
        else if (strcmp(words[i], "--") == 0)
            only_operands = true;
        else
            MST_TRY(take_option(args, count, words, &i));
    }
    if (!args->help) {
        MST_TRY(check_required(args));
        MST_TRY(check_paths(args));
    }
    group_values(args);
    *args_out = args;
    args = NULL;
done:
    cli_args_destroy(&args);
    return status;
}

void cli_args_destroy(cli_args **args) {
    if (*args == NULL) return;
    free((*args)->given);
    free((*args)->operands);
    free((*args)->values);
    free(*args);
    *args = NULL;
}

bool cli_wants_help(const cli_args *args) {
    return args->help;
}

size_t cli_texts(const cli_args *args, const char *name, const char *const **values_out) {
    const cli_option *wanted = find_name(args->command, name, strlen(name));
    assert(wanted != NULL && "the command asks for an option that its table lacks");
    size_t before = 0, count = 0;
    for (size_t i = 0; i < args->given_count; i++) {
        before += args->given[i].option < wanted;
        count += args->given[i].option == wanted;
    }
    *values_out = args->values + before;
    return count;
}

bool cli_flag(const cli_args *args, const char *name) {
    const char *const *values;
    return cli_texts(args, name, &values) > 0;
}

const char *cli_text(const cli_args *args, const char *name, const char *otherwise) {
    const char *const *values;
    size_t count = cli_texts(args, name, &values);
    return count > 0 ? values[count - 1] : otherwise;
}

mst_status cli_whole(const cli_args *args, const char *name, uint64_t low, uint64_t high,
                     uint64_t *value_out) {
    const char *text = cli_text(args, name, NULL);
    if (text == NULL) return MST_OK;
    size_t digits = strspn(text, "0123456789");
    errno = 0;
    uint64_t value = strtoull(text, NULL, 10);
    if (digits == 0 || text[digits] != '\0' || errno == ERANGE || value < low || value > high)
        return mst_error(MST_ECONFIG,
                         "%s: --%s: expected a whole number from %" PRIu64 " to %" PRIu64 ", found '%s'",
                         args->command->name, name, low, high, text);
    *value_out = value;
    return MST_OK;
}

mst_status cli_real(const cli_args *args, const char *name, double low, double high, double *value_out) {
    const char *text = cli_text(args, name, NULL);
    if (text == NULL) return MST_OK;
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= high))
        return mst_error(MST_ECONFIG, "%s: --%s: expected a number from %g to %g, found '%s'",
                         args->command->name, name, low, high, text);
    *value_out = value;
    return MST_OK;
}

size_t cli_operand_count(const cli_args *args) {
    return args->operand_count;
}

const char *const *cli_operands(const cli_args *args) {
    return args->operands;
}

int cli_exit_code(mst_status status) {
    switch (status) {
    case MST_OK:
        return 0;
    case MST_ECONFIG:
        return 2;
    case MST_ESTOPPED:
        return 75;
    default:
        return 1;
    }
}

long cli_launcher_rank(void) {
    /* Innermost launcher first: mpirun under Slurm sets its own beside srun's. */
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = getenv(names[i]);
        if (text != NULL && *text != '\0') return strtol(text, NULL, 10);
    }
    return 0;
}
