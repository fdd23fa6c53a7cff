/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdio.h>

#include "daemon/vtlctl.h"
#include "util/util.h"

/* libvirt and the 50 libraries that come with it are for those who ask for it. */
#define PROGRAM VTLD_LIBEXECDIR "/vtld-libvirt"
#define PROGRAM_VARIABLE "VTLCTL_LIBVIRT"

#define ARGUMENTS_MAX 3

int verb_domain(struct vtlctl *c, int argc, char **argv) {
        char *const *names = argv + 1;
        char *arguments[ARGUMENTS_MAX + 6];
        _cleanup_free_ char *edit = NULL, *connect = NULL;
        const char *program = getenv(PROGRAM_VARIABLE);
        size_t n = 0;

        if (asprintf(&edit, "--edit=%s", argv[0]) < 0)
                edit = NULL;
        if (asprintf(&connect, "--connect=%s", c->libvirt_uri) < 0)
                connect = NULL;
        if (!edit || !connect) {
                (void) fprintf(stderr, "vtlctl: no memory\n");
                return EXIT_FAILURE;
        }
        arguments[n++] = (char *) "vtld-libvirt";
        arguments[n++] = edit;
        arguments[n++] = connect;
        if (c->json)
                arguments[n++] = (char *) "--json";
        arguments[n++] = (char *) "--";
        for (int i = 0; i < argc - 1 && i < ARGUMENTS_MAX; i++)
                arguments[n++] = names[i];
        arguments[n] = NULL;
        if (!program || !*program)
                program = PROGRAM;
        (void) execv(program, arguments);
        (void) fprintf(stderr, "vtlctl: %s: %s\n", program,
                       errno == ENOENT
                               ? "not installed; this is the part of vtld that talks to libvirt"
                               : strerror(errno));
        return EXIT_FAILURE;
}
