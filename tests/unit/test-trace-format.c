/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What `vtlctl trace` makes of records: lines for people, JSON, and slices of time for Perfetto. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "daemon/vtlctl-trace-format.h"
#include "hvcall/hvcall.h"
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/probes.h"

#define SECOND UINT64_C(1000000000)

static struct {
        struct trace_writer w;
        struct trace_vp vps[2];
        char *text;
        size_t size;
} out;

static void begin(enum trace_format format) {
        memset(&out, 0, sizeof(out));
        out.w = (struct trace_writer){ .format = format,
                                       .name = "a \"name\" & <more>",
                                       .uuid = "uuid",
                                       .vps = 2,
                                       .vp_states = out.vps };
        out.w.file = open_memstream(&out.text, &out.size);
        assert_non_null(out.w.file);
        trace_begin(&out.w);
}

static void record(unsigned vp, uint64_t time, struct vtl_trace_event e) {
        struct trace_record r = { .vp = vp, .event = e };

        r.event.time = time;
        assert_true(vtl_trace_event_valid(&r.event, UINT64_MAX));
        trace_record(&out.w, &r);
}

static void finish(void) {
        trace_end(&out.w);
        assert_int_equal(fclose(out.w.file), 0);
}

#define ENTER(why, rip)                                                                            \
        (struct vtl_trace_event) {                                                                 \
                .kind = VTL_TRACE_SWITCH, .to = 1, .detail = (why), .data = (rip), .extra = 0x2000 \
        }
#define LEAVE(why)                                                                    \
        (struct vtl_trace_event) {                                                    \
                .kind = VTL_TRACE_SWITCH, .from = 1, .detail = (why), .data = 0x2000, \
                .extra = 0x1000                                                       \
        }

/* One of each kind, at noon by a clock that is one hour behind */
static void record_all(void) {
        uint64_t t = 11 * 3600 * SECOND + 123456789;

        record(0, t, ENTER(VTL_SWITCH_CALL | VTL_TRACE_HOT, 0xfffff80000001000));
        record(0, t + 1000,
               (struct vtl_trace_event){ .kind = VTL_TRACE_HYPERCALL,
                                         .from = 1,
                                         .to = 1,
                                         .data = 0x300000000c,
                                         .extra = 0x2000000006 });
        record(0, t + 2000,
               (struct vtl_trace_event){ .kind = VTL_TRACE_HYPERCALL,
                                         .from = 1,
                                         .to = 1,
                                         .detail = HV_DISPATCH_UD,
                                         .data = 0x7777 });
        record(0, t + 3000, LEAVE(VTL_SWITCH_FAST_RETURN));
        record(12, t + 4000,
               (struct vtl_trace_event){ .kind = VTL_TRACE_INTERCEPT,
                                         .to = 1,
                                         .detail = VTL_TRACE_INTERCEPT_MEMORY |
                                                   HV_INTERCEPT_ACCESS_EXECUTE << 8,
                                         .data = 0x120000,
                                         .extra = 0x1234 });
        record(1, t + 5000,
               (struct vtl_trace_event){
                       .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1, .detail = 2 });
        record(1, t + 6000,
               (struct vtl_trace_event){ .kind = VTL_TRACE_VINA, .to = 1, .detail = 0x61 });
        trace_lost(&out.w, 1, 17, t + 7000);
        trace_rejected(&out.w, 1, t + 7000);
}

static void test_text(void **state) {
        begin(TRACE_FORMAT_TEXT);
        out.w.realtime_offset = 3600 * (int64_t) SECOND;
        record_all();
        finish();
        assert_string_equal(
                out.text,
                "TIME             VP  VTL     WHAT\n"
                "12:00:00.123456   0  0 -> 1  call by the VMM, RIP 0xfffff80000001000 to 0x2000\n"
                "12:00:00.123457   0  1       hypercall ModifyVtlProtectionMask (0x000c): "
                "ACCESS_DENIED, 32 of 48\n"
                "12:00:00.123458   0  1       hypercall ? (0x7777): undefined-opcode\n"
                "12:00:00.123459   0  1 -> 0  fast-return, RIP 0x2000 to 0x1000\n"
                "12:00:00.123460  12  0       intercepted execute of memory 0x120000, RIP 0x1234\n"
                "12:00:00.123461   1  1       gets NMI 0x02\n"
                "12:00:00.123462   1  1       is told by VINA 0x61 that VTL0 has an interrupt\n"
                "12:00:00.123463   1  -       17 records lost\n"
                "12:00:00.123463   -  -       1 record left out, which cannot be\n");
        free(out.text);
}

/* The same bytes but for the escape sequences */
static void test_colours(void **state) {
        char *plain;
        size_t n = 0;

        begin(TRACE_FORMAT_TEXT);
        record_all();
        finish();
        plain = out.text;
        begin(TRACE_FORMAT_TEXT);
        out.w.colours = true;
        record_all();
        finish();
        assert_non_null(strstr(out.text, "\033[32mcall by the VMM"));
        for (const char *s = out.text; *s;) {
                if (*s == '\033') {
                        s = strchr(s, 'm') + 1;
                        continue;
                }
                assert_int_equal(*s++, plain[n++]);
        }
        assert_int_equal(plain[n], '\0');
        free(plain);
        free(out.text);
}

static struct json_object *member(struct json_object *o, const char *key) {
        struct json_object *v = NULL;

        assert_true(json_object_object_get_ex(o, key, &v));
        return v;
}

static void assert_text(struct json_object *o, const char *key, const char *expected) {
        assert_string_equal(json_object_get_string(member(o, key)), expected);
}

static void assert_number(struct json_object *o, const char *key, uint64_t expected) {
        assert_int_equal(json_object_get_uint64(member(o, key)), expected);
}

static void test_json(void **state) {
        static const char *const kinds[] = { "switch", "hypercall", "hypercall",
                                             "switch", "intercept", "interrupt",
                                             "vina",   "lost",      "rejected" };
        struct json_object *lines[ARRAY_SIZE(kinds)];
        char *at, *line;
        size_t n = 0;

        begin(TRACE_FORMAT_JSON);
        record_all();
        finish();
        for (line = strtok_r(out.text, "\n", &at); line; line = strtok_r(NULL, "\n", &at)) {
                assert_true(n < ARRAY_SIZE(lines));
                lines[n] = json_tokener_parse(line);
                assert_non_null(lines[n]);
                assert_text(lines[n], "Kind", kinds[n]);
                n++;
        }
        assert_int_equal(n, ARRAY_SIZE(lines));
        assert_number(lines[0], "Time", 11 * 3600 * SECOND + 123456789);
        assert_number(lines[0], "From", 0);
        assert_number(lines[0], "To", 1);
        assert_text(lines[0], "Reason", "call");
        assert_true(json_object_get_boolean(member(lines[0], "Fast")));
        assert_number(lines[0], "LeftRip", 0xfffff80000001000);
        assert_text(lines[1], "Name", "ModifyVtlProtectionMask");
        assert_number(lines[1], "Status", HV_STATUS_ACCESS_DENIED);
        assert_text(lines[1], "StatusName", "ACCESS_DENIED");
        assert_number(lines[1], "RepsDone", 32);
        assert_text(lines[2], "Outcome", "undefined-opcode");
        assert_false(json_object_object_get_ex(lines[2], "Status", NULL));
        assert_false(json_object_object_get_ex(lines[2], "Name", NULL));
        assert_false(json_object_get_boolean(member(lines[3], "Fast")));
        assert_text(lines[4], "Intercept", "memory");
        assert_text(lines[4], "Access", "execute");
        assert_number(lines[4], "Vp", 12);
        assert_number(lines[5], "Vector", 2);
        assert_number(lines[7], "Records", 17);
        for (size_t i = 0; i < n; i++)
                (void) json_object_put(lines[i]);
        free(out.text);
}

/* ---- Perfetto ---- */

static struct json_object *parsed(void) {
        struct json_object *o;

        finish();
        o = json_tokener_parse(out.text);
        assert_non_null(o);
        assert_text(o, "displayTimeUnit", "ns");
        free(out.text);
        return o;
}

/* The nth element of a phase */
static struct json_object *of_phase(struct json_object *o, const char *phase, size_t n) {
        struct json_object *events = member(o, "traceEvents");

        for (size_t i = 0; i < json_object_array_length(events); i++) {
                struct json_object *e = json_object_array_get_idx(events, i);

                if (strcmp(json_object_get_string(member(e, "ph")), phase) == 0 && n-- == 0)
                        return e;
        }
        return NULL;
}

static void assert_slice(struct json_object *o, size_t n, unsigned vp, const char *from,
                         const char *duration, const char *entered, const char *left) {
        struct json_object *e = of_phase(o, "X", n), *args;

        assert_non_null(e);
        args = member(e, "args");
        assert_text(e, "name", "VTL1");
        assert_number(e, "tid", vp + 1);
        assert_text(e, "ts", from);
        assert_text(e, "dur", duration);
        if (entered)
                assert_text(args, "entered", entered);
        else
                assert_false(json_object_object_get_ex(args, "entered", NULL));
        if (left)
                assert_text(args, "left", left);
        else
                assert_false(json_object_object_get_ex(args, "left", NULL));
}

static void test_perfetto(void **state) {
        struct json_object *o;

        begin(TRACE_FORMAT_PERFETTO);
        record(0, 5000, ENTER(VTL_SWITCH_CALL, 0xfffff80000001000));
        record(1, 5500, ENTER(VTL_SWITCH_INTERRUPT, 0));
        record(0, 6000,
               (struct vtl_trace_event){
                       .kind = VTL_TRACE_HYPERCALL, .from = 1, .to = 1, .data = 0xc });
        record(0, 7001, LEAVE(VTL_SWITCH_RETURN | VTL_TRACE_HOT));
        record(1, 9000,
               (struct vtl_trace_event){
                       .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1, .detail = 0x60 });
        o = parsed();
        assert_text(member(of_phase(o, "M", 0), "args"), "name", "a \"name\" & <more>");
        assert_text(member(of_phase(o, "M", 2), "args"), "name", "VP 0");
        assert_text(member(of_phase(o, "M", 4), "args"), "name", "VP 1");
        assert_slice(o, 0, 0, "5.000", "2.001", "call", "return");
        assert_text(member(of_phase(o, "X", 0), "args"), "rip", "0xfffff80000001000");
        assert_slice(o, 1, 1, "5.500", "3.500", "interrupt", NULL); /* it is still there */
        assert_null(of_phase(o, "X", 2));
        assert_text(of_phase(o, "i", 0), "name", "ModifyVtlProtectionMask");
        assert_text(of_phase(o, "i", 0), "ts", "6.000");
        assert_text(of_phase(o, "i", 1), "name", "interrupt");
        assert_number(of_phase(o, "i", 1), "tid", 2);
        assert_null(of_phase(o, "i", 2));
        (void) json_object_put(o);
}

/* VTL1 ran when the trace began. */
static void test_perfetto_from_the_middle(void **state) {
        struct json_object *o;

        begin(TRACE_FORMAT_PERFETTO);
        record(1, 1000, ENTER(VTL_SWITCH_CALL, 0));
        record(0, 3000, LEAVE(VTL_SWITCH_RETURN));
        record(1, 4000, LEAVE(VTL_SWITCH_RETURN));
        o = parsed();
        assert_slice(o, 0, 0, "1.000", "2.000", NULL, "return");
        assert_slice(o, 1, 1, "1.000", "3.000", "call", "return");
        assert_null(of_phase(o, "X", 2));
        (void) json_object_put(o);
}

/* A slice ends where records are lost; a return after that has no beginning. */
static void test_perfetto_lost(void **state) {
        struct json_object *o;

        begin(TRACE_FORMAT_PERFETTO);
        record(0, 1000, ENTER(VTL_SWITCH_CALL, 0));
        record(0, 2000,
               (struct vtl_trace_event){ .kind = VTL_TRACE_VINA, .to = 1, .detail = 0x60 });
        trace_lost(&out.w, 0, 5, 8000);
        record(0, 8000, LEAVE(VTL_SWITCH_RETURN));
        record(0, 9000, ENTER(VTL_SWITCH_CALL, 0));
        /* Its end is missing though nothing was said to be lost: of a VMM that lies. */
        record(0, 10000, ENTER(VTL_SWITCH_CALL, 0));
        record(0, 9500, LEAVE(VTL_SWITCH_RETURN));
        trace_rejected(&out.w, 3, 11000);
        o = parsed();
        assert_slice(o, 0, 0, "1.000", "1.000", "call", NULL);
        assert_slice(o, 1, 0, "9.000", "0.000", "call", NULL);
        assert_slice(o, 2, 0, "10.000", "0.000", "call", "return");
        assert_null(of_phase(o, "X", 3));
        assert_text(of_phase(o, "i", 1), "name", "records lost");
        assert_number(member(of_phase(o, "i", 1), "args"), "records", 5);
        assert_text(of_phase(o, "i", 2), "name", "return");
        assert_text(of_phase(o, "i", 3), "name", "impossible records");
        (void) json_object_put(o);
}

static void test_an_empty_trace(void **state) {
        struct json_object *o;

        begin(TRACE_FORMAT_PERFETTO);
        o = parsed();
        assert_null(of_phase(o, "X", 0));
        assert_null(of_phase(o, "i", 0));
        assert_non_null(of_phase(o, "M", 5));
        (void) json_object_put(o);
}

/* Every call that the engine offers has here the name that it has there. */
static void test_names_of_calls(void **state) {
        for (size_t i = 0; i < hv_calls_n; i++) {
                const char *name = trace_call_name(hv_calls[i].code);

                assert_non_null(name);
                assert_string_equal(name, hv_calls[i].name);
        }
        assert_null(trace_call_name(0x7777));
        assert_string_equal(trace_status_name(HV_STATUS_SUCCESS), "SUCCESS");
        assert_null(trace_status_name(0x7777));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_colours),
                cmocka_unit_test(test_json),
                cmocka_unit_test(test_perfetto),
                cmocka_unit_test(test_perfetto_from_the_middle),
                cmocka_unit_test(test_perfetto_lost),
                cmocka_unit_test(test_an_empty_trace),
                cmocka_unit_test(test_names_of_calls),
        };

        (void) setenv("TZ", "UTC", 1);
        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("trace-format", tests, NULL, NULL);
}
