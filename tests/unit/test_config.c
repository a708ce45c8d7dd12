/* The config: what is accepted, what is refused and where the error is said to be,
 * and that writing loses nothing. */
#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "muster/config.h"
#include "test.h"

static const char minimal[] = "run: {steps: 500}\n"
                              "model: {d_model: 96, n_layers: 2, n_heads: 6}\n"
                              "data: {sources: [a.h5]}\n"
                              "schedule: {peak: 1e-3}\n";

/* Parses text as "t.yaml"; the caller frees *errors_out. */
static mst_status parse(const char *text, const char *const *overrides, size_t count, mst_config *config_out,
                        char **errors_out) {
    size_t length;
    FILE *file = open_memstream(errors_out, &length);
    mst_status status = mst_config_parse(text, "t.yaml", overrides, count, file, config_out);
    fclose(file);
    return status;
}

static void test_defaults(void) {
    mst_config c;
    char *errors, folder[4096], expected[5000];
    CHECK_OK(parse(minimal, NULL, 0, &c, &errors));
    CHECK(*errors == '\0', "%s", errors);
    free(errors);
    CHECK(strcmp(c.run.name, "t") == 0, "%s", c.run.name);
    CHECK(c.run.dir == NULL && c.run.seed == 0 && c.run.steps == 500, "run");
    CHECK(c.model.family == MST_FAMILY_LLAMA && c.model.vocab_size == 0, "model");
    CHECK(c.model.n_kv_heads == 6 && c.model.head_dim == 16 && c.model.d_ff == 256, "%zu %zu %zu",
          c.model.n_kv_heads, c.model.head_dim, c.model.d_ff);
    CHECK(c.model.max_seq_len == 1024 && c.data.seq_len == 1024 && c.model.tie_embeddings, "model");
    CHECK(c.lora.rank == 0 && strcmp(c.lora.targets, "all-linear") == 0 && c.lora.init == NULL, "lora");
    CHECK(c.model.norm_eps == 1e-5 && c.model.rope_theta == 1e4 && c.model.init_deviation == 0.02, "model");
    CHECK(c.model.rope_factor == 1 && c.model.rope_low_freq_factor == 1 &&
              c.model.rope_high_freq_factor == 4 && c.model.rope_original_seq_len == 8192,
          "rope scaling");
    CHECK(c.batch.micro == 4 && c.batch.shape.leaf == 1 && c.batch.shape.lanes == 8 &&
              c.batch.shape.rounds == 1,
          "batch");
    CHECK(c.batch.shape.wire == MST_F32 && c.batch.transport == MST_TRANSPORT_AUTO, "batch");
    CHECK(c.optimizer.beta1 == 0.9 && c.optimizer.beta2 == 0.95 && c.optimizer.eps == 1e-8, "optimizer");
    CHECK(c.optimizer.weight_decay == 0.1 && c.optimizer.clip_norm == 1, "optimizer");
    CHECK(!c.optimizer.decay_norms && c.optimizer.decay_embeddings, "optimizer");
    CHECK(c.schedule.kind == MST_SCHEDULE_COSINE && c.schedule.peak == 1e-3 && c.schedule.min_ratio == 0.1,
          "schedule");
    CHECK(c.schedule.warmup == 5 && c.schedule.decay == 0 && c.schedule.steps == 500, "schedule");
    CHECK(c.train.precision == MST_BF16 && c.train.z_loss == 0 && c.train.on_nonfinite == MST_NONFINITE_STOP,
          "train");
    CHECK(c.checkpoint.every == 0 && c.checkpoint.minutes == 30 && c.checkpoint.keep == 3 &&
              c.checkpoint.keep_every == 0 && c.checkpoint.keep_best == 1,
          "checkpoint");
    CHECK(c.checkpoint.async && c.checkpoint.when_busy == MST_BUSY_WAIT, "checkpoint");
    CHECK(c.device.kernels == MST_DEVICE_CPU && c.device.level == NULL && c.device.threads == 0, "device");
    CHECK(c.watchdog.seconds == 60 && c.run.minutes == 0, "watchdog, run.minutes");
    CHECK(c.data.source_count == 1 && c.data.sources[0].weight == 1, "data");
    CHECK(getcwd(folder, sizeof folder) != NULL, "getcwd");
    snprintf(expected, sizeof expected, "%s/a.h5", folder);
    CHECK(strcmp(c.data.sources[0].path, expected) == 0, "%s", c.data.sources[0].path);
    mst_config_clear(&c);
    mst_config_clear(&c); /* twice is fine */
}

/* Derived defaults of the other family and schedule; explicit values stand. */
static void test_derived(void) {
    static const char *const sets[] = {"model.family=gpt2", "schedule.kind=wsd", "data.seq_len=64",
                                       "run.steps=10"};
    static const char *const given[] = {"model.d_ff=100",         "model.head_dim=8",  "model.n_kv_heads=3",
                                        "model.max_seq_len=2000", "schedule.warmup=0", "run.name=x-1"};
    mst_config c;
    char *errors;
    CHECK_OK(parse(minimal, sets, 4, &c, &errors));
    CHECK(c.model.d_ff == 384 && c.model.max_seq_len == 64, "%zu %zu", c.model.d_ff, c.model.max_seq_len);
    CHECK(c.schedule.warmup == 0 && c.schedule.decay == 2 && c.schedule.steps == 10, "schedule");
    mst_config_clear(&c);
    free(errors);
    CHECK_OK(parse(minimal, given, 6, &c, &errors));
    CHECK(c.model.d_ff == 100 && c.model.head_dim == 8 && c.model.n_kv_heads == 3 &&
              c.model.max_seq_len == 2000,
          "given");
    CHECK(c.schedule.warmup == 0 && strcmp(c.run.name, "x-1") == 0, "given");
    mst_config_clear(&c);
    free(errors);
}

/* ---- errors ---- */

typedef struct mistake {
    const char *text; /* comes after the minimal config's text, or (when it starts with "!") instead of it */
    const char *set;  /* an override, or NULL */
    const char *line; /* that must be among the errors, whole */
} mistake;

static const mistake mistakes[] = {
    {"optimizer:\n  bta1: 0.9\n", NULL,
     "t.yaml:6:3: error: optimizer: unknown key 'bta1'; did you mean 'beta1'?"},
    {"optimizer:\n  lr: 1\n  peak: 1\n", NULL,
     "t.yaml:7:3: error: optimizer: unknown key 'peak'; did you mean 'schedule.peak'?"},
    {"watchdog: {zzzzz: 1}\n", NULL,
     "t.yaml:5:12: error: watchdog: unknown key 'zzzzz'; known here: seconds"},
    {"optimiser: {}\n", NULL, "t.yaml:5:1: error: unknown section 'optimiser'; did you mean 'optimizer'?"},
    {"lanes: 4\n", NULL, "t.yaml:5:1: error: unknown section 'lanes'; did you mean 'batch.lanes'?"},
    {"train: {z_loss: 0, z_loss: 0}\n", NULL,
     "t.yaml:5:20: error: train.z_loss: key given twice; first in line 5"},
    {"run: {seed: 1}\n", NULL, "t.yaml:5:1: error: run: section given twice; first in line 1"},
    {"batch: {micro: 12.5}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '12.5' is not a whole number in plain digits; expected a whole number "
     "from 1 to 65536"},
    {"batch: {micro: 1e2}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '1e2' is not a whole number in plain digits; expected a whole number "
     "from 1 to 65536"},
    {"batch: {micro: 4x}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '4x' is not a whole number in plain digits; expected a whole number "
     "from 1 to 65536"},
    {"batch: {micro: 010}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '010' has a leading zero; expected a whole number from 1 to 65536"},
    {"batch: {micro: \"4\"}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '4' is text, for it stands in quotes; expected a whole number from 1 "
     "to 65536"},
    {"batch:\n  micro:\n", NULL,
     "t.yaml:6:9: error: batch.micro: '' says nothing; expected a whole number from 1 to 65536"},
    {"batch: {micro: 0}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '0' is out of range; expected a whole number from 1 to 65536"},
    {"batch: {micro: -3}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '-3' is out of range; expected a whole number from 1 to 65536"},
    {"batch: {micro: 18446744073709551617}\n", NULL,
     "t.yaml:5:16: error: batch.micro: '18446744073709551617' is out of range; expected a whole number from "
     "1 to 65536"},
    {"batch: {lanes: 6}\n", NULL,
     "t.yaml:5:16: error: batch.lanes: 6 is not a power of two; expected 1, 2, 4, 8, 16, 32, 64, 128 or 256"},
    {"batch: {leaf: 1000, rounds: 1000}\n", NULL,
     "t.yaml:5:15: error: batch.leaf: leaf * lanes * rounds = 8000000 microbatches a step; at most 1000000 "
     "are possible"},
    {"batch: [1]\n", NULL, "t.yaml:5:8: error: batch: expected keys with values, found a list"},
    {"batch: {micro: [4]}\n", NULL,
     "t.yaml:5:16: error: batch.micro: expected a whole number from 1 to 65536, found a list"},
    {"batch: {wire: b16}\n", NULL,
     "t.yaml:5:15: error: batch.wire: 'b16' is not known; expected one of f32, bf16; did you mean bf16?"},
    {"optimizer: {beta1: 1}\n", NULL,
     "t.yaml:5:20: error: optimizer.beta1: '1' is out of range; expected a number not below 0 and below 1"},
    {"optimizer: {eps: .nan}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '.nan' is not finite; expected a number above 0 and not above 1"},
    {"optimizer: {eps: -.inf}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '-.inf' is not finite; expected a number above 0 and not above 1"},
    {"optimizer: {eps: 1e-999}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '1e-999' is too small for a double; expected a number above 0 and "
     "not above 1"},
    {"optimizer: {eps: 1e999}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '1e999' is too large for a double; expected a number above 0 and "
     "not above 1"},
    {"optimizer: {eps: 3e-4x}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '3e-4x' is not a number; expected a number above 0 and not above 1"},
    {"optimizer: {eps: 0x1p-3}\n", NULL,
     "t.yaml:5:18: error: optimizer.eps: '0x1p-3' is not a number; expected a number above 0 and not above "
     "1"},
    {"optimizer: {eps: !!float 1}\n", NULL,
     "t.yaml:5:18: error: tag 'tag:yaml.org,2002:float': tags are not used here; write the bare value"},
    {"optimizer: {eps: !!str 1}\n", NULL,
     "t.yaml:5:18: error: tag 'tag:yaml.org,2002:str': tags are not used here; write the bare value"},
    {"optimizer: !mine {eps: 1}\n", NULL,
     "t.yaml:5:12: error: tag '!mine': tags are not used here; write the bare value"},
    {"device: {level: \"a\\0b\"}\n", NULL,
     "t.yaml:5:17: error: device.level: the value has a NUL character inside"},
    {"device: {level: \"a\\eb\"}\n", NULL,
     "t.yaml:5:17: error: device.level: 'a?b' has a control character; expected text"},
    {"device: {? [1] : 2}\n", NULL, "t.yaml:5:12: error: device: expected the name of a key, found a list"},
    {"checkpoint:\n\tkeep: 1\n", NULL, "t.yaml:6:1: error: a tab character; YAML is indented with spaces"},
    {"checkpoint: *x\n", NULL, "t.yaml:5:13: error: YAML syntax: found undefined alias"},
    {"checkpoint: \"\xff\"\n", NULL,
     "t.yaml:5:14: error: invalid leading UTF-8 octet (0xff); a config is plain UTF-8 text"},
    {"--- \na: b\n", NULL, "t.yaml:5:1: error: a second YAML document; a config is one"},
    {"x: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", NULL,
     "t.yaml:5:19: error: nested deeper than 16 levels"},
    {"", "schedule.decay=5",
     "--set schedule.decay=5: error: schedule.decay: only the schedule wsd has a final decay; leave it out, "
     "or set schedule.kind to wsd"},
    {"", "schedule.warmup=501",
     "--set schedule.warmup=501: error: schedule.warmup: 501 steps of warm-up, but run.steps is 500; "
     "expected at most that"},
    {"", "model.n_heads=5",
     "--set model.n_heads=5: error: model.n_heads: 5 heads do not divide d_model 96 evenly; choose a "
     "divisor, or give model.head_dim"},
    {"", "model.n_kv_heads=4",
     "--set model.n_kv_heads=4: error: model.n_kv_heads is 4; it must divide model.n_heads, which is 6"},
    {"", "model.rope_factor=0",
     "--set model.rope_factor=0: error: model.rope_factor: '0' is out of range; expected a number from 1 to "
     "1e+06"},
    {"", "model.family=olmo",
     "--set model.family=olmo: error: model.family: 'olmo' is not known; expected one of llama, gpt2, olmo2, "
     "qwen2, qwen3; did you mean olmo2?"},
    {"", "model.max_seq_len=10",
     "t.yaml:3:1: error: data.seq_len: 1024 is longer than model.max_seq_len 10; expected at most that"},
    {"", "model.tie_embeddings=yes",
     "--set model.tie_embeddings=yes: error: model.tie_embeddings: 'yes' is not a boolean; expected true or "
     "false"},
    {"", "data.sources=[{path: x, wieght: 1}]",
     "--set data.sources=[{path: x, wieght: 1}]: error: data.sources[0]: unknown key 'wieght'; known here: "
     "path, weight, heldout"},
    {"", "data.sources=[{weight: 1}]",
     "--set data.sources=[{weight: 1}]: error: data.sources[0]: path is missing"},
    {"", "data.sources=[x, {path: y, weight: 0}]",
     "--set data.sources=[x, {path: y, weight: 0}]: error: data.sources[1].weight: '0' is out of range; "
     "expected a number above 0 "
     "and not above 1e+09"},
    {"", "data.sources=[]",
     "--set data.sources=[]: error: data.sources: no source is listed; expected [tokens.h5] or more"},
    {"", "data.sources=[a",
     "--set data.sources=[a: error: YAML syntax: did not find expected ',' or ']', while parsing a flow "
     "sequence (line 1)"},
    {"", "run.steps=1000000000001",
     "--set run.steps=1000000000001: error: run.steps: '1000000000001' is out of range; expected a whole "
     "number from 1 to 1000000000000"},
    {"batch: {leaf: 100000, micro: 60000}\n", "run.steps=1000000000000",
     "--set run.steps=1000000000000: error: run.steps: 1000000000000 steps of 48000000000 samples are "
     "4.8e+22 "
     "samples; at most 2^62 can be numbered"},
    {"", "watchdog.seconds=0.5",
     "--set watchdog.seconds=0.5: error: watchdog.seconds: 0.5 would end jobs whose ranks only wait for a "
     "processor; expected at least 1, or 0 for no watchdog"},
    {"", "train.head_rows=many",
     "--set train.head_rows=many: error: train.head_rows: 'many' is not a whole number in plain digits; "
     "expected auto or a whole number from 0 to 2147483647"},
    {"", "train.head_rows=18446744073709551615",
     "--set train.head_rows=18446744073709551615: error: train.head_rows: '18446744073709551615' is out of "
     "range; expected auto or a whole number from 0 to 2147483647"},
    {"", "batch.micro=auto",
     "--set batch.micro=auto: error: batch.micro: 'auto' is not a whole number in plain digits; expected a "
     "whole number from 1 to 65536"},
    {"", "run.name=a/b",
     "--set run.name=a/b: error: run.name: 'a/b' cannot name a folder here; expected up to 100 letters, "
     "digits, '.', '_', '-', not "
     "beginning with '.'"},
    {"lora: {rank: 8}\n", NULL,
     "t.yaml:5:14: error: lora.rank: adapters need a model that they adapt; set model.init to its folder or "
     "checkpoint"},
    {"lora: {rank: 8, targets: [q_proj, c_attn]}\n", NULL,
     "t.yaml:5:26: error: lora.targets: 'c_attn' is no projection of a layer in family llama; it has q_proj, "
     "k_proj, v_proj, "
     "o_proj, gate_proj, up_proj, down_proj, and all-linear for all"},
    {"lora: {targets: [q_proj, [v_proj]]}\n", NULL,
     "t.yaml:5:26: error: lora.targets: expected a word, found a list"},
    {"lora: {targets: []}\n", NULL,
     "t.yaml:5:17: error: lora.targets: the list is empty; expected at least one word"},
    {"lora: {targets: ['a,b']}\n", NULL,
     "t.yaml:5:18: error: lora.targets: 'a,b' is no word; expected letters, digits, '.', '_' and '-'"},
    {"lora: {dropout: 0.1}\n", NULL,
     "t.yaml:5:17: error: lora.dropout: 0.1: muster trains without dropout; leave it out, or set it to 0"},
    {"", "lora.alpha=-1",
     "--set lora.alpha=-1: error: lora.alpha: '-1' is out of range; expected a number from 0 to 1e+06"},
    {"", "run.stesp=1", "--set run.stesp=1: error: unknown key 'run.stesp'; did you mean 'run.steps'?"},
    {"", "beta2=1", "--set beta2=1: error: unknown key 'beta2'; did you mean 'optimizer.beta2'?"},
    {"", "model=x",
     "--set model=x: error: 'model' is a section; set its keys one by one, as model.key=value"},
    {"", "zzzzzzzz=x",
     "--set zzzzzzzz=x: error: unknown key 'zzzzzzzz'; 'muster train --help-config' lists all"},
    {"", "run.steps", "--set run.steps: error: expected key=value, such as run.steps=100"},
    {"", "run.steps=", "--set run.steps=: error: run.steps: the value is missing"},
    {"!", NULL,
     "t.yaml:1:1: error: the config is empty; 'muster train --help-config' prints one to begin with"},
    {"!# nothing\n", NULL,
     "t.yaml:1:1: error: the config is empty; 'muster train --help-config' prints one to begin with"},
    {"!just words\n", NULL,
     "t.yaml:1:1: error: expected sections (model:, data:, ...), found a single value"},
    {"!# c\nmodel:\n  n_layers: 2\n", NULL,
     "t.yaml:2:1: error: model.d_model: required, but missing; give it a whole number from 1 to 1048576, "
     "such as 256"},
};

static bool has_line(const char *text, const char *line) {
    size_t length = strlen(line);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
        if ((at == text || at[-1] == '\n') && at[length] == '\n') return true;
    return false;
}

/* Steps from epochs: rounded up, with the schedule that follows from them; what is given stays. */
static void test_epochs(void) {
    static const char text[] =
        "run: {epochs: 2.5}\nmodel: {d_model: 96, n_layers: 2, n_heads: 6}\n"
        "data: {sources: [a.h5]}\nbatch: {micro: 2, lanes: 4}\nschedule: {peak: 1e-3}\n";
    static const char *const wsd = "schedule.kind=wsd",
                             *const ratio[] = {"schedule.warmup_ratio=0.03", "schedule.kind=wsd"},
                             *const given = "schedule.warmup=30", *const both = "run.steps=7";
    mst_config c, again;
    char *errors, *yaml;
    CHECK_OK(parse(text, &wsd, 1, &c, &errors));
    free(errors);
    CHECK(c.run.steps == 0 && c.run.epochs == 2.5, "not counted yet");
    CHECK_OK(mst_config_to_yaml(&c, &yaml));
    CHECK_OK(parse(yaml, NULL, 0, &again, &errors));
    free(errors);
    free(yaml);
    CHECK_OK(mst_config_count_steps(&again, 1001)); /* 2502.5 samples of 8 a step */
    CHECK(again.run.steps == 313 && again.run.epochs == 0 && again.schedule.steps == 313, "%zu steps",
          (size_t)again.run.steps);
    CHECK(again.schedule.warmup == 3 && again.schedule.decay == 62, "the schedule follows");
    CHECK_OK(mst_config_count_steps(&again, 5));
    CHECK(again.run.steps == 313, "they are counted once");
    mst_config_clear(&again);
    mst_config_clear(&c);
    CHECK_OK(parse(text, ratio, 2, &c, &errors));
    free(errors);
    CHECK_OK(mst_config_count_steps(&c, 1001));
    CHECK(c.schedule.warmup == 10, "3 %% of 313, rounded up: %zu", (size_t)c.schedule.warmup);
    mst_config_clear(&c);
    CHECK_OK(parse(text, &given, 1, &c, &errors));
    free(errors);
    CHECK_STATUS(mst_config_count_steps(&c, 10), MST_ECONFIG); /* 4 steps */
    mst_config_clear(&c);
    CHECK_STATUS(parse(text, &both, 1, &c, &errors), MST_ECONFIG);
    CHECK(strstr(errors, "run.epochs: 2.5 passes, but run.steps is given too, 7") != NULL, "%s", errors);
    free(errors);
}

static void test_mistakes(void) {
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const mistake *m = &mistakes[i];
        char text[1024], *errors;
        mst_config c;
        if (*m->text == '!')
            snprintf(text, sizeof text, "%s", m->text + 1);
        else
            snprintf(text, sizeof text, "%s%s", minimal, m->text);
        CHECK_STATUS(parse(text, &m->set, m->set != NULL, &c, &errors), MST_ECONFIG);
        CHECK(has_line(errors, m->line), "mistake %zu: expected\n%s\ngot\n%s", i, m->line, errors);
        CHECK(c.run.name == NULL && c.data.sources == NULL, "a refused config is empty");
        free(errors);
    }
}

/* All errors are reported at once, and counted. */
static void test_many(void) {
    static const char text[] = "model: {d_model: x, n_layers: -1, n_heads: 2, nheads: 3}\nrun: {seed: 1.5}\n";
    mst_config c;
    char *errors;
    size_t lines = 0;
    CHECK_STATUS(parse(text, NULL, 0, &c, &errors), MST_ECONFIG);
    for (const char *s = errors; *s != '\0'; s++) lines += *s == '\n';
    CHECK(lines == 7, "4 wrong and 3 missing, got\n%s", errors);
    CHECK(strcmp(mst_error_message(),
                 "config t.yaml: 7 errors; 'muster train --help-config' describes every key") == 0,
          "%s", mst_error_message());
    free(errors);
    CHECK_STATUS(mst_config_load("no-such-file.yaml", NULL, 0, NULL, &c), MST_ECONFIG);
    CHECK(strcmp(mst_error_message(), "config no-such-file.yaml: No such file or directory") == 0, "%s",
          mst_error_message());
    CHECK_STATUS(mst_config_load(".", NULL, 0, NULL, &c), MST_ECONFIG);
}

/* Aliases are shared, not expanded: nine to the power of thirty paths are a list of nine wrong ones. */
static void test_aliases(void) {
    char text[8192];
    mst_config c;
    char *errors;
    int used = snprintf(text, sizeof text, "%sa0: &a0 [x,x,x,x,x,x,x,x,x]\n", minimal);
    for (int i = 1; i <= 30; i++)
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1,
                         i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    snprintf(text + used, sizeof text - (size_t)used, "batch: {micro: *a30}\n");
    CHECK_STATUS(parse(text, NULL, 0, &c, &errors), MST_ECONFIG);
    free(errors);
    CHECK_OK(parse("run: {steps: &n 7}\nmodel: {d_model: 8, n_layers: *n, n_heads: 1}\ndata: {sources: "
                   "a}\nschedule: {peak: 1}\n",
                   NULL, 0, &c, &errors));
    CHECK(c.model.n_layers == 7, "%zu", c.model.n_layers);
    mst_config_clear(&c);
    free(errors);
}

/* ---- writing ---- */

/* Text, parsed and written, parsed and written again. */
static void check_round_trip(const mst_config *config, const char *what) {
    char *once, *twice, *errors;
    mst_config again;
    CHECK_OK(mst_config_to_yaml(config, &once));
    CHECK(parse(once, NULL, 0, &again, &errors) == MST_OK, "%s: %s\nof\n%s", what, errors, once);
    CHECK_OK(mst_config_to_yaml(&again, &twice));
    CHECK(strcmp(once, twice) == 0, "%s:\n%s\nbecame\n%s", what, once, twice);
    CHECK(memcmp(&config->optimizer, &again.optimizer, sizeof again.optimizer) == 0, "%s: optimizer", what);
    CHECK(config->schedule.peak == again.schedule.peak && config->run.seed == again.run.seed,
          "%s: peak, seed", what);
    mst_config_clear(&again);
    free(errors);
    free(once);
    free(twice);
}

static void test_round_trip(void) {
    static const char *const sets[] = {
        "run.seed=18446744073709551615",
        "run.dir=\"/a \\\" \\\\ \xc3\xa9 \\u2028 \\U0001F600 # : \"",
        "device.level=null",
        "data.sources=[{path: '/x: y', weight: 0.1}, {path: /z.bin, heldout: /v.bin}]",
        "data.dtype=uint32",
        "data.tokenizer=/t/tokenizer.json",
        "optimizer.eps=4.9406564584124654e-300",
        "optimizer.beta1=0.1000000000000000055511151231257827",
        "optimizer.beta2=0.99999999999999988",
        "schedule.peak=0.30000000000000004",
        "checkpoint.minutes=123456.789",
        "lora.targets=[q_proj, v_proj]",
        "train.head_rows=auto",
        "device.threads=3"};
    mst_config c;
    char *errors;
    CHECK(parse(minimal, sets, sizeof sets / sizeof *sets, &c, &errors) == MST_OK, "%s", errors);
    CHECK(strcmp(c.run.dir, "/a \" \\ \xc3\xa9 \xe2\x80\xa8 \xf0\x9f\x98\x80 # : ") == 0, "%s", c.run.dir);
    CHECK(c.run.seed == UINT64_MAX && c.device.threads == 3 && c.device.level == NULL, "values");
    CHECK(strcmp(c.data.sources[0].path, "/x: y") == 0 && c.data.sources[0].weight == 0.1, "sources");
    CHECK(c.data.sources[0].heldout == NULL && strcmp(c.data.sources[1].heldout, "/v.bin") == 0, "held out");
    CHECK(c.data.type == MST_TOKENS_UINT32 && strcmp(c.data.tokenizer, "/t/tokenizer.json") == 0, "tokens");
    CHECK(strcmp(c.lora.targets, "q_proj,v_proj") == 0, "%s", c.lora.targets);
    CHECK(c.train.head_rows == MST_CONFIG_AUTO, "%llu", (unsigned long long)c.train.head_rows);
    check_round_trip(&c, "awkward values");
    mst_config_clear(&c);
    free(errors);
}

static void count_change(void *context, const char *key, const char *before, const char *after, bool fixed) {
    char *text = context;
    size_t used = strlen(text);
    snprintf(text + used, 400 - used, "%s %s->%s %d;", key, before, after, fixed);
}

static void test_compare(void) {
    static const char *const sets[] = {"optimizer.beta1=0.8", "device.threads=2", "batch.micro=3"};
    mst_config a, b;
    char *errors_a, *errors_b, changes[400] = "";
    CHECK_OK(parse(minimal, NULL, 0, &a, &errors_a));
    CHECK_OK(parse(minimal, sets, 3, &b, &errors_b));
    CHECK_OK(mst_config_compare(&a, &a, count_change, changes));
    CHECK(*changes == '\0', "%s", changes);
    CHECK_OK(mst_config_compare(&a, &b, count_change, changes));
    CHECK(strcmp(changes, "batch.micro 4->3 1;optimizer.beta1 0.9->0.8 0;device.threads 0->2 0;") == 0, "%s",
          changes);
    mst_config_clear(&a);
    mst_config_clear(&b);
    free(errors_a);
    free(errors_b);
}

/* --help-config is a config; and with every key uncommented it is still one, with the same values. */
static void test_help(void) {
    char *help, *all, *errors;
    size_t length, kept = 0;
    FILE *file = open_memstream(&help, &length);
    mst_config_print_help(file);
    fclose(file);
    all = malloc(length + 1);
    for (char *line = help; *line != '\0';) {
        size_t bytes = strcspn(line, "\n") + 1;
        /* "  # key: value", but not "  # words" or "  # words: more words" */
        size_t word =
            strncmp(line, "  # ", 4) == 0 ? strspn(line + 4, "abcdefghijklmnopqrstuvwxyz_0123456789") : 0;
        bool key =
            word > 0 && line[4 + word] == ':' && memchr(line + 4 + word + 2, ' ', bytes - 6 - word) == NULL;
        if (key) {
            memcpy(all + kept, "  ", 2);
            memcpy(all + kept + 2, line + 4, bytes - 4);
            kept += bytes - 2;
        } else {
            memcpy(all + kept, line, bytes);
            kept += bytes;
        }
        line += bytes;
    }
    all[kept] = '\0';
    mst_config c, d;
    char *yaml;
    CHECK(parse(help, NULL, 0, &c, &errors) == MST_OK, "%s", errors);
    free(errors);
    CHECK(parse(all, NULL, 0, &d, &errors) == MST_OK, "%s\nof\n%s", errors, all);
    free(errors);
    char changes[400] = "";
    CHECK_OK(mst_config_compare(&c, &d, count_change, changes));
    CHECK(strcmp(changes, "run.name \"t\"->\"my-run\" 0;") == 0, "the defaults shown are the defaults: %s",
          changes);
    CHECK_OK(mst_config_to_yaml(&d, &yaml));
    size_t live = 0, written = 0;
    for (char *s = all; (s = strstr(s, "\n  ")) != NULL; s++) live += s[3] != '#' && s[3] != ' ';
    for (char *s = yaml; (s = strstr(s, "\n  ")) != NULL; s++) written += s[3] != ' ';
    CHECK(live == written, "the help has %zu keys, the config %zu", live, written);
    mst_config_clear(&c);
    mst_config_clear(&d);
    free(yaml);
    free(all);
    free(help);
}

/* ---- the configs that come with muster ---- */

/* The published models, by the number of their parameters. */
static const struct shipped_model {
    const char *file, *family;
    size_t parameters, tokens; /* tokens of a step */
} shipped_models[] = {
    {"gpt2-124m.yaml", "gpt2", 124439808, 491520},   {"smollm2-135m.yaml", "llama", 134515008, 524288},
    {"olmo2-190m.yaml", "olmo2", 267424512, 524288}, {"olmo2-1b.yaml", "olmo2", 1484916736, 2097152},
    {"olmo2-7b.yaml", "olmo2", 7298617344, 4194304},
};
enum { SHIPPED_MODELS = sizeof shipped_models / sizeof *shipped_models };

/* Whether the file is one of them; then it must be that model. */
static size_t check_shipped_model(const char *file, const mst_config *c) {
    size_t known = 0;
    for (size_t i = 0; i < SHIPPED_MODELS; i++) {
        const struct shipped_model *m = &shipped_models[i];
        mst_layout layout = {0};
        if (strcmp(file, m->file) != 0) continue;
        CHECK_OK(mst_model_layout(&c->model, &layout));
        CHECK(layout.parameters == m->parameters, "%s: %zu parameters, expected %zu", file, layout.parameters,
              m->parameters);
        CHECK(strcmp(mst_family_name(c->model.family), m->family) == 0, "%s: family %s", file,
              mst_family_name(c->model.family));
        const mst_sum_shape *shape = &c->batch.shape;
        size_t tokens = shape->leaf * shape->lanes * shape->rounds * c->batch.micro * c->data.seq_len;
        CHECK(tokens == m->tokens, "%s: %zu tokens a step", file, tokens);
        mst_layout_clear(&layout);
        known++;
    }
    return known;
}

static void test_shipped(const char *folder) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL, "%s", folder);
    size_t found = 0, models = 0;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char path[4096];
        mst_config c;
        const char *dot = strrchr(entry->d_name, '.');
        if (dot == NULL || strcmp(dot, ".yaml") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        CHECK_OK(mst_config_load(path, NULL, 0, stderr, &c));
        check_round_trip(&c, path);
        models += check_shipped_model(entry->d_name, &c);
        mst_config_clear(&c);
        found++;
    }
    CHECK(models == SHIPPED_MODELS, "%zu of %d published models in %s", models, (int)SHIPPED_MODELS, folder);
    CHECK(found >= 3, "%zu configs in %s", found, folder);
    if (dir != NULL) closedir(dir);
}

/* ---- mutations ---- */

static uint64_t random_state;

static uint64_t random_below(uint64_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

/* Changes a few bytes, or drops, doubles or swaps in a piece. Returns the new length, at most room. */
static size_t mutate(char *text, size_t length, size_t room) {
    static const char *const pieces[] = {
        "[",  "{",    "]",  "}",     ": ",   "- ",           "&a ",   "*a ",   "!!int ",
        "\"", "'",    "\n", "\t",    "|\n",  ">\n",          "---\n", "...\n", "%YAML 9.9\n",
        "? ", "<<: ", "~",  "\\x00", "\xc3", "\xe2\x80\xa8", "1e999", "#"};
    for (uint64_t n = 1 + random_below(4); n > 0; n--) {
        size_t at = (size_t)random_below(length + 1);
        const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
        size_t bytes = strlen(piece), cut = (size_t)random_below(12);
        switch (random_below(3)) {
        case 0:
            if (at < length) text[at] = (char)(1 + random_below(255));
            break;
        case 1:
            if (cut > length - at) cut = length - at;
            memmove(text + at, text + at + cut, length - at - cut);
            length -= cut;
            break;
        default:
            if (length + bytes > room) break;
            memmove(text + at + bytes, text + at, length - at);
            memcpy(text + at, piece, bytes);
            length += bytes;
        }
    }
    return length;
}

static void test_mutations(uint64_t seed, int count) {
    static const char start[] =
        "run: {steps: 500, name: \"x\"}\nmodel:\n  d_model: 96\n  n_layers: 2\n  n_heads: 6 # c\n"
        "data:\n  sources:\n    - a.h5\n    - {path: b, weight: 2}\nschedule: {peak: 1e-3}\ntrain:\n";
    int accepted = 0;
    random_state = seed;
    for (int i = 0; i < count; i++) {
        char text[1024], *errors;
        size_t length = mutate(memcpy(text, start, sizeof start), sizeof start - 1, sizeof text - 1);
        mst_config c;
        text[length] = '\0';
        mst_status status = parse(text, NULL, 0, &c, &errors);
        CHECK(status == MST_OK || (status == MST_ECONFIG && *errors != '\0'),
              "seed %llu, mutation %d: %s: %s\n%s", (unsigned long long)seed, i, mst_status_name(status),
              mst_error_message(), text);
        if (status == MST_OK) {
            accepted++;
            check_round_trip(&c, text);
        }
        mst_config_clear(&c);
        free(errors);
    }
    CHECK(accepted > count / 100 && accepted < count * 99 / 100,
          "%d of %d accepted: the mutations test nothing", accepted, count);
}

/* test_config CONFIGS_FOLDER [SEED [MUTATIONS]] */
int main(int argc, char **argv) {
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    test_defaults();
    test_derived();
    test_epochs();
    test_mistakes();
    test_many();
    test_aliases();
    test_round_trip();
    test_compare();
    test_help();
    if (argc > 1) test_shipped(argv[1]);
    test_mutations(seed * 2 + 1, argc > 3 ? atoi(argv[3]) : 3000);
    return test_finish("test_config");
}
