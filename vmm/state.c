/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The whole VM stands still: pause, reset, save, restore. The vCPUs of the higher plane and where
 * each VP is are the library's, the rest is the engine's, in whichever process that is.
 */

#include <sys/ioctl.h>
#include <time.h>

#include "util/blob.h"
#include "vmm/internal.h"
#include "vtl/kvm-image.h"

#define SAVED_MAGIC 0x74736d6d766c7476ull /* "vtlvmmst" */
#define SAVED_VERSION 1u
#define SECTION_VP BLOB_ID('P', 'L', 'A', 'N')
#define SECTION_VCPU BLOB_ID('V', 'C', 'P', 'U')
#define SECTION_ENGINE BLOB_ID('E', 'N', 'G', 'N')

/* Where a VP is, beside the registers of its higher plane */
struct saved_vp {
        uint32_t active;
        uint32_t flags; /* SAVED_* */
        uint64_t seen_dr[PLANE_MAX][4];
        uint64_t seen_xcr0[PLANE_MAX];
        uint64_t tsc_offset;          /* of plane 0 */
        uint64_t guest_os_id;         /* of plane 0, as KVM has been told */
        uint64_t sint[HV_SINT_COUNT]; /* likewise, with SAVED_SYNIC */
        uint32_t cr8;                 /* of plane 1, as it goes in */
        uint32_t reserved;
};
_Static_assert(sizeof(struct saved_vp) == 240, "no padding");

#define SAVED_TSC_COPIED 0x1u
#define SAVED_SYNIC 0x2u
#define SAVED_TSC_OFFSET 0x4u

/* ---- Standing still ---- */

static void make_still(struct vtlvmm *v, bool on) {
        atomic_store(&v->still, on || v->paused);
}

/* From now on vtlvmm_run() refuses; whoever is in it makes this fail. */
static int stand_still(struct vtlvmm *v) {
        if (!v->started || !v->serve)
                return vtlvmm_fail(v, -EINVAL, "the VM has not been started");
        atomic_store(&v->still, true);
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                if (atomic_load(&v->vcpus[i].running)) {
                        make_still(v, false);
                        return vtlvmm_fail(v, -EBUSY, "a vCPU is in vtlvmm_run()");
                }
        if (!atomic_load(&v->dead))
                return 0;
        make_still(v, false);
        return vtlvmm_fail(v, -EOWNERDEAD,
                           "the process that serves this guest's trust levels is gone");
}

/* Has KVM take what is changed in kvm_run, and finish what is pending there. */
static int settle(struct vtlvmm *v, struct stock_vp *vp) {
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                struct stock_vcpu *c = &vp->plane[plane];
                uint8_t before = c->run->immediate_exit;
                int r;

                c->run->immediate_exit = 1;
                r = ioctl(c->fd, KVM_RUN, 0) < 0 ? -errno : 0;
                c->run->immediate_exit = before;
                if (r == 0)
                        return vtlvmm_fail(v, -EBUSY,
                                           "a vCPU is in the middle of an instruction: "
                                           "vtlvmm_run() with immediate_exit until EINTR");
                if (r != -EINTR && r != -EAGAIN)
                        return vtlvmm_fail(v, r, "a vCPU cannot be stopped: %s", strerror(-r));
                c->pending = false;
        }
        return 0;
}

static int ask(struct vtlvmm *v, enum vtl_state_request request, uint64_t data) {
        struct vtlvmm_vcpu *c = &v->vcpus[0];
        struct vtl_control_vp *ctl = c->vp->ctl;
        uint64_t error;
        int r;

        ctl->exit = (struct vtl_exit){
                .kind = VTL_EXIT_STATE, .plane = c->vp->active, .port = request, .data = data
        };
        r = v->serve(c);
        error = ctl->action.data;
        return r < 0 ? r : -(int) MIN(error, (uint64_t) 4095);
}

_public_ int vtlvmm_pause(struct vtlvmm *v) {
        int r;

        if (!v)
                return -EINVAL;
        if (v->paused)
                return 0;
        r = stand_still(v);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++)
                r = settle(v, &v->planes.vps[i]);
        if (r == 0)
                r = ask(v, VTL_STATE_PAUSE, 0);
        if (r == 0 && v->client)
                (void) attach_client_pause(v->client); /* for the bus only */
        v->paused = r == 0;
        make_still(v, false);
        return r;
}

_public_ int vtlvmm_continue(struct vtlvmm *v) {
        int r;

        if (!v)
                return -EINVAL;
        if (!v->paused)
                return 0;
        r = ask(v, VTL_STATE_CONTINUE, 0);
        if (r < 0)
                return vtlvmm_fail(v, r, "the engine does not go on: %s", strerror(-r));
        if (v->client)
                (void) attach_client_continue(v->client);
        v->paused = false;
        make_still(v, false);
        return 0;
}

/* ---- What KVM knows of VTL0's synthetic MSRs ---- */

static int kernel_msr(struct stock_vp *vp, unsigned long request, uint32_t index, uint64_t *value) {
        struct {
                struct kvm_msrs head;
                struct kvm_msr_entry entry;
        } m = { .head.nmsrs = 1, .entry = { .index = index, .data = *value } };
        int r = ioctl(vp->plane[0].fd, request, &m);

        *value = m.entry.data;
        return r < 0 ? -errno : r == 1 ? 0 : -EINVAL;
}

static int set_kernel_state(struct plane_stock *s, struct stock_vp *vp, uint64_t os_id,
                            const uint64_t *sint) {
        struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
        int r = 0;

        if (s->kernel_hypercalls && vp == s->vps)
                r = kernel_msr(vp, KVM_SET_MSRS, HV_MSR_GUEST_OS_ID, &os_id);
        if (r < 0 || (!sint && !vp->synic_on))
                return r;
        if (!vp->synic_on && ioctl(vp->plane[0].fd, KVM_ENABLE_CAP, &cap) < 0)
                return -errno;
        vp->synic_on = true;
        for (unsigned i = 0; i < HV_SINT_COUNT && r == 0; i++) {
                uint64_t value = sint ? sint[i] : HV_SINT_RESET;

                r = kernel_msr(vp, KVM_SET_MSRS, HV_MSR_SINT0 + i, &value);
        }
        return r;
}

/* ---- The vCPU of the higher plane ---- */

/* What vtlvmm_run() and the engine look at, from KVM */
static int refresh(struct stock_vp *vp) {
        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                struct kvm_run *run = vp->plane[plane].run;

                run->kvm_dirty_regs = 0;
                vp->plane[plane].pending = false;
                if (ioctl(vp->plane[plane].fd, KVM_GET_REGS, &run->s.regs.regs) < 0 ||
                    ioctl(vp->plane[plane].fd, KVM_GET_SREGS, &run->s.regs.sregs) < 0)
                        return -errno;
        }
        return 0;
}

static int put_higher(struct stock_vp *vp, const struct kvm_image *image, uint64_t tsc_shift) {
        int r = kvm_image_put(vp->plane[1].fd, image, tsc_shift);

        vp->fpu_known = false;
        return r < 0 ? r : refresh(vp);
}

int vtlvmm_keep_reset_state(struct vtlvmm *v) {
        int r = 0;

        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++)
                r = kvm_image_take(v->planes.kvm_fd, v->planes.vps[i].plane[1].fd, false,
                                   &v->vcpus[i].reset_state);
        return r < 0 ? vtlvmm_fail(v, r, "the higher plane's state cannot be read: %s",
                                   strerror(-r))
                     : 0;
}

static int reset_planes(struct vtlvmm *v) {
        int r = 0;

        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++) {
                struct vtlvmm_vcpu *c = &v->vcpus[i];
                struct stock_vp *vp = c->vp;

                /* Another thread may run it from now on. */
                if (c->has_tick)
                        (void) timer_delete(c->tick);
                c->has_tick = c->started = c->ticking = false;
                vp->active = 0;
                vp->tsc_copied = false;
                memset(vp->seen_dr, 0, sizeof(vp->seen_dr));
                vp->seen_xcr0[0] = vp->seen_xcr0[1] = 1;
                c->to_boundary = c->irq_window = c->waiting = c->shown = false;
                c->cr8 = 0;
                vp->plane[1].run->cr8 = 0;
                r = put_higher(vp, c->reset_state, 0);
                if (r == 0)
                        r = set_kernel_state(&v->planes, vp, 0, NULL);
        }
        return r;
}

_public_ int vtlvmm_reset(struct vtlvmm *v) {
        int r;

        if (!v)
                return -EINVAL;
        r = stand_still(v);
        if (r < 0)
                return r;
        /* KVM would finish the instruction that a vCPU is in the middle of when it runs again. */
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                (void) settle(v, &v->planes.vps[i]);
        r = ask(v, VTL_STATE_RESET, 0);
        if (r == 0)
                r = reset_planes(v);
        make_still(v, false);
        return r < 0 ? vtlvmm_fail(v, r, "the trust levels cannot be reset: %s", strerror(-r)) : 0;
}

/* ---- Save ---- */

static int save_vp(struct vtlvmm *v, unsigned i, struct blob *b) {
        _cleanup_free_ struct kvm_image *image = NULL;
        struct stock_vp *vp = &v->planes.vps[i];
        struct saved_vp s = { .active = vp->active,
                              .flags = (vp->tsc_copied ? SAVED_TSC_COPIED : 0) |
                                       (vp->synic_on ? SAVED_SYNIC : 0),
                              .cr8 = vp->plane[1].run->cr8 & 0xf };
        int r;

        memcpy(s.seen_dr, vp->seen_dr, sizeof(s.seen_dr));
        memcpy(s.seen_xcr0, vp->seen_xcr0, sizeof(s.seen_xcr0));
        if (kvm_tsc_offset_get(vp->plane[0].fd, &s.tsc_offset) == 0)
                s.flags |= SAVED_TSC_OFFSET;
        r = v->planes.kernel_hypercalls
                  ? kernel_msr(vp, KVM_GET_MSRS, HV_MSR_GUEST_OS_ID, &s.guest_os_id)
                  : 0;
        for (unsigned k = 0; k < HV_SINT_COUNT && r == 0 && vp->synic_on; k++)
                r = kernel_msr(vp, KVM_GET_MSRS, HV_MSR_SINT0 + k, &s.sint[k]);
        if (r == 0)
                r = kvm_image_take(v->planes.kvm_fd, vp->plane[1].fd, false, &image);
        if (r < 0)
                return r;
        blob_open(b, SECTION_VP, SAVED_VERSION, i);
        blob_put(b, &s, sizeof(s));
        blob_close(b);
        blob_open(b, SECTION_VCPU, SAVED_VERSION, i);
        blob_put(b, image, image->size);
        blob_close(b);
        return 0;
}

static int save_engine(struct vtlvmm *v, struct blob *b) {
        _cleanup_(blob_free) struct blob engine = BLOB_EMPTY;
        int r;

        v->planes.saved = &engine;
        r = ask(v, VTL_STATE_SAVE, 0);
        v->planes.saved = NULL;
        if (r < 0)
                return r;
        blob_open(b, SECTION_ENGINE, SAVED_VERSION, 0);
        blob_put(b, engine.data, engine.size);
        blob_close(b);
        return 0;
}

_public_ int vtlvmm_save(struct vtlvmm *v, void **ret, size_t *ret_size) {
        _cleanup_(blob_free) struct blob b = BLOB_EMPTY;
        int r = 0;

        if (!v || !ret || !ret_size)
                return -EINVAL;
        if (!v->paused)
                return vtlvmm_fail(v, -EBUSY, "the VM is not paused");
        blob_begin(&b, SAVED_MAGIC);
        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++)
                r = save_vp(v, i, &b);
        if (r == 0)
                r = save_engine(v, &b);
        if (r == 0)
                r = blob_finish(&b);
        if (r < 0)
                return vtlvmm_fail(v, r, "the trust levels cannot be saved: %s", strerror(-r));
        *ret = TAKE_PTR(b.data);
        *ret_size = b.size;
        return 0;
}

/* ---- Restore ---- */

/* An errno alone says little here. */
static const char *why_not(int error) {
        static const struct {
                int error;
                const char *text;
        } texts[] = {
                { -EBADMSG, "what was saved is damaged" },
                { -EPROTONOSUPPORT, "saved by another version" },
                { -EXDEV, "saved from a VM of another shape, on another kind of host, or under "
                          "another policy" },
                { -EPERM, "policy does not allow it here" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                if (texts[i].error == error)
                        return texts[i].text;
        return strerror(-error);
}

struct restoring {
        struct saved_vp vps[VTL_MAX_VPS];
        struct kvm_image *images[VTL_MAX_VPS];
        bool seen[VTL_MAX_VPS];
        const uint8_t *engine;
        size_t engine_size;
};

static void restoring_free(struct restoring **r) {
        for (unsigned i = 0; *r && i < VTL_MAX_VPS; i++)
                free((*r)->images[i]);
        free(*r);
}

static int read_vp(struct restoring *to, uint32_t index, const uint8_t *data, size_t size) {
        struct saved_vp *s = &to->vps[index];

        if (to->seen[index] || size != sizeof(*s))
                return -EBADMSG;
        memcpy(s, data, sizeof(*s));
        to->seen[index] = true;
        return s->active >= PLANE_MAX || s->cr8 > 0xf || s->reserved ||
                               s->flags & ~(SAVED_TSC_COPIED | SAVED_SYNIC | SAVED_TSC_OFFSET)
                     ? -EBADMSG
                     : 0;
}

static int read_section(const struct vtlvmm *v, struct restoring *to, const struct blob_section *s,
                        const uint8_t *data) {
        if (s->version != SAVED_VERSION)
                return -EPROTONOSUPPORT;
        if (s->id == SECTION_ENGINE && s->index == 0 && !to->engine) {
                to->engine = data;
                to->engine_size = s->size;
                return 0;
        }
        if (s->index >= v->planes.n_vps)
                return s->index < VTL_MAX_VPS ? -EXDEV : -EBADMSG;
        if (s->id == SECTION_VP)
                return read_vp(to, s->index, data, s->size);
        if (s->id == SECTION_VCPU && !to->images[s->index])
                return kvm_image_read(data, s->size, &to->images[s->index]);
        return -EBADMSG;
}

static int read_saved(const struct vtlvmm *v, struct restoring *to, const void *data, size_t size) {
        struct blob_reader reader;
        struct blob_section s;
        const uint8_t *content;
        int r = blob_read(&reader, data, size, SAVED_MAGIC);

        while (r == 0) {
                r = blob_next(&reader, &s, &content);
                if (r <= 0)
                        break;
                r = read_section(v, to, &s, content);
        }
        for (unsigned i = 0; r == 0 && i < v->planes.n_vps; i++)
                if (!to->seen[i] || !to->images[i])
                        return -EXDEV; /* of fewer VPs */
        return r < 0 ? r : to->engine ? 0 : -EBADMSG;
}

/* Its TSC is as far from VTL0's as it was, wherever the VMM has put that. */
static uint64_t tsc_shift(const struct stock_vp *vp, const struct saved_vp *s) {
        uint64_t now;

        return (s->flags & SAVED_TSC_OFFSET) && kvm_tsc_offset_get(vp->plane[0].fd, &now) == 0
                     ? now - s->tsc_offset
                     : 0;
}

static int restore_vp(struct vtlvmm *v, unsigned i, const struct restoring *from) {
        const struct saved_vp *s = &from->vps[i];
        struct vtlvmm_vcpu *c = &v->vcpus[i];
        struct stock_vp *vp = c->vp;
        int r;

        r = set_kernel_state(&v->planes, vp, s->guest_os_id,
                             s->flags & SAVED_SYNIC ? s->sint : NULL);
        if (r == 0)
                r = put_higher(vp, from->images[i], tsc_shift(vp, s));
        if (r < 0)
                return r;
        vp->active = s->active;
        vp->ctl->active_vtl = s->active;
        vp->tsc_copied = s->flags & SAVED_TSC_COPIED;
        memcpy(vp->seen_dr, s->seen_dr, sizeof(vp->seen_dr));
        memcpy(vp->seen_xcr0, s->seen_xcr0, sizeof(vp->seen_xcr0));
        vp->plane[1].run->cr8 = c->cr8 = (uint8_t) s->cr8;
        c->to_boundary = c->irq_window = c->shown = false;
        /* The engine says what is next. */
        c->waiting = true;
        return 0;
}

static int restore_engine(struct vtlvmm *v, const struct restoring *from) {
        int r;

        v->planes.loading = from->engine;
        v->planes.loading_left = from->engine_size;
        r = ask(v, VTL_STATE_LOAD, from->engine_size);
        v->planes.loading = NULL;
        v->planes.loading_left = 0;
        /* What the engine has taken for its levels is what the planes are in. */
        for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++)
                if (v->planes.vps[i].ctl->active_vtl != from->vps[i].active)
                        r = -EBADMSG;
        return r;
}

_public_ int vtlvmm_restore(struct vtlvmm *v, const void *data, size_t size) {
        _cleanup_(restoring_free) struct restoring *from = NULL;
        int r;

        if (!v || !data)
                return -EINVAL;
        if (!v->paused)
                return vtlvmm_fail(v, -EBUSY, "the VM is not paused");
        from = calloc(1, sizeof(*from));
        if (!from)
                return -ENOMEM;
        r = read_saved(v, from, data, size);
        if (r == 0) {
                for (unsigned i = 0; i < v->planes.n_vps && r == 0; i++)
                        r = restore_vp(v, i, from);
                if (r == 0)
                        r = restore_engine(v, from);
                if (r < 0) {
                        /* Nobody gets a guest that is half another one. */
                        int e = ask(v, VTL_STATE_RESET, 0);

                        if (e == 0)
                                e = reset_planes(v);
                        r = e < 0 ? e : r;
                }
        }
        return r < 0 ? vtlvmm_fail(v, r, "the trust levels cannot be restored: %s", why_not(r)) : 0;
}
