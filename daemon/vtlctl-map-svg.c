/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A picture of a guest's memory, in two columns. The left one is its RAM to scale, without the
 * holes between: each line of it has the colour of the least that VTL0 may do anywhere there, so
 * that one page in a terabyte is still seen. The right one has a block for each run, from low
 * addresses to high ones, whose height grows with the logarithm of its size. Of more runs than can
 * be told apart the largest keep their block, and what lies between two of them is one block of
 * mixed rights.
 */

#include <inttypes.h>
#include <stdlib.h>

#include "daemon/vtlctl-map.h"
#include "util/util.h"

#define BLOCKS_MAX 120u /* with a block of their own */
#define WIDTH 720u
#define SCALE_X 24u /* the left column */
#define SCALE_WIDTH 36u
#define BLOCK_X 250u
#define BLOCK_WIDTH 260u
#define TOP 76u
#define BLOCK_LEAST 18u
#define BLOCK_PER_BIT 2u /* more for each doubling of pages */
#define GAP 7u           /* where there is a hole between two blocks */
#define LEGEND_LINE 20u

static const char *colour_of(unsigned mask) {
        static const char *const colours[MAP_MASKS] = {
                [0] = "#2b2d42",
                [HV_MAP_GPA_READABLE] = "#d1495b",
                [HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE] = "#edae49",
                [HV_MAP_GPA_READABLE | HV_MAP_GPA_USER_EXECUTABLE] = "#7b5ea7",
                [HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_USER_EXECUTABLE] =
                        "#b8d05c",
                [HV_MAP_GPA_READABLE | HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE] =
                        "#00798c",
                [HV_MAP_GPA_ALL] = "#dfe5ea",
        };

        return colours[mask] ? colours[mask] : "#e600c7"; /* no guest can ask for it */
}

/* What may stand in XML: names are UTF-8, but any. */
static void put_text(FILE *f, const char *s) {
        static const struct {
                char c;
                const char *entity;
        } entities[] = { { '&', "&amp;" }, { '<', "&lt;" }, { '>', "&gt;" }, { '"', "&quot;" } };

        for (; *s; s++) {
                const char *as = NULL;

                for (size_t i = 0; i < ARRAY_SIZE(entities); i++)
                        if (*s == entities[i].c)
                                as = entities[i].entity;
                /* U+FFFE and U+FFFF are no characters of XML, and neither is what controls. */
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        as = "?";
                else if (strncmp(s, "\xef\xbf\xbe", 3) == 0 || strncmp(s, "\xef\xbf\xbf", 3) == 0) {
                        as = "?";
                        s += 2;
                }
                if (as)
                        (void) fputs(as, f);
                else
                        (void) fputc(*s, f);
        }
}

/* ---- Blocks ---- */

struct block {
        size_t first, n; /* runs */
        unsigned y, height;
};

static uint64_t run_end(const struct map_run *r) {
        return r->gpn + r->count;
}

static const struct map_run *last_run(const struct map *m, const struct block *b) {
        return &m->runs[b->first + b->n - 1];
}

static int compare_counts(const void *a, const void *b) {
        const struct map_run *x = *(const struct map_run *const *) a,
                             *y = *(const struct map_run *const *) b;

        if (x->count != y->count)
                return x->count > y->count ? -1 : 1;
        return x->gpn < y->gpn ? -1 : x->gpn > y->gpn;
}

/* Which runs have a block of their own. Return: one byte for each run, NULL without memory. */
static uint8_t *choose(const struct map *m) {
        uint8_t *own = calloc(MAX(m->n_runs, 1u), 1);
        const struct map_run **sorted;

        if (!own)
                return NULL;
        sorted = calloc(MAX(m->n_runs, 1u), sizeof(*sorted));
        if (!sorted) {
                free(own);
                return NULL;
        }
        for (size_t i = 0; i < m->n_runs; i++)
                sorted[i] = &m->runs[i];
        qsort(sorted, m->n_runs, sizeof(*sorted), compare_counts);
        for (size_t i = 0; i < m->n_runs && (m->n_runs <= BLOCKS_MAX || i < BLOCKS_MAX / 2); i++)
                own[sorted[i] - m->runs] = 1;
        free(sorted);
        return own;
}

static unsigned height_of(uint64_t pages) {
        unsigned bits = 0;

        while (pages >>= 1)
                bits++;
        return BLOCK_LEAST + bits * BLOCK_PER_BIT;
}

static unsigned place(const struct map *m, struct block *b, unsigned y) {
        uint64_t pages = 0;

        if (b->first > 0 && run_end(&m->runs[b->first - 1]) != m->runs[b->first].gpn)
                y += GAP;
        for (size_t i = 0; i < b->n; i++)
                pages += m->runs[b->first + i].count;
        b->y = y;
        b->height = height_of(pages);
        return y + b->height;
}

/* Return: how many there are; @ret_end: where the last one ends */
static size_t make_blocks(const struct map *m, const uint8_t *own, struct block *blocks,
                          unsigned *ret_end) {
        unsigned y = TOP;
        size_t n = 0;

        for (size_t i = 0; i < m->n_runs;) {
                struct block *b = &blocks[n++];

                *b = (struct block){ .first = i, .n = 1 };
                if (!own[i])
                        while (i + b->n < m->n_runs && !own[i + b->n])
                                b->n++;
                i += b->n;
                y = place(m, b, y);
        }
        *ret_end = y;
        return n;
}

/* ---- Drawing ---- */

static void rectangle(FILE *f, unsigned x, unsigned y, unsigned width, unsigned height,
                      const char *fill) {
        (void) fprintf(f, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"%s\"/>\n", x,
                       y, width, height, fill);
}

static void draw_mixed(const struct map *m, const struct block *b, FILE *f) {
        uint64_t pages[MAP_MASKS] = { 0 };
        unsigned kinds = 0, x = BLOCK_X, k = 0;

        for (size_t i = 0; i < b->n; i++)
                pages[m->runs[b->first + i].mask] += m->runs[b->first + i].count;
        for (unsigned mask = 0; mask < MAP_MASKS; mask++)
                kinds += pages[mask] > 0;
        for (unsigned mask = 0; mask < MAP_MASKS; mask++) {
                unsigned to;

                if (pages[mask] == 0)
                        continue;
                to = BLOCK_X + BLOCK_WIDTH * ++k / kinds;
                rectangle(f, x, b->y, to - x, b->height, colour_of(mask));
                x = to;
        }
}

static void draw_block(const struct map *m, const struct block *b, FILE *f) {
        const struct map_run *first = &m->runs[b->first], *last = last_run(m, b);
        char rights[MAP_RIGHTS_SIZE], words[MAP_WORDS_SIZE], size[MAP_SIZE_SIZE];
        uint64_t pages = 0;

        for (size_t i = 0; i < b->n; i++)
                pages += m->runs[b->first + i].count;
        (void) map_size(pages, size);
        (void) fprintf(f, "<g><title>0x%" PRIx64 " to 0x%" PRIx64 ", %s: ",
                       first->gpn << HV_PAGE_SHIFT, (run_end(last) << HV_PAGE_SHIFT) - 1, size);
        if (b->n == 1)
                (void) fprintf(f, "%s</title>\n", map_words(first->mask, words));
        else
                (void) fprintf(f, "%zu runs of different rights</title>\n", b->n);
        if (b->n == 1)
                rectangle(f, BLOCK_X, b->y, BLOCK_WIDTH, b->height, colour_of(first->mask));
        else
                draw_mixed(m, b, f);
        (void) fprintf(f, "<rect class=\"edge\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>\n",
                       BLOCK_X, b->y, BLOCK_WIDTH, b->height);
        (void) fprintf(f, "<text x=\"%u\" y=\"%u\" text-anchor=\"end\">0x%" PRIx64 "</text>\n",
                       BLOCK_X - 8, b->y + 12, first->gpn << HV_PAGE_SHIFT);
        (void) fprintf(f, "<text x=\"%u\" y=\"%u\">%s, ", BLOCK_X + BLOCK_WIDTH + 8,
                       b->y + b->height / 2 + 4, size);
        if (b->n == 1)
                (void) fprintf(f, "%s</text></g>\n", map_rights(first->mask, rights));
        else
                (void) fprintf(f, "%zu runs</text></g>\n", b->n);
}

static unsigned rights_count(unsigned mask) {
        return (unsigned) __builtin_popcount(mask);
}

/* For each line the mask with the fewest rights, or MAP_MASKS while there is none */
static uint8_t *make_lines(const struct map *m, unsigned height) {
        uint8_t *lines = malloc(height);
        uint64_t pages = 0, at = 0;

        if (!lines)
                return NULL;
        memset(lines, MAP_MASKS, height);
        for (size_t i = 0; i < m->n_runs; i++)
                pages += m->runs[i].count;
        for (size_t i = 0; i < m->n_runs; i++) {
                const struct map_run *r = &m->runs[i];
                /* Not in 64 bits: pages have 40, lines 14 */
                unsigned from = (unsigned) ((unsigned __int128) at * height / pages),
                         to = (unsigned) ((unsigned __int128) (at + r->count - 1) * height / pages);

                for (unsigned y = from; y <= to && y < height; y++)
                        if (lines[y] == MAP_MASKS || rights_count(r->mask) < rights_count(lines[y]))
                                lines[y] = (uint8_t) r->mask;
                at += r->count;
        }
        return lines;
}

static int draw_scale(const struct map *m, unsigned height, FILE *f) {
        _cleanup_free_ uint8_t *lines = make_lines(m, height);
        unsigned from = 0;

        if (!lines)
                return -ENOMEM;
        for (unsigned y = 1; y <= height; y++)
                if (y == height || lines[y] != lines[from]) {
                        if (lines[from] < MAP_MASKS)
                                rectangle(f, SCALE_X, TOP + from, SCALE_WIDTH, y - from,
                                          colour_of(lines[from]));
                        from = y;
                }
        (void) fprintf(f, "<rect class=\"edge\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>\n",
                       SCALE_X, TOP, SCALE_WIDTH, height);
        return 0;
}

static void draw_legend(const struct map *m, unsigned y, FILE *f) {
        char rights[MAP_RIGHTS_SIZE], words[MAP_WORDS_SIZE], size[MAP_SIZE_SIZE];

        for (unsigned mask = 0; mask < MAP_MASKS; mask++) {
                const struct map_total *t = &m->totals[mask];

                if (t->runs == 0)
                        continue;
                rectangle(f, SCALE_X, y - 11, 14, 14, colour_of(mask));
                (void) fprintf(f,
                               "<rect class=\"edge\" x=\"%u\" y=\"%u\" width=\"14\" height=\"14\"/>"
                               "<text x=\"%u\" y=\"%u\">%s  %s: %s in %" PRIu64 " run%s</text>\n",
                               SCALE_X, y - 11, SCALE_X + 22, y, map_rights(mask, rights),
                               map_words(mask, words), map_size(t->pages, size), t->runs,
                               t->runs == 1 ? "" : "s");
                y += LEGEND_LINE;
        }
}

static unsigned legend_lines(const struct map *m) {
        unsigned n = 0;

        for (unsigned mask = 0; mask < MAP_MASKS; mask++)
                n += m->totals[mask].runs > 0;
        return n;
}

static void begin(const struct map *m, unsigned height, FILE *f) {
        char size[MAP_SIZE_SIZE];
        uint64_t pages = 0, open = m->totals[HV_MAP_GPA_ALL].pages;

        for (unsigned mask = 0; mask < MAP_MASKS; mask++)
                pages += m->totals[mask].pages;
        (void) fprintf(f,
                       "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
                       "viewBox=\"0 0 %u %u\" role=\"img\" aria-labelledby=\"title desc\">\n"
                       "<title id=\"title\">Memory of ",
                       WIDTH, height, WIDTH, height);
        put_text(f, m->name);
        (void) fprintf(f,
                       "</title>\n<desc id=\"desc\">What VTL1 allows VTL0 to do with the memory of "
                       "VM ");
        put_text(f, m->uuid);
        (void) fprintf(f, ": %s of RAM in %zu run%s of equal rights, ", map_size(pages, size),
                       m->n_runs, m->n_runs == 1 ? "" : "s");
        (void) fprintf(f, "%s of it not entirely open.</desc>\n", map_size(pages - open, size));
        (void) fprintf(f,
                       "<style>text{font:12px monospace;fill:#222;white-space:pre}"
                       ".edge{fill:none;stroke:#666;stroke-width:0.5}"
                       ".head{font:bold 16px sans-serif}.sub{font:12px sans-serif}</style>\n"
                       "<rect width=\"%u\" height=\"%u\" fill=\"#fff\"/>\n"
                       "<text class=\"head\" x=\"%u\" y=\"28\">Memory of ",
                       WIDTH, height, SCALE_X);
        put_text(f, m->name);
        (void) fprintf(f, "</text>\n<text class=\"sub\" x=\"%u\" y=\"46\">", SCALE_X);
        put_text(f, m->uuid);
        (void) fprintf(f,
                       "</text>\n<text class=\"sub\" x=\"%u\" y=\"%u\">to scale</text>\n"
                       "<text class=\"sub\" x=\"%u\" y=\"%u\">what VTL0 may do, in runs of equal "
                       "rights; heights are logarithmic</text>\n",
                       SCALE_X, TOP - 8, BLOCK_X, TOP - 8);
}

int map_write_svg(const struct map *m, FILE *f) {
        _cleanup_free_ struct block *blocks = calloc(2 * BLOCKS_MAX, sizeof(*blocks));
        _cleanup_free_ uint8_t *own = choose(m);
        unsigned end;
        size_t n;
        int r = 0;

        if (!blocks || !own)
                return -ENOMEM;
        n = make_blocks(m, own, blocks, &end);
        begin(m, end + 20 + LEGEND_LINE * (legend_lines(m) + 1), f);
        if (n > 0)
                r = draw_scale(m, end - TOP, f);
        for (size_t i = 0; i < n; i++)
                draw_block(m, &blocks[i], f);
        draw_legend(m, end + 20 + LEGEND_LINE, f);
        (void) fputs("</svg>\n", f);
        return r;
}
