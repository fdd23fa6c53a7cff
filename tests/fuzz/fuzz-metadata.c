/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for the element in a domain's metadata: arbitrary bytes in its place. What is taken
 * is a policy value that survives the way back; what is refused says why and leaves nothing.
 *
 * tests/fuzz/make-corpus-libvirt.py writes the first corpus.
 */

#include "daemon/libvirt-metadata.h"
#include "tests/must.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char policy[LIBVIRT_POLICY_SIZE] = "untouched", again[LIBVIRT_POLICY_SIZE];
        char element[METADATA_ELEMENT_SIZE];
        const char *why = NULL;
        int r;

        r = metadata_parse((const char *) data, size, policy, &why);
        MUST(r == 0 || r == -EBADMSG);
        if (r < 0) {
                MUST(why && *why);
                MUST(strcmp(policy, "untouched") == 0);
                return 0;
        }
        MUST(size <= METADATA_MAX && libvirt_policy_valid(policy));
        metadata_format(policy, element);
        MUST(metadata_parse(element, strlen(element), again, &why) == 0);
        MUST(strcmp(policy, again) == 0);
        return 0;
}
