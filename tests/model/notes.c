/* notes.c: what logs tell each other in the model (doc/protocol.md, section 5.4). */
#include "notes.h"

static bool is_of_batch(const struct worker *k, uint8_t id)
{
    return id != 0 && k->slot.first <= id && id <= k->slot.last;
}

unsigned notes_lines_behind(const struct worker *k)
{
    int end = k->files == 2 && k->slot.file == 1 ? k->boundary : k->lines;
    return ((1u << end) - 1) & ~((1u << k->slot.offset) - 1);
}

static int lines_with(const struct worker *k, const struct model *m, unsigned lines, uint8_t text)
{
    int n = 0;
    for (int i = 0; i < k->lines; i++)
        n += (lines >> i & 1) && k->line[i] < TORN && content(m, k->line[i]) == text;
    return n;
}

static int notes_with(const struct worker *k, const struct model *m, const uint8_t *notes,
                      uint8_t text)
{
    int n = 0;
    for (uint8_t r = 1; r <= RECORDS; r++)
        n += is_of_batch(k, notes[r - 1]) && (content(m, r) == text || m->rules.no_hash);
    return n;
}

bool notes_cover(const struct worker *k, const struct model *m, const uint8_t *notes)
{
    unsigned lines = notes_lines_behind(k);
    bool any = false, all = true;
    for (uint8_t text = 1; text <= RECORDS; text++) {
        int noted = notes_with(k, m, notes, text);
        any = any || noted > 0;
        all = all && lines_with(k, m, lines, text) <= noted;
    }
    return any && (all || m->rules.no_all_lines);
}
