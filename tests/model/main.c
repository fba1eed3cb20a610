/* main.c: an exhaustive model of worker, Redis and crashes (doc/protocol.md, sections 3 to 5).
 *
 * It goes through all states that a run can reach within its bounds, and checks each: nothing is
 * lost, each record stands in one log once, the account is right. Then rules are left out of the
 * protocol, one at a time, and each must be missed.
 *
 * A connection does not outlive a rollback. The worker reads no batch ahead: what the guards of the
 * commit let pass has not changed meanwhile. Left out are filtered and malformed entries, a state
 * file that is lost, and a log without its last lines (--look-back, a file that is gone). */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "explore.h"

static const struct run {
    const char *name;
    struct bounds bounds;
    bool is_long; /* only with --long */
} runs[] = {
    {"rollback, expiry, rotation",
     {.records = 3, .crashes = 2, .faults = 2, .rollback = true, .expire = true, .rotate = true},
     false},
    {"rollback, DEL, expiry, rotation",
     {.records = 3,
      .crashes = 1,
      .faults = 2,
      .rollback = true,
      .del = true,
      .expire = true,
      .rotate = true},
     false},
    {"rollback, XDEL, clock, expiry",
     {.records = 3,
      .crashes = 1,
      .faults = 2,
      .rollback = true,
      .remove = true,
      .clock = true,
      .expire = true},
     false},
    {"ids given again: rollback, expiry",
     {.records = 3, .crashes = 2, .faults = 2, .behind = true, .rollback = true, .expire = true},
     false},
    {"DEL, clock, expiry",
     {.records = 3, .crashes = 2, .faults = 2, .del = true, .clock = true, .expire = true},
     false},
    {"batches of three: XDEL, expiry",
     {.records = 3, .crashes = 1, .faults = 2, .batch = 3, .remove = true, .expire = true},
     false},
    {"four records: expiry, rotation",
     {.records = 4, .crashes = 2, .faults = 2, .expire = true, .rotate = true},
     false},
    {"four records: rollback, expiry",
     {.records = 4, .crashes = 1, .faults = 2, .rollback = true, .expire = true},
     false},
    {"equal lines: expiry, rotation",
     {.records = 4, .crashes = 2, .faults = 2, .equal = true, .expire = true, .rotate = true},
     false},
    {"equal lines, one worker, ids given again: rollback",
     {.records = 4,
      .workers = 1,
      .crashes = 2,
      .faults = 2,
      .equal = true,
      .behind = true,
      .rollback = true},
     false},
    {"long: four records: rollback, expiry, rotation",
     {.records = 4, .crashes = 2, .faults = 2, .rollback = true, .expire = true, .rotate = true},
     true},
    {"long: three faults of rollback, DEL, expiry, rotation",
     {.records = 3,
      .crashes = 1,
      .faults = 3,
      .rollback = true,
      .del = true,
      .expire = true,
      .rotate = true},
     true},
    {"long: rollback, DEL, expiry, rotation",
     {.records = 3,
      .crashes = 2,
      .faults = 2,
      .rollback = true,
      .del = true,
      .expire = true,
      .rotate = true},
     true},
    {"long: rollback, XDEL, clock, expiry, rotation",
     {.records = 3,
      .crashes = 2,
      .faults = 2,
      .rollback = true,
      .remove = true,
      .clock = true,
      .expire = true,
      .rotate = true},
     true},
};

/* What is left out, and a run that misses it. */
static const struct mutation {
    const char *name, *run;
    struct rules rules;
} mutations[] = {
    {"without the comparison", "rollback, expiry", {.no_comparison = true}},
    {"with a set for the multiset", "equal lines: expiry", {.no_multiset = true}},
    {"without cutting a batch where the row changes", "rollback, expiry", {.no_border = true}},
    {"without cutting a torn line off", "rollback, expiry", {.no_torn_cut = true}},
    {"without waiting for the batch in hand", "rollback, expiry", {.no_awaited = true}},
    {"with the slot after the lines", "rollback, expiry", {.no_slot_before = true}},
    {"turning to a new file with a batch in hand", "rollback, expiry", {.no_late_turn = true}},
    {"without 0-0 for an empty log", "rollback, expiry", {.no_fresh_log = true}},
    {"without the cut after another log took the stream", "four records: expiry", {.no_cut = true}},
    {"with one noted line for the whole batch", "rollback, expiry", {.no_all_lines = true}},
    {"passing over notes that were added after a look", "four records: expiry", {.no_news = true}},
    {"with the id alone in a note", "ids given again: rollback", {.no_hash = true}},
    {"with a log's own commits in its claim", "rollback, expiry", {.no_claim_end = true}},
    {"ending a claim with a batch in hand", "rollback, expiry", {.no_hand_standby = true}},
    {"giving the lease back as if no batch were in hand",
     "rollback, expiry",
     {.no_hand_release = true}},
    {"without raising the last id", "ids given again: rollback", {.no_raise = true}},
    {"without raising the last id, equal lines", "equal lines, one worker", {.no_raise = true}},
    {"without the lease in the commit", "rollback, expiry", {.no_lease = true}},
    {"without the first entry in the commit", "DEL, clock", {.no_first_entry = true}},
    {"without the law in the commit", "rollback, XDEL", {.no_law = true}},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct model model_of(const struct run *run)
{
    struct model m = {.bounds = run->bounds};
    if (m.bounds.workers == 0)
        m.bounds.workers = 2;
    if (m.bounds.batch == 0)
        m.bounds.batch = 2;
    return m;
}

static const struct run *run_of(const struct mutation *mutation)
{
    const struct run *run = runs;
    while (strncmp(run->name, mutation->run, strlen(mutation->run)) != 0)
        run++;
    return run;
}

static bool report(const char *name, bool passed, const struct result *r)
{
    printf("%s  %s: %s; %zu states, depth %d, %.1f s\n", passed ? "pass" : "FAIL", name,
           r->wrong == NULL ? "nothing is wrong" : r->wrong, r->states, r->depth, r->seconds);
    fflush(stdout);
    return passed;
}

static bool try_run(const struct run *run)
{
    struct model m = model_of(run);
    struct result r = explore(&m, true);
    return report(run->name, r.wrong == NULL, &r);
}

static bool try_mutation(const struct mutation *mutation, bool print)
{
    struct model m = model_of(run_of(mutation));
    m.rules = mutation->rules;
    struct result r = explore(&m, print);
    return report(mutation->name, r.wrong != NULL, &r);
}

/* Those whose name contains the text; NULL: all. */
static int try_all(const char *text, bool with_long)
{
    int passed = 0, failed = 0;
    for (size_t i = 0; i < COUNT(runs); i++) {
        if (text != NULL ? strstr(runs[i].name, text) != NULL : with_long || !runs[i].is_long)
            *(try_run(&runs[i]) ? &passed : &failed) += 1;
    }
    for (size_t i = 0; i < COUNT(mutations); i++) {
        if (text == NULL || strstr(mutations[i].name, text) != NULL)
            *(try_mutation(&mutations[i], text != NULL) ? &passed : &failed) += 1;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0 || passed == 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"long", no_argument, NULL, 'l'}, {0}};
    bool with_long = false;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'l') {
            fprintf(stderr, "usage: model [--long] [TEXT]\n");
            return 64;
        }
        with_long = true;
    }
    return try_all(argv[optind], with_long);
}
