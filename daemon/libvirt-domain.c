/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <libvirt/virterror.h>

#include "daemon/libvirt-domain.h"
#include "daemon/libvirt-metadata.h"
#include "util/util.h"

static const enum domain_state states[] = {
        [VIR_DOMAIN_NOSTATE] = DOMAIN_RUNNING,    [VIR_DOMAIN_RUNNING] = DOMAIN_RUNNING,
        [VIR_DOMAIN_BLOCKED] = DOMAIN_RUNNING,    [VIR_DOMAIN_PAUSED] = DOMAIN_PAUSED,
        [VIR_DOMAIN_SHUTDOWN] = DOMAIN_RUNNING, /* it has been asked to, and still runs */
        [VIR_DOMAIN_SHUTOFF] = DOMAIN_INACTIVE,   [VIR_DOMAIN_CRASHED] = DOMAIN_CRASHED,
        [VIR_DOMAIN_PMSUSPENDED] = DOMAIN_PAUSED,
};

int domain_get_state(virDomainPtr d, enum domain_state *ret, uint32_t *ret_run) {
        unsigned id = virDomainGetID(d);
        int state, reason;

        if (virDomainGetState(d, &state, &reason, 0) < 0)
                return -EIO;
        /* The two were not asked for at one moment; and a domain that has crashed may be gone. */
        *ret_run = id == (unsigned) -1 || state == VIR_DOMAIN_SHUTOFF ? 0 : id;
        if (*ret_run == 0)
                *ret = DOMAIN_INACTIVE;
        else
                *ret = (unsigned) state < ARRAY_SIZE(states) ? states[state] : DOMAIN_RUNNING;
        return 0;
}

int domain_get_policy(virDomainPtr d, char ret[LIBVIRT_POLICY_SIZE], const char **ret_why) {
        _cleanup_free_ char *xml = virDomainGetMetadata(d, VIR_DOMAIN_METADATA_ELEMENT,
                                                        METADATA_URI, VIR_DOMAIN_AFFECT_CURRENT);
        int r;

        ret[0] = '\0';
        if (xml) {
                r = metadata_parse(xml, strnlen(xml, METADATA_MAX + 1), ret, ret_why);
                if (r == -ENOMEM)
                        *ret_why = "no memory";
                return r;
        }
        if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_METADATA)
                return 0;
        *ret_why = libvirt_error();
        return -EIO;
}

const char *libvirt_error(void) {
        const char *text = virGetLastErrorMessage();

        return text && *text ? text : "libvirt does not say why";
}

void domain_cleanup(virDomainPtr *d) {
        if (*d)
                (void) virDomainFree(*d);
}

static void say_nothing(void *userdata, virErrorPtr error) {
}

void libvirt_be_quiet(void) {
        virSetErrorFunc(NULL, say_nothing);
}
