/* `muster` without a word: what to do next, by what lies in the working directory. Looks at names and times, and
 * reads one run's config and the end of its metrics, or a few configs; whatever cannot be read is passed over. */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "muster/checkpoint.h"
#include "muster/config.h"
#include "muster/terminal.h"

enum {
    NAMES_MOST = 4096,      /* of a folder, looked at */
    CONFIGS_MOST = 16,      /* of a folder, read */
    CONFIG_BYTES = 1 << 16, /* what is longer is no config that a person wrote */
    TAIL_BYTES = 1 << 12,   /* of metrics.jsonl: more than its last line */
    RUNNING_SECONDS = 60,   /* metrics younger than this may have a writer */
    PATH_ROOM = 4096,
};

/* Whether a name can be shown on a terminal and typed again: no control characters (C0, C1). */
static bool is_showable(const char *name) {
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++)
        if (*c < ' ' || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0)) return false;
    return true;
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t length = strlen(name), wanted = strlen(suffix);
    return length > wanted && strcmp(name + length - wanted, suffix) == 0;
}

/* Joins two names; false when they are too long. */
static bool join(const char *folder, const char *name, char path_out[PATH_ROOM]) {
    const bool here = strcmp(folder, ".") == 0;
    int length = snprintf(path_out, PATH_ROOM, "%s%s%s", here ? "" : folder, here ? "" : "/", name);
    return length < PATH_ROOM;
}

/* When a regular file was last written; 0: it is not there. */
static time_t written(const char *folder, const char *name) {
    char path[PATH_ROOM];
    struct stat info;
    return join(folder, name, path) && stat(path, &info) == 0 && S_ISREG(info.st_mode) ? info.st_mtime : 0;
}

/* Prints a path as a word of a command. */
static void put_path(FILE *file, const char *path) {
    static const char *const plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/,@%:=";
    if (path[0] == '-') fputs("./", file); /* else it would be an option */
    if (path[strspn(path, plain)] == '\0') {
        fputs(path, file);
        return;
    }
    fputc('\'', file);
    for (; *path != '\0'; path++) fputs(*path == '\'' ? "'\\''" : (char[]){*path, '\0'}, file);
    fputc('\'', file);
}

/* A command on a line of its own. `format` has %s for its paths, at most two; "": unused. */
static void put_command(FILE *file, const char *format, const char *first, const char *second) {
    const char *paths[] = {first, second};
    size_t used = 0;
    fprintf(file, "  %s", mst_terminal_style(file, MST_STYLE_HEADING));
    for (; *format != '\0'; format++) {
        if (strncmp(format, "%s", 2) != 0) {
            fputc(*format, file);
            continue;
        }
        put_path(file, paths[used++ % 2]);
        format++;
    }
    fprintf(file, "%s\n", mst_terminal_style(file, MST_STYLE_PLAIN));
}

/* ---- runs ---- */

typedef struct run {
    char path[PATH_ROOM];
    time_t time; /* of the last sign of life; 0: there is no run */
} run;

static void consider_run(run *newest, const char *path) {
    if (written(path, "run.json") == 0) return;
    time_t time = written(path, "metrics.jsonl");
    if (time == 0) time = written(path, "run.json");
    if (time <= newest->time) return;
    newest->time = time;
    snprintf(newest->path, sizeof newest->path, "%s", path);
}

/* The run that was last at work: in runs/, or the working directory itself. */
static void find_run(run *newest) {
    char path[PATH_ROOM];
    *newest = (run){.time = 0};
    consider_run(newest, ".");
    DIR *folder = opendir("runs");
    const struct dirent *entry;
    for (int i = 0; folder != NULL && i < NAMES_MOST && (entry = readdir(folder)) != NULL; i++)
        if (entry->d_name[0] != '.' && is_showable(entry->d_name) && join("runs", entry->d_name, path))
            consider_run(newest, path);
    if (folder != NULL) closedir(folder);
}

/* How the run's last process ended, by the last line of its metrics. */
typedef struct ending {
    bool in_order; /* not killed, nor still at work */
    bool done;     /* nothing was left to do */
    unsigned long long step;
} ending;

static ending read_ending(const char *run_path) {
    static const char stop[] = "{\"event\":\"stop\",\"step\":";
    char path[PATH_ROOM], tail[TAIL_BYTES + 1];
    FILE *file = join(run_path, "metrics.jsonl", path) ? fopen(path, "rb") : NULL;
    if (file == NULL) return (ending){0};
    if (fseek(file, -TAIL_BYTES, SEEK_END) != 0) rewind(file);
    size_t length = fread(tail, 1, TAIL_BYTES, file);
    fclose(file);
    while (length > 0 && tail[length - 1] == '\n') length--;
    tail[length] = '\0';
    const char *before = memrchr(tail, '\n', length), *line = before != NULL ? before + 1 : tail;
    if (strncmp(line, stop, sizeof stop - 1) != 0) return (ending){0};
    return (ending){.in_order = true,
                    .done = strstr(line, "\"reason\":\"done\"") != NULL,
                    .step = strtoull(line + sizeof stop - 1, NULL, 10)};
}

/* Steps of the run's newest checkpoint; 0: it has none. */
static unsigned long long saved_steps(const char *run_path) {
    char folder[PATH_ROOM], newest[PATH_ROOM];
    if (!join(run_path, "checkpoints", folder) || mst_checkpoint_newest(folder, 0, newest) != MST_OK)
        return 0;
    const char *digits = strrchr(newest, '-'); /* step-00001000 */
    return digits != NULL ? strtoull(digits + 1, NULL, 10) : 0;
}

static void say_unfinished(FILE *file, const run *r, const char *config_path, unsigned long long saved,
                           unsigned long long steps, bool in_order) {
    const double age = difftime(time(NULL), r->time);
    if (age < RUNNING_SECONDS && !in_order) {
        fprintf(file,
                "The run %s (%llu steps) seems to be at work: it wrote metrics %.0f seconds ago.\n"
                "If it is not, this goes on with it:\n\n",
                r->path, steps, age > 0 ? age : 0);
    } else if (saved > 0) {
        fprintf(file, "The run %s has done %llu of its %llu steps. To go on from there:\n\n", r->path, saved,
                steps);
    } else {
        fprintf(file, "The run %s (%llu steps) has no checkpoint yet. To begin it again:\n\n", r->path,
                steps);
    }
    put_command(file, "muster train %s --run %s", config_path, r->path);
    fputs("\nAlone, or under mpirun or srun: any number of ranks comes to the same result.\n", file);
}

static void say_finished(FILE *file, const run *r, unsigned long long saved, unsigned long long steps) {
    char *const report[] = {(char[]){"report"}};
    int named;
    if (saved >= steps)
        fprintf(file, "The run %s has done all of its %llu steps. Now:\n\n", r->path, steps);
    else
        fprintf(file, "The run %s has reached its target after %llu steps. Now:\n\n", r->path, saved);
    put_command(file, "muster generate %s --prompt \"The \"", r->path, "");
    if (cli_find(1, report, &named) != NULL)
        put_command(file, "muster report %s -o report.html", r->path, "");
    put_command(file, "muster verify %s", r->path, "");
}

/* Says what to do with the newest run; false: there is none, or its config cannot be read. */
static bool say_run(FILE *file) {
    run r;
    char path[PATH_ROOM];
    mst_config config = {0};
    find_run(&r);
    if (r.time == 0 || !join(r.path, "config.yaml", path)) return false;
    if (mst_config_load(path, NULL, 0, NULL, &config) != MST_OK) return false;
    const unsigned long long saved = saved_steps(r.path), steps = config.run.steps;
    const ending last = read_ending(r.path);
    if (saved >= steps || (last.done && saved > 0 && last.step == saved))
        say_finished(file, &r, saved, steps);
    else
        say_unfinished(file, &r, path, saved, steps, last.in_order);
    mst_config_clear(&config);
    return true;
}

/* ---- configs and token files ---- */

typedef struct found {
    char config[PATH_ROOM];  /* a config; "": none */
    char missing[PATH_ROOM]; /* a token file of it that is not there; "": all are */
    bool broken;             /* what should be a config cannot be read as one */
    time_t time;
    double size;
} found;

/* Whether a file that is no right config was meant to be one: it has two of its sections. */
static bool means_config(const char *path) {
    char text[CONFIG_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    return strstr(text, "\nmodel:") != NULL && strstr(text, "\nschedule:") != NULL;
}

/* The path as seen from here, when it lies below. */
static const char *from_here(const char *path) {
    char here[PATH_MAX];
    if (getcwd(here, sizeof here) == NULL) return path;
    size_t length = strlen(here);
    return strncmp(path, here, length) == 0 && path[length] == '/' ? path + length + 1 : path;
}

static void read_config(const char *path, const mst_config *config, found *f) {
    snprintf(f->config, sizeof f->config, "%s", path);
    f->size = (double)config->model.n_layers * (double)config->model.d_model * (double)config->model.d_model;
    for (size_t i = 0; i < config->data.source_count && f->missing[0] == '\0'; i++)
        if (!mst_data_is_there(config->data.sources[i].path) && is_showable(config->data.sources[i].path))
            snprintf(f->missing, sizeof f->missing, "%s", from_here(config->data.sources[i].path));
}

/* Of two configs the one to go on with: one that is right; one with its data, and of such the newest, since
 * somebody works with it; without data the smallest, to begin with. */
static bool is_better(const found *new, const found *old) {
    if (old->config[0] == '\0') return true;
    if (new->broken != old->broken) return old->broken;
    const bool ready = new->missing[0] == '\0', was_ready = old->missing[0] == '\0';
    if (ready != was_ready) return ready;
    return ready ? new->time > old->time : new->size < old->size;
}

static void consider_config(const char *path, time_t time, found *best) {
    mst_config config = {0};
    found f = {.time = time};
    if (mst_config_load(path, NULL, 0, NULL, &config) == MST_OK) {
        read_config(path, &config, &f);
        mst_config_clear(&config);
    } else if (means_config(path)) {
        snprintf(f.config, sizeof f.config, "%s", path);
        f.broken = true;
    }
    if (f.config[0] != '\0' && is_better(&f, best)) *best = f;
}

/* Whether an HDF5 file is one of 'muster data build': these begin with a line of text. */
static bool is_token_file(const char *path) {
    static const char wanted[] = "muster tokens ";
    char begin[sizeof wanted] = "";
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    size_t length = fread(begin, 1, sizeof wanted - 1, file);
    fclose(file);
    return length == sizeof wanted - 1 && strcmp(begin, wanted) == 0;
}

/* Looks for configs in a folder, and for token files, of which it keeps one's path. */
static void search(const char *folder_path, found *best, char tokens_out[PATH_ROOM]) {
    char path[PATH_ROOM];
    struct stat info;
    DIR *folder = opendir(folder_path);
    const struct dirent *entry;
    int configs = 0;
    for (int i = 0; folder != NULL && i < NAMES_MOST && (entry = readdir(folder)) != NULL; i++) {
        const char *name = entry->d_name;
        const bool config = has_suffix(name, ".yaml") || has_suffix(name, ".yml");
        if (name[0] == '.' || !is_showable(name) || (!config && !has_suffix(name, ".h5"))) continue;
        if (!join(folder_path, name, path) || stat(path, &info) != 0 || !S_ISREG(info.st_mode)) continue;
        if (config && info.st_size <= CONFIG_BYTES && configs++ < CONFIGS_MOST)
            consider_config(path, info.st_mtime, best);
        else if (!config && tokens_out[0] == '\0' && is_token_file(path))
            snprintf(tokens_out, PATH_ROOM, "%s", path);
    }
    if (folder != NULL) closedir(folder);
}

static void say_config(FILE *file, const found *f) {
    if (f->broken) {
        fprintf(file, "The config %s is not right yet. This says what is wrong:\n\n", f->config);
    } else if (f->missing[0] != '\0') {
        fprintf(file, "The config %s is there, but not its token file %s.\n", f->config, f->missing);
        fputs("To make that one of your texts, and to train:\n\n", file);
        put_command(file, "muster data build TEXTS/ -o %s", f->missing, "");
    } else {
        fprintf(file, "The config %s and its token files are there. To train:\n\n", f->config);
    }
    put_command(file, "muster train %s", f->config, "");
    if (!f->broken)
        fputs("\nAlone, or under mpirun or srun: any number of ranks comes to the same result.\n", file);
}

/* The three commands to begin with; with token files, two. */
static void say_beginning(FILE *file, const char *lead, const char *tokens) {
    fprintf(file, "%s\n\n", lead);
    if (tokens[0] == '\0') put_command(file, "muster data build TEXTS/ -o tokens.h5", "", "");
    put_command(file, "muster train --help-config >config.yaml", "", "");
    put_command(file, "muster train config.yaml", "", "");
    if (tokens[0] == '\0')
        fputs("\nTEXTS/ is a folder of .txt or .jsonl files, also .gz or .zst; config.yaml gets\n"
              "every key with its meaning, ready to be used and to be edited.\n",
              file);
    else if (strcmp(tokens, "tokens.h5") != 0)
        fprintf(file, "\nIn config.yaml, write %s for tokens.h5 in data.sources.\n", tokens);
}

/* By the configs and the token files of the working directory, or of configs/ in it. */
static void say_files(FILE *file) {
    found best = {.config = ""};
    char tokens[PATH_ROOM] = "";
    search(".", &best, tokens);
    bool here = best.config[0] != '\0' || tokens[0] != '\0';
    if (!here) search("configs", &best, tokens);
    if (!here && best.missing[0] != '\0' && access("run", X_OK) == 0 &&
        access("configs/quickstart.sh", X_OK) == 0) {
        fputs("This is muster's source tree. To see a small model learn C in minutes:\n\n", file);
        put_command(file, "./run quickstart", "", "");
        fputc('\n', file);
        say_beginning(file, "To begin with texts of your own:", "");
    } else if (best.config[0] != '\0') {
        say_config(file, &best);
    } else {
        say_beginning(file,
                      tokens[0] != '\0'
                          ? "There is no config here yet. To write one and to train:"
                          : "There is nothing of muster's here yet. To begin, with any text that you have:",
                      tokens);
    }
}

void cli_next(FILE *file) {
    if (!say_run(file)) say_files(file);
    fputs("\n'muster --help' lists all commands.\n", file);
}
