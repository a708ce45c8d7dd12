/* Which nodes answer: by Slurm, or by the agent with which mpirun starts processes there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "place.h"

enum { ASK_SECONDS = 10 };

/* Whether Slurm's short word for a state says that the node can work: a '*' behind it: it does not answer. */
static bool is_well(const char *state) {
    static const char *const bad[] = {"down",  "fail", "unk",        "boot",  "pow",
                                      "maint", "plnd", "no_respond", "reboot"};
    if (strpbrk(state, "*~#!%$@") != NULL) return false;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (strncmp(state, bad[i], strlen(bad[i])) == 0) return false;
    return true;
}

/* The list "n1,n2,n3" of all nodes; freed by the caller; NULL without memory. */
static char *list_of(const place *p) {
    char *text = calloc(p->count, PLACE_NAME_MAX + 1);
    for (size_t i = 0, used = 0; text != NULL && i < p->count; i++)
        used += (size_t)sprintf(text + used, "%s%s", i > 0 ? "," : "", p->nodes[i].name);
    return text;
}

static void ask_controller(place *p) {
    char *list = list_of(p), *text = NULL, *rest = NULL;
    int code = -1;
    if (list == NULL) return;
    const char *const words[] = {"sinfo", "-h", "-N", "-n", list, "-o", "%N %t", NULL};
    if (child_capture(words, ASK_SECONDS, &text, &code) == MST_OK && code == 0)
        for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
            char *state = strchr(line, ' ');
            if (state == NULL) continue;
            *state++ = '\0';
            place_node *node = place_node_of(p, line);
            if (node != NULL) node->answers = is_well(state);
        }
    free(text);
    free(list);
}

/*
 * The words that have a node do nothing. Slurm's controller takes minutes (SlurmdTimeout) to know that a node is lost, a
 * step on it does not.
 */
static void question_of(const place *p, const place_node *node, child_question *q) {
    const char *agent = getenv("OMPI_MCA_plm_rsh_agent");
    const char *const srun[] = {"srun", "--overlap",  "--mpi=none", "-Q",   "-N1",
                                "-n1",  "--nodelist", node->name,   "true", NULL};
    const char *const ssh[] = {"ssh",  "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", node->name,
                               "true", NULL};
    const char *const other[] = {"sh", "-c", "exec $OMPI_MCA_plm_rsh_agent \"$0\" true", node->name, NULL};
    if (p->kind == PLACE_SLURM)
        memcpy(q->words, srun, sizeof srun);
    else if (agent == NULL || agent[0] == '\0' || strcmp(agent, "ssh") == 0)
        memcpy(q->words, ssh, sizeof ssh);
    else
        memcpy(q->words, other, sizeof other);
}

static void ask_nodes(place *p) {
    child_question *questions = calloc(p->count, sizeof *questions);
    size_t count = 0;
    if (questions == NULL) return;
    for (size_t i = 0; i < p->count; i++)
        if (p->nodes[i].answers && !p->nodes[i].here) question_of(p, &p->nodes[i], &questions[count++]);
    child_ask(questions, count, ASK_SECONDS);
    for (size_t i = 0, asked = 0; i < p->count; i++)
        if (p->nodes[i].answers && !p->nodes[i].here) p->nodes[i].answers = questions[asked++].yes;
    free(questions);
}

void place_ask(place *p) {
    if (p->kind == PLACE_ALONE) return;
    for (size_t i = 0; i < p->count; i++) p->nodes[i].answers = true;
    if (p->kind == PLACE_SLURM) ask_controller(p);
    ask_nodes(p);
}
