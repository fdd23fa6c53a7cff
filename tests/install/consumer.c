/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The least that a VMM does with libvtlvmm, built from what was installed. Valid C++ too. */

#include <stdio.h>
#include <vtlvmm.h>

int main(void) {
        struct vtlvmm_options options = {};
        struct vtlvmm *v = NULL;
        int r;

        options.size = sizeof(options);
        r = vtlvmm_new(-1, -1, &options, &v);
        printf("vtlvmm_new: %d\n", r);
        if (r >= 0)
                return 1;
        /* The object is there to say what went wrong, or it is not there. */
        if (v)
                printf("%s\n", vtlvmm_error(v));
        v = vtlvmm_free(v);
        return v != NULL;
}
