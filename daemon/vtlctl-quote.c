/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "daemon/vtlctl.h"
#include "policy/quote.h"
#include "util/file.h"
#include "util/hex.h"
#include "util/snapshot.h"
#include "util/util.h"

#define NONCE_SIZE 32u /* of a nonce that nobody gave */

static void cleanup_snapshot(struct snapshot **s) {
        (void) snapshot_free(*s);
}

static void cleanup_keyring(struct keyring **k) {
        (void) keyring_free(*k);
}

static int complain(const char *error, int r) {
        (void) fprintf(stderr, "vtlctl: %s\n", error[0] ? error : strerror(-r));
        return EXIT_FAILURE;
}

static int parse_nonce(const char *text, uint8_t ret[QUOTE_NONCE_MAX], size_t *ret_size) {
        size_t len = strlen(text);

        if (len % 2 || len / 2 < QUOTE_NONCE_MIN || len / 2 > QUOTE_NONCE_MAX ||
            hex_decode(text, len / 2, ret) < 0)
                return -EINVAL;
        *ret_size = len / 2;
        return 0;
}

static int bad_nonce(void) {
        return vtlctl_bad_usage("--nonce= is from 32 to 128 hexadecimal digits");
}

/* To --output=, or for people */
static int put_text(const struct vtlctl *c, const char *text) {
        _cleanup_close_ int fd = -1;

        if (!c->options[VTLCTL_OPTION_OUTPUT])
                return fputs(text, stdout) == EOF ? -EIO : 0;
        fd = open(c->options[VTLCTL_OPTION_OUTPUT], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0)
                return -errno;
        return write_all(fd, text, strlen(text));
}

static int write_out(const struct vtlctl *c, const char *text) {
        int r = put_text(c, text);

        if (r < 0)
                (void) fprintf(stderr, "vtlctl: %s: %s\n",
                               c->options[VTLCTL_OPTION_OUTPUT] ? c->options[VTLCTL_OPTION_OUTPUT]
                                                                : "output",
                               strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- Of the service ---- */

static int call_quote(struct vtlctl *c, const char *path, const uint8_t *nonce, size_t size,
                      sd_bus_message **ret, sd_bus_error *error) {
        sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(c->bus, &m, VTLD_BUS_NAME, path,
                                           VTLD_BUS_NAME ".Partition", "Quote");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', nonce, size);
        if (r >= 0)
                r = sd_bus_call(c->bus, m, 0, error, ret);
        (void) sd_bus_message_unref(m);
        return r;
}

static int fetch_quote(struct vtlctl *c, const char *path, const uint8_t *nonce, size_t size) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *text = NULL;
        int r, status;

        r = call_quote(c, path, nonce, size, &reply, &error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &text);
        status = r < 0 ? complain(error.message ? error.message : "", r) : write_out(c, text);
        (void) sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        return status;
}

static int get_quote(struct vtlctl *c, const char *vm_name) {
        uint8_t nonce[QUOTE_NONCE_MAX];
        size_t size = NONCE_SIZE;
        struct json_object *root, *vm;
        int status = EXIT_FAILURE;

        if (c->options[VTLCTL_OPTION_NONCE] &&
            parse_nonce(c->options[VTLCTL_OPTION_NONCE], nonce, &size) < 0)
                return bad_nonce();
        if (!c->options[VTLCTL_OPTION_NONCE] && getentropy(nonce, NONCE_SIZE) < 0)
                return complain("there is no randomness for a nonce", -errno);
        if (vtlctl_connect(c) < 0 || objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, vm_name);
        if (vm)
                status = fetch_quote(c, json_text(vm, "ObjectPath"), nonce, size);
        (void) json_object_put(root);
        return status;
}

static int get_key(struct vtlctl *c) {
        struct json_object *root;
        int status;

        if (vtlctl_connect(c) < 0 || objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        status = *json_text(root, "HostKey") ? write_out(c, json_text(root, "HostKey"))
                                             : complain("vtld has no host key", 0);
        (void) json_object_put(root);
        return status;
}

/* ---- Without it ---- */

static void show_json(const struct quote *q, const char *digest) {
        struct json_object *o = json_object_new_object(), *events = json_object_new_array();
        char text[MEASURE_DIGEST_TEXT_SIZE];

        (void) json_object_object_add(o, "Uuid", json_object_new_string(q->uuid));
        (void) json_object_object_add(
                o, "MeasurementState",
                json_object_new_string(string_table_name(&quote_state_table, q->state)));
        (void) json_object_object_add(o, "MeasurementDigest", json_object_new_string(digest));
        (void) json_object_object_add(o, "MeasureLimit", json_object_new_uint64(q->limit));
        for (unsigned i = 0; i < q->log.n; i++) {
                const struct measure_record *r = &q->log.records[i];
                struct json_object *e = json_object_new_object();

                hex_encode(r->digest, MEASURE_DIGEST_SIZE, text);
                (void) json_object_object_add(
                        e, "Event",
                        json_object_new_string(string_table_name(&measure_event_table, r->event)));
                (void) json_object_object_add(e, "Vp", json_object_new_uint64(r->vp));
                (void) json_object_object_add(e, "Data0", json_object_new_uint64(r->data[0]));
                (void) json_object_object_add(e, "Data1", json_object_new_uint64(r->data[1]));
                (void) json_object_object_add(e, "Digest", json_object_new_string(text));
                (void) json_object_array_add(events, e);
        }
        (void) json_object_object_add(o, "Events", events);
        (void) json_object_object_add(o, "EventsLost", json_object_new_uint64(q->log.lost));
        print_json(o, JSON_C_TO_STRING_PRETTY);
        (void) json_object_put(o);
}

static void show(const struct vtlctl *c, const struct quote *q, const char *path) {
        static const uint8_t none[MEASURE_DIGEST_SIZE];
        char digest[MEASURE_DIGEST_TEXT_SIZE] = "", id[SIGNATURE_KEY_ID_TEXT_SIZE];

        if (memcmp(q->measurement, none, sizeof(none)) != 0)
                hex_encode(q->measurement, MEASURE_DIGEST_SIZE, digest);
        if (c->json) {
                show_json(q, digest);
                return;
        }
        hex_encode(q->key_id, sizeof(q->key_id), id);
        (void) printf("%s: signed with the key %s, fresh, log intact\nVM %s: VTL1 %s%s%s\n", path,
                      id, q->uuid, string_table_name(&quote_state_table, q->state),
                      digest[0] ? ", " : "", digest);
        if (q->log.lost > 0)
                (void) printf("%" PRIu64 " events are missing from its log\n", q->log.lost);
}

static int read_file(const char *path, size_t max, char **ret, size_t *ret_len, char *error) {
        _cleanup_(cleanup_snapshot) struct snapshot *s = snapshot_new();
        int r = s ? snapshot_read(s, path, max, ret, ret_len) : -ENOMEM;

        return r < 0 ? conf_error(error, r, path, "%s",
                                  r == -EBADF ? "not a regular file" : strerror(-r))
                     : 0;
}

static int load_key(const char *path, struct keyring *k, char *error) {
        _cleanup_free_ char *pem = NULL;
        size_t len;
        int r = read_file(path, KEYRING_KEY_FILE_MAX, &pem, &len, error);

        return r < 0 ? r : keyring_add(k, pem, len, path, error);
}

static int verify_quote(struct vtlctl *c, const char *path) {
        _cleanup_(cleanup_keyring) struct keyring *k = NULL;
        _cleanup_free_ struct quote *q = NULL;
        _cleanup_free_ char *text = NULL;
        uint8_t nonce[QUOTE_NONCE_MAX];
        char error[CONF_ERROR_SIZE] = "";
        size_t nonce_size = 0, len;
        int r;

        if (!c->policy_options[POLICY_OPTION_KEY] || !c->options[VTLCTL_OPTION_NONCE])
                return vtlctl_bad_usage("quote verify needs --key= and --nonce=");
        if (parse_nonce(c->options[VTLCTL_OPTION_NONCE], nonce, &nonce_size) < 0)
                return bad_nonce();
        q = calloc(1, sizeof(*q));
        r = q ? keyring_new(&k, error) : -ENOMEM;
        if (r >= 0)
                r = load_key(c->policy_options[POLICY_OPTION_KEY], k, error);
        if (r >= 0)
                r = read_file(path, QUOTE_TEXT_MAX, &text, &len, error);
        if (r >= 0)
                r = quote_parse(text, len, path, q, error);
        if (r >= 0)
                r = quote_verify(k, q, nonce, nonce_size, path, error);
        if (r < 0)
                return complain(error, r);
        show(c, q, path);
        return EXIT_SUCCESS;
}

int verb_quote(struct vtlctl *c, int argc, char **argv) {
        if (strcmp(argv[0], "key") == 0 && argc == 1)
                return get_key(c);
        if (strcmp(argv[0], "verify") == 0)
                return argc == 2 ? verify_quote(c, argv[1])
                                 : vtlctl_bad_usage("quote verify needs the file of a quote");
        if (argc > 1)
                return vtlctl_bad_usage("too many arguments");
        return get_quote(c, argv[0]);
}
