/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/blob.h"
#include "util/util.h"

#define ROOM_MIN 4096u

void blob_free(struct blob *b) {
        free(b->data);
        *b = (struct blob) BLOB_EMPTY;
}

static bool make_room(struct blob *b, size_t n) {
        size_t room = MAX(b->room, (size_t) ROOM_MIN);
        uint8_t *data;

        if (b->error < 0)
                return false;
        while (room - b->size < n && room <= SIZE_MAX / 2)
                room *= 2;
        if (room - b->size < n) {
                b->error = -ENOMEM;
                return false;
        }
        if (room == b->room)
                return true;
        data = realloc(b->data, room);
        if (!data) {
                b->error = -ENOMEM;
                return false;
        }
        b->data = data;
        b->room = room;
        return true;
}

void blob_put(struct blob *b, const void *data, size_t n) {
        if (n == 0 || !make_room(b, n))
                return;
        memcpy(b->data + b->size, data, n);
        b->size += n;
}

void blob_begin(struct blob *b, uint64_t magic) {
        blob_put(b, &magic, sizeof(magic));
}

void blob_open(struct blob *b, uint32_t id, uint32_t version, uint32_t index) {
        const struct blob_section s = { .id = id, .version = version, .index = index };

        b->open = b->size;
        blob_put(b, &s, sizeof(s));
}

void blob_close(struct blob *b) {
        static const uint8_t zeros[8];
        uint64_t size;

        if (b->error < 0)
                return;
        size = b->size - b->open - sizeof(struct blob_section);
        memcpy(b->data + b->open + offsetof(struct blob_section, size), &size, sizeof(size));
        b->open = SIZE_MAX;
        blob_put(b, zeros, blob_padding(size));
}

int blob_finish(struct blob *b) {
        blob_open(b, BLOB_END, 0, 0);
        blob_close(b);
        return b->error;
}

int blob_read(struct blob_reader *r, const void *data, size_t size, uint64_t magic) {
        *r = (struct blob_reader){ .data = data, .size = size, .at = sizeof(magic) };
        return size >= sizeof(magic) && memcmp(data, &magic, sizeof(magic)) == 0 ? 0 : -EBADMSG;
}

int blob_check_head(const struct blob_section *s) {
        if (s->reserved || (s->id == BLOB_END && (s->size || s->version || s->index)))
                return -EBADMSG;
        return 0;
}

int blob_next(struct blob_reader *r, struct blob_section *ret, const uint8_t **ret_data) {
        uint64_t left, padding;

        if (r->size - r->at < sizeof(*ret))
                return -EBADMSG;
        memcpy(ret, r->data + r->at, sizeof(*ret));
        r->at += sizeof(*ret);
        left = r->size - r->at;
        padding = blob_padding(ret->size);
        if (blob_check_head(ret) < 0 || ret->size > left || padding > left - ret->size)
                return -EBADMSG;
        if (ret->id == BLOB_END)
                return left == 0 ? 0 : -EBADMSG;
        *ret_data = r->data + r->at;
        r->at += ret->size + padding;
        for (uint64_t i = 0; i < padding; i++)
                if (r->data[r->at - 1 - i])
                        return -EBADMSG;
        return 1;
}
