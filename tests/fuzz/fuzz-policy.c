/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: policy files. The first line of the input is what a VM says about itself, the rest
 * is a file. What is taken as a policy is written down again and read once more: it must be the
 * same one, and decide in the same way.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy-rules.h"
#include "util/util.h"

#define SUBJECT_SIZE 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition) {
        if (!condition)
                abort();
}

/* Fields with commas between them; a "-" is not known. */
static void take_subject(char *line, struct policy_subject *s) {
        const char **fields[] = { &s->name, &s->uuid, &s->libvirt_domain, &s->libvirt_policy };
        char *field = strsep(&line, ",");

        *s = (struct policy_subject){ .uid = field ? (uint32_t) strtoul(field, NULL, 10) : 0 };
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                field = strsep(&line, ",");
                *fields[i] = field && strcmp(field, "-") != 0 ? field : NULL;
        }
}

static void check_error(const char *error) {
        require(error[0]);
        for (const char *s = error; *s; s++)
                require(*s >= 0x20 && *s < 0x7f);
}

static void check_decision(const struct policy_decision *d) {
        require(memchr(d->name, '\0', sizeof(d->name)) && d->name[0]);
        require(d->max_vps <= 64);
        require(d->execute_enforcement < _POLICY_ENFORCEMENT_MAX);
        require(d->dma_enforcement < _POLICY_DMA_MAX);
        require(d->n_measurements <= POLICY_MEASUREMENTS_MAX);
        require(d->options.strict_execute_pages <= VTL_STRICT_EXECUTE_MAX);
        require(d->reserve_mappings <= POLICY_RESERVE_MAPPINGS_MAX);
}

static void check_rule(const struct policy *p, size_t i) {
        const struct policy_rule *r = &p->rules[i];

        require(r->file < p->n_files && r->line > 0);
        require(policy_rule_has(r, POLICY_KEY_ALLOW_VTL1));
        require(r->keys & ((1u << _POLICY_MATCH_MAX) - 1));
        check_decision(&r->decision);
        for (size_t j = 0; j < i; j++)
                require(strcmp(p->rules[j].decision.name, r->decision.name) != 0);
}

static char *write_down(const struct policy *p, size_t *ret_len) {
        char value[POLICY_VALUE_SIZE], *text = NULL;
        FILE *f = open_memstream(&text, ret_len);

        require(f);
        for (size_t i = 0; i < p->n_rules; i++) {
                const struct policy_rule *r = &p->rules[i];

                (void) fprintf(f, "[match %s]\n", r->decision.name);
                for (unsigned k = 0; k < _POLICY_KEY_MAX; k++)
                        for (unsigned n = 0;
                             policy_rule_has(r, k) && policy_key_value(r, k, n, value); n++)
                                (void) fprintf(f, "%s=%s\n", policy_keys[k].name, value);
        }
        require(fclose(f) == 0);
        return text;
}

static void check_policy(const struct policy *p, const struct policy_subject *s) {
        char error[POLICY_ERROR_SIZE];
        struct policy_decision d, e;
        struct policy *again = NULL;
        _cleanup_free_ char *text = NULL;
        size_t len;

        require(p->n_rules <= POLICY_RULES_MAX);
        for (size_t i = 0; i < p->n_rules; i++)
                check_rule(p, i);
        policy_decide(p, s, &d);
        check_decision(&d);

        text = write_down(p, &len);
        /* The same rules may be longer than a file: each value has a line of its own. */
        if (len > POLICY_FILE_MAX)
                return;
        require(policy_parse(text, len, "again", &again, error) == 0);
        require(again->n_rules == p->n_rules);
        for (size_t i = 0; i < p->n_rules; i++)
                require(memcmp(&again->rules[i].decision, &p->rules[i].decision,
                               sizeof(struct policy_decision)) == 0);
        policy_decide(again, s, &e);
        require(memcmp(&d, &e, sizeof(d)) == 0);
        (void) policy_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const uint8_t *end = memchr(data, '\n', size < SUBJECT_SIZE ? size : SUBJECT_SIZE - 1);
        char line[SUBJECT_SIZE] = "", error[POLICY_ERROR_SIZE] = "";
        struct policy *p = NULL;
        struct policy_subject s;
        int r;

        if (end) {
                memcpy(line, data, (size_t) (end - data));
                size -= (size_t) (end + 1 - data);
                data = end + 1;
        }
        take_subject(line, &s);
        r = policy_parse((const char *) data, size, "file", &p, error);
        require(r <= 0);
        if (r < 0) {
                require(!p);
                check_error(error);
                return 0;
        }
        check_policy(p, &s);
        (void) policy_free(p);
        return 0;
}
