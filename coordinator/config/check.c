/* Defaults, and the checks of values against each other. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "muster/convert.h"
#include "reader.h"

/* Number of the key that reads into a member of mst_config. */
#define KEY(member) config_key_at(offsetof(mst_config, member))

static bool is_given(const config_reader *reader, size_t key) {
    return reader->places[key].text != NULL;
}

mst_status mst_config_lora(const mst_config *config, mst_lora *lora_out) {
    const double rank = (double)config->lora.rank;
    *lora_out = (mst_lora){.rank = config->lora.rank};
    if (config->lora.rank == 0) return MST_OK;
    lora_out->scale = config->lora.alpha / (config->lora.rslora ? sqrt(rank) : rank);
    return mst_lora_targets(config->model.family, config->lora.targets, &lora_out->targets);
}

mst_status mst_config_held_lora(const mst_config *config, const char *name, mst_lora *lora_out) {
    mst_status status = MST_OK;
    MST_CHECK(config->lora.rank > 0, MST_EFORMAT, "%s holds adapters, but lora.rank is 0 in its config",
              name);
    MST_TRY(mst_config_lora(config, lora_out));
done:
    return status;
}

size_t mst_config_attention_workspace(const mst_config *config) {
    const bool possible = config->train.precision == MST_BF16 && config->data.packing == MST_PACKING_STREAM;
    const size_t bytes = (size_t)config->device.attention_workspace << 20,
                 besides = 4096; /* what it takes for itself */
    return possible && bytes > 0 ? bytes + besides : 0;
}

mst_status mst_config_layout(const mst_config *config, mst_layout *layout_out) {
    mst_lora lora;
    const mst_status status = mst_config_lora(config, &lora);
    *layout_out = (mst_layout){0};
    if (status != MST_OK) return status;
    return lora.rank > 0 ? mst_lora_layout(&config->model, &lora, layout_out)
                         : mst_model_layout(&config->model, layout_out);
}

void config_apply_defaults(config_reader *reader) {
    char why[CONFIG_WHY_MAX];
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (key->fallback == NULL) continue;
        if (!config_scalar_read(reader, key, key->fallback, false, config_key_field(key, reader->config),
                                why))
            reader->status = mst_error(MST_EINTERNAL, "default of %s: %s", key->path, why);
    }
}

/* The nearest place to blame for a key: its value, its section, or the file. */
static config_place place_to_blame(const config_reader *reader, size_t key) {
    if (is_given(reader, key)) return reader->places[key];
    for (size_t i = 0; i < config_section_count; i++)
        if (config_key_in(&config_keys[key], &config_sections[i]) && reader->sections[i].text != NULL)
            return reader->sections[i];
    return (config_place){.text = reader->source, .line = 1, .column = 1};
}

#define REPORT(reader, member, ...)                                                                          \
    config_report(reader, place_to_blame(reader, KEY(member)), config_keys[KEY(member)].path, __VA_ARGS__)

static void report_missing(config_reader *reader) {
    char expected[120];
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (key->fallback != NULL || key->derived != NULL || is_given(reader, i)) continue;
        if (i == KEY(run.steps) && reader->config->run.epochs > 0) continue;
        config_key_describe(key, expected, sizeof expected);
        config_report(reader, place_to_blame(reader, i), key->path,
                      "required, but missing; give it %s, such as %s", expected, key->example);
    }
}

static void derive_name(config_reader *reader) {
    if (reader->config->run.name != NULL || is_given(reader, KEY(run.name))) return;
    char name[128];
    const char *slash = strrchr(reader->source, '/'), *start = slash != NULL ? slash + 1 : reader->source;
    const char *dot = strrchr(start, '.');
    size_t length = dot != NULL && dot > start ? (size_t)(dot - start) : strlen(start);
    snprintf(name, sizeof name, "%.*s", (int)(length < 100 ? length : 100), start);
    for (char *c = name; *c != '\0'; c++) {
        bool fine = strchr("._-", *c) != NULL || (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                    (*c >= 'A' && *c <= 'Z');
        if (!fine) *c = '-';
    }
    reader->config->run.name = strdup(name);
    if (reader->config->run.name == NULL) reader->status = mst_error(MST_ENOMEM, "run.name: no memory");
}

/* What model.init says of the model goes before the defaults, and what the config says before that. A config that gives every
 * key, as runs and checkpoints store it, needs nothing from there. */
static void derive_model(config_reader *reader) {
    mst_model_config model;
    bool wanted = false;
    const size_t first = offsetof(mst_config, model), end = first + sizeof model;
    for (size_t i = 0; i < config_key_count; i++)
        wanted |= config_keys[i].offset >= first && config_keys[i].offset < end && !is_given(reader, i);
    if (reader->config->init == NULL || !wanted) return;
    const size_t init = KEY(init);
    const mst_status status = mst_init_model(reader->config->init, &model);
    if (status != MST_OK) {
        reader->incomplete = true; /* what is missing would have stood there */
        config_report(reader, place_to_blame(reader, init), config_keys[init].path, "%s",
                      mst_error_message());
        return;
    }
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        if (key->offset < first || key->offset >= end || is_given(reader, i)) continue;
        memcpy(config_key_field(key, reader->config), (const char *)&model + (key->offset - first),
               key->size);
        reader->places[i] = reader->places[init];
    }
}

/* From run.steps; what is given stays. */
static void derive_schedule(mst_config *config, bool warmup_given, bool decay_given) {
    const uint64_t steps = config->run.steps;
    const double ratio = config->schedule_warmup_ratio;
    config->schedule.steps = steps;
    if (!warmup_given)
        config->schedule.warmup = ratio > 0 ? (uint64_t)ceil(ratio * (double)steps) : steps / 100;
    if (!decay_given) config->schedule.decay = config->schedule.kind == MST_SCHEDULE_WSD ? steps / 5 : 0;
}

void config_derive(config_reader *reader) {
    mst_config *config = reader->config;
    mst_model_config *model = &config->model;
    derive_name(reader);
    derive_model(reader);
    derive_schedule(config, is_given(reader, KEY(schedule.warmup)), is_given(reader, KEY(schedule.decay)));
    if (!is_given(reader, KEY(lora.alpha))) config->lora.alpha = 2 * (double)config->lora.rank;
    if (!is_given(reader, KEY(model.n_kv_heads))) model->n_kv_heads = model->n_heads;
    if (!is_given(reader, KEY(model.head_dim)) && model->n_heads > 0)
        model->head_dim = model->d_model / model->n_heads;
    if (!is_given(reader, KEY(model.max_seq_len))) model->max_seq_len = config->data.seq_len;
    if (!is_given(reader, KEY(model.d_ff)))
        model->d_ff = mst_model_default_d_ff(model->family, model->d_model);
}

static void check_model(config_reader *reader) {
    mst_model_config model = reader->config->model;
    if (!is_given(reader, KEY(model.head_dim)) && model.n_heads > 0 && model.d_model % model.n_heads != 0) {
        REPORT(reader, model.n_heads,
               "%zu heads do not divide d_model %zu evenly; choose a divisor, or give model.head_dim",
               model.n_heads, model.d_model);
        return;
    }
    if (model.vocab_size == 0) model.vocab_size = MST_BYTE_VOCAB; /* the data's will take its place */
    if (mst_model_config_check(&model) == MST_OK) return;

    /* The message begins with the key: show where that one stands. */
    const char *message = mst_error_message();
    char path[64];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(message, " "), message);
    size_t blamed = config_key_find(path);
    if (blamed == config_key_count) blamed = KEY(model.family);
    config_report(reader, place_to_blame(reader, blamed), "", "%s", message);
}

static void check_lora(config_reader *reader) {
    const mst_config *config = reader->config;
    mst_lora lora;
    if (config->lora.dropout > 0)
        REPORT(reader, lora.dropout, "%g: muster trains without dropout; leave it out, or set it to 0",
               config->lora.dropout);
    if (config->lora.rank == 0) {
        if (config->lora.init != NULL)
            REPORT(reader, lora.init,
                   "these adapters would not be used, since lora.rank is 0; set that to their rank");
        return;
    }
    if (config->init == NULL)
        REPORT(reader, lora.rank,
               "adapters need a model that they adapt; set model.init to its folder or checkpoint");
    if (config->lora.alpha == 0)
        REPORT(reader, lora.alpha, "adapters that are multiplied by 0 learn nothing; usual is 2 * lora.rank");
    if (config->batch.shape.sharding == MST_SHARDING_ALL)
        REPORT(reader, batch.shape.sharding,
               "adapters are small, and the model that they adapt is not sharded; leave it at 'state'");
    if (mst_config_lora(config, &lora) != MST_OK)
        config_report(reader, place_to_blame(reader, KEY(lora.targets)), "", "%s", mst_error_message());
}

static void check_batch(config_reader *reader) {
    const mst_config *config = reader->config;
    const mst_sum_shape *shape = &config->batch.shape;
    if ((shape->lanes & (shape->lanes - 1)) != 0)
        REPORT(reader, batch.shape.lanes,
               "%zu is not a power of two; expected 1, 2, 4, 8, 16, 32, 64, 128 or 256", shape->lanes);
    /* Each factor is at most 1e8, so that products in fp64 cannot hide an overflow. */
    double microbatches = (double)shape->leaf * (double)shape->lanes * (double)shape->rounds;
    if (microbatches > 1e6)
        REPORT(reader, batch.shape.leaf,
               "leaf * lanes * rounds = %.0f microbatches a step; at most 1000000 are possible",
               microbatches);
    double samples = microbatches * (double)config->batch.micro * (double)config->run.steps;
    if (samples > 0x1p62)
        REPORT(reader, run.steps,
               "%" PRIu64 " steps of %.0f samples are %g samples; at most 2^62 can be numbered",
               config->run.steps, microbatches * (double)config->batch.micro, samples);
    double tokens = (double)config->batch.micro * (double)config->data.seq_len;
    if (tokens > INT32_MAX)
        REPORT(reader, batch.micro, "micro * seq_len = %.0f tokens in a microbatch; at most %d are possible",
               tokens, INT32_MAX);
}

static void check_schedule(config_reader *reader) {
    const mst_schedule *schedule = &reader->config->schedule;
    bool wsd = schedule->kind == MST_SCHEDULE_WSD;
    if (schedule->steps == 0) return; /* mst_config_count_steps will know */
    if (schedule->warmup > schedule->steps)
        REPORT(reader, schedule.warmup,
               "%" PRIu64 " steps of warm-up, but run.steps is %" PRIu64 "; expected at most that",
               schedule->warmup, schedule->steps);
    else if (wsd && schedule->decay > schedule->steps - schedule->warmup)
        REPORT(reader, schedule.decay, "%" PRIu64 " steps of decay, but %" PRIu64 " remain after the warm-up",
               schedule->decay, schedule->steps - schedule->warmup);
    else if (!wsd && schedule->decay > 0)
        REPORT(reader, schedule.decay,
               "only the schedule wsd has a final decay; leave it out, or set schedule.kind to wsd");
}

static void check_name(config_reader *reader) {
    const char *name = reader->config->run.name;
    char quoted[CONFIG_QUOTE_MAX];
    if (name == NULL) return;
    size_t fine = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
    if (name[fine] != '\0' || name[0] == '.' || fine > 100)
        REPORT(reader, run.name,
               "%s cannot name a folder here; expected up to 100 letters, digits, '.', '_', '-', not "
               "beginning with '.'",
               config_quote(name, quoted));
}

/* Only whether the name is one: whether the machine has the level is known when the job runs. */
static void check_level(config_reader *reader) {
    static const char *const levels[] = {"x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-bf16", "generic"};
    const char *level = reader->config->device.level;
    char quoted[CONFIG_QUOTE_MAX];
    for (size_t i = 0; level != NULL && i < sizeof levels / sizeof *levels; i++)
        if (strcmp(level, levels[i]) == 0) return;
    if (level != NULL)
        REPORT(reader, device.level,
               "%s is no instruction-set level; expected x86-64-v2, x86-64-v3, x86-64-v4 or "
               "x86-64-v4-bf16 (on other processors: generic), or null for the best one",
               config_quote(level, quoted));
}

static void check_target(config_reader *reader) {
    const mst_config *config = reader->config;
    if (config->train.target_bits_per_byte > 0 && config->train.eval_every == 0)
        REPORT(reader, train.target_bits_per_byte,
               "%g can never be found reached, since train.eval_every is 0; set that, too",
               config->train.target_bits_per_byte);
}

/* A rollback's goal must not depend on how fast a disk was. */
static void check_busy(config_reader *reader) {
    const mst_config *config = reader->config;
    if (config->checkpoint.when_busy == MST_BUSY_SKIP && config->train.on_nonfinite == MST_NONFINITE_ROLLBACK)
        REPORT(
            reader, checkpoint.when_busy,
            "skip would let the disk's speed decide where train.on_nonfinite: rollback goes; expected wait");
}

static void check_keeping(config_reader *reader) {
    const uint64_t every = reader->config->checkpoint.every, keep = reader->config->checkpoint.keep_every;
    if (keep > 0 && (every == 0 || keep % every != 0))
        REPORT(reader, checkpoint.keep_every,
               "%" PRIu64 " is no multiple of checkpoint.every, %" PRIu64
               ", so that no checkpoint would be made at most of these steps",
               keep, every);
}

static void check_watchdog(config_reader *reader) {
    double seconds = reader->config->watchdog.seconds;
    if (seconds > 0 && seconds < 1)
        REPORT(reader, watchdog.seconds,
               "%g would end jobs whose ranks only wait for a processor; expected at least 1, or 0 for no "
               "watchdog",
               seconds);
}

static void check_epochs(config_reader *reader) {
    const mst_config *config = reader->config;
    if (config->run.epochs > 0 && config->run.steps > 0)
        REPORT(reader, run.epochs,
               "%g passes, but run.steps is given too, %" PRIu64 "; leave out one of them",
               config->run.epochs, config->run.steps);
}

mst_status mst_config_count_steps(mst_config *config, uint64_t samples) {
    mst_status status = MST_OK;
    if (config->run.steps > 0) goto done;
    const mst_sum_shape *shape = &config->batch.shape;
    const double batch = (double)(shape->leaf * shape->lanes * shape->rounds * config->batch.micro);
    const double steps = ceil(config->run.epochs * (double)samples / batch);
    const char *place = mst_config_place(config, "run.epochs");
    MST_CHECK(steps * batch <= 0x1p62 && steps <= 1e12, MST_ECONFIG,
              "%s: run.epochs: %g passes over %" PRIu64 " samples are too many", place, config->run.epochs,
              samples);
    config->run.steps = steps < 1 ? 1 : (uint64_t)steps;
    config->run.epochs = 0;
    derive_schedule(config, config->places[KEY(schedule.warmup)] != NULL,
                    config->places[KEY(schedule.decay)] != NULL);
    const mst_schedule *schedule = &config->schedule;
    const bool wsd = schedule->kind == MST_SCHEDULE_WSD;
    MST_CHECK(schedule->warmup <= schedule->steps &&
                  (!wsd || schedule->decay <= schedule->steps - schedule->warmup),
              MST_ECONFIG,
              "%s: run.epochs: these are %" PRIu64 " steps, but the schedule has %" PRIu64
              " of warm-up and %" PRIu64 " of decay",
              place, schedule->steps, schedule->warmup, schedule->decay);
done:
    return status;
}

void config_check(config_reader *reader) {
    if (!reader->incomplete) report_missing(reader);
    /* Values that are wrong by themselves would only cause more errors. */
    if (reader->error_count > 0) return;
    const mst_config *config = reader->config;
    check_name(reader);
    check_model(reader);
    check_lora(reader);
    check_batch(reader);
    check_epochs(reader);
    check_schedule(reader);
    check_level(reader);
    check_busy(reader);
    check_keeping(reader);
    check_watchdog(reader);
    check_target(reader);
    if (config->data.seq_len > config->model.max_seq_len)
        REPORT(reader, data.seq_len, "%zu is longer than model.max_seq_len %zu; expected at most that",
               config->data.seq_len, config->model.max_seq_len);
}
