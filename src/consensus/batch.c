#include "consensus/batch.h"

#include <stdlib.h>
#include <string.h>

#include "consensus/entries.h"
#include "tessera/base/buf.h"

enum { BATCH_VERSION = 1 };

size_t batch_size(unsigned count, size_t bytes)
{
    size_t size = BATCH_HEAD + (size_t)count * BATCH_COMMAND_HEAD + bytes;
    return (size + 7) & ~(size_t)7;
}

static char *put_le(char *at, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *at++ = (char)(uint8_t)(v >> (8 * i));
    }
    return at;
}

struct payload *batch_encode(int64_t wall_us, const struct batch_command *commands, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        bytes += commands[i].size;
    }
    size_t size = batch_size(count, bytes);
    struct payload *p = payload_new(NULL, size);
    if (!p) {
        return NULL;
    }
    char *at = p->data;
    at = put_le(at, BATCH_VERSION, 1);
    at = put_le(at, (uint64_t)wall_us, 8);
    at = put_le(at, count, 4);
    for (unsigned i = 0; i < count; i++) {
        memcpy(at, commands[i].id, COMMAND_ID_SIZE);
        at = put_le(at + COMMAND_ID_SIZE, commands[i].size, 4);
        if (commands[i].size) {
            memcpy(at, commands[i].data, commands[i].size);
        }
        at += commands[i].size;
    }
    memset(at, 0, size - (size_t)(at - p->data));
    return p;
}

/* Walk the batch; fills @commands unless it is NULL. */
static int batch_walk(struct reader *r, unsigned count, struct fsm_command *commands)
{
    for (unsigned i = 0; i < count; i++) {
        const void *id = read_bytes(r, COMMAND_ID_SIZE);
        size_t size;
        const void *data = read_blob(r, &size);
        if (r->failed || size > COMMAND_BYTES_MAX) {
            return TSR_EPROTO;
        }
        if (commands) {
            memset(&commands[i], 0, sizeof commands[i]);
            memcpy(commands[i].id, id, COMMAND_ID_SIZE);
            commands[i].data = data;
            commands[i].size = size;
        }
    }
    return reader_left(r) < 8 ? 0 : TSR_EPROTO;
}

static int batch_head(struct reader *r, int64_t *wall_us_out, unsigned *count_out)
{
    uint8_t version = read_u8(r);
    *wall_us_out = (int64_t)read_u64(r);
    *count_out = read_u32(r);
    if (!r->failed && version > BATCH_VERSION) {
        return TSR_ENOTSUP; /* whatever follows */
    }
    bool bad =
        r->failed || version != BATCH_VERSION || *count_out > reader_left(r) / BATCH_COMMAND_HEAD;
    return bad ? TSR_EPROTO : 0;
}

int batch_check(const void *data, size_t size)
{
    struct reader r = reader_of(data, size);
    int64_t wall_us;
    unsigned count;
    int rc = batch_head(&r, &wall_us, &count);
    return rc ? rc : batch_walk(&r, count, NULL);
}

int batch_decode(const void *data, size_t size, int64_t *wall_us_out,
                 struct fsm_command **commands_out, unsigned *count_out)
{
    struct reader r = reader_of(data, size);
    *commands_out = NULL;
    int rc = batch_head(&r, wall_us_out, count_out);
    if (rc) {
        return rc;
    }
    if (*count_out == 0) {
        return batch_walk(&r, 0, NULL);
    }
    struct fsm_command *commands = calloc(*count_out, sizeof *commands);
    if (!commands) {
        return TSR_ENOMEM;
    }
    rc = batch_walk(&r, *count_out, commands);
    if (rc) {
        free(commands);
        return rc;
    }
    *commands_out = commands;
    return 0;
}
