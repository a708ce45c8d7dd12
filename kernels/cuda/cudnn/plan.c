#include "plan.h"

#include <stdlib.h>

#if CUDNN_VERSION >= 90800 /* from there on there are plans for a GPU that is only described */
#define PLACE(w, d, properties) mst_cudnn_place(w, d, properties)
#else
#define PLACE(w, d, properties) ((void)0)
#endif

enum { PROPOSALS = 16 };

static bool is_whole(const workshop *w) {
    return w->code == CUDNN_STATUS_SUCCESS;
}

/* ---------------------------------------------------------------- an algorithm's plan */

static descriptor make_engine(workshop *w, descriptor graph, int64_t index) {
    descriptor engine = mst_cudnn_make(w, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    mst_cudnn_set_part(w, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    mst_cudnn_set_number(w, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    PLACE(w, engine, CUDNN_ATTR_ENGINE_DEVICEPROP);
    mst_cudnn_finish(w, engine);
    return engine;
}

static descriptor make_configuration(workshop *w, descriptor engine, const cudnn_algorithm *algorithm) {
    descriptor configuration = mst_cudnn_make(w, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR), knobs[KNOBS_MAX];
    mst_cudnn_set_part(w, configuration, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    for (size_t i = 0; i < algorithm->knob_count; i++) {
        const cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)algorithm->knobs[i].type;
        knobs[i] = mst_cudnn_make(w, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        mst_cudnn_set(w, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        mst_cudnn_set_number(w, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, algorithm->knobs[i].value);
        mst_cudnn_finish(w, knobs[i]);
    }
    if (algorithm->knob_count > 0)
        mst_cudnn_set(w, configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      (int64_t)algorithm->knob_count, knobs);
    mst_cudnn_finish(w, configuration);
    return configuration;
}

static bool adds_in_one_order(workshop *w, descriptor engine) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    const int64_t count = mst_cudnn_get(w, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                        CUDNN_TYPE_NUMERICAL_NOTE, CUDNN_NUMERICAL_NOTE_TYPE_COUNT, notes);
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) return false;
    return is_whole(w);
}

bool mst_cudnn_plan(const cudnn_place *place, const attention_kind *kind, const cudnn_algorithm *algorithm,
                    cudnn_plan *plan_out) {
    int64_t workspace = 0;
    *plan_out = (cudnn_plan){.w = {.place = *place}};
    workshop *w = &plan_out->w;
    descriptor graph = mst_cudnn_attention_graph(w, kind);
    descriptor engine = make_engine(w, graph, algorithm->engine);
    if (!adds_in_one_order(w, engine))
        w->code = CUDNN_STATUS_NOT_SUPPORTED; /* recorded by other hands than ours */
    descriptor configuration = make_configuration(w, engine, algorithm);
    plan_out->plan = mst_cudnn_make(w, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    if (place->handle)
        mst_cudnn_set(w, plan_out->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1,
                      &place->handle);
    mst_cudnn_set_part(w, plan_out->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
    PLACE(w, plan_out->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
    mst_cudnn_finish(w, plan_out->plan);
    mst_cudnn_get(w, plan_out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                  &workspace);
    plan_out->workspace = (size_t)workspace;
    if (is_whole(w)) return true;
    mst_cudnn_clear(w);
    return false;
}

/* ---------------------------------------------------------------- choosing */

/* What a proposal stands for; false where its sums follow no order. */
static bool read_algorithm(workshop *w, descriptor configuration, cudnn_algorithm *algorithm_out) {
    descriptor knobs[KNOBS_MAX], engine = mst_cudnn_make(w, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    *algorithm_out = (cudnn_algorithm){0};
    mst_cudnn_get(w, configuration, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    mst_cudnn_get(w, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &algorithm_out->engine);
    if (!adds_in_one_order(w, engine)) return false;
    for (size_t i = 0; i < KNOBS_MAX; i++) knobs[i] = mst_cudnn_make(w, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    algorithm_out->knob_count = (size_t)mst_cudnn_get(w, configuration, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, KNOBS_MAX, knobs);
    for (size_t i = 0; i < algorithm_out->knob_count; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        mst_cudnn_get(w, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        mst_cudnn_get(w, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                      &algorithm_out->knobs[i].value);
        algorithm_out->knobs[i].type = type;
    }
    return is_whole(w);
}

/* What the library's heuristics propose, best first. */
static size_t propose(workshop *w, const attention_kind *kind, descriptor proposals[PROPOSALS]) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor graph = mst_cudnn_attention_graph(w, kind);
    descriptor heuristics = mst_cudnn_make(w, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    mst_cudnn_set_part(w, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    mst_cudnn_set(w, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    PLACE(w, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
    mst_cudnn_finish(w, heuristics);
    for (size_t i = 0; i < PROPOSALS; i++)
        proposals[i] = mst_cudnn_make(w, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    return (size_t)mst_cudnn_get(w, heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                 PROPOSALS, proposals);
}

bool mst_cudnn_choose(const cudnn_place *place, const attention_kind *kind, size_t workspace,
                      cudnn_algorithm *algorithm_out, cudnn_plan *plan_out) {
    workshop w = {.place = *place};
    descriptor proposals[PROPOSALS];
    bool found = false;
    const size_t count = propose(&w, kind, proposals);
    for (size_t i = 0; i < count && !found; i++) {
        workshop reading = {.place = *place};
        found = read_algorithm(&reading, proposals[i], algorithm_out) &&
                mst_cudnn_plan(place, kind, algorithm_out, plan_out);
        if (found && plan_out->workspace > workspace) {
            mst_cudnn_clear(&plan_out->w);
            found = false;
        }
        mst_cudnn_clear(&reading);
    }
    mst_cudnn_clear(&w);
    return found;
}
