/* Heads of the chunk calls between hosts, little-endian, all of fixed layout (docs/formats.md):
 *
 *   CHUNK_HAVE    session 16, count u32, ids         -> head: one byte an id, 1 = here
 *   CHUNK_PUT     session 16, id 32; body: data      -> head: existed u8
 *   CHUNK_GET     id 32                              -> body: data
 *   MANIFEST_GET  id 32                              -> body: encoded manifest
 *   SEAL          session 16, id 32; body: manifest  -> code 0, or TSR_ENOENT with body: missing
 * ids SESSION_END   session 16
 */
#ifndef REPLICA_WIRE_H
#define REPLICA_WIRE_H

#include <string.h>

#include "tessera/chunk.h"

enum {
    WIRE_SESSION_ID = SESSION_ID_SIZE + 32, /* head of CHUNK_PUT and SEAL */
    WIRE_HAVE_ONE = SESSION_ID_SIZE + 4 + 32,
    WIRE_HAVE_MAX = 16 * 1024, /* ids in one question */
};

static inline void wire_session_id(uint8_t *out, const uint8_t *session, const struct chunk_id *id)
{
    memcpy(out, session, SESSION_ID_SIZE);
    memcpy(out + SESSION_ID_SIZE, id->bytes, 32);
}

static inline void wire_have_one(uint8_t *out, const uint8_t *session, const struct chunk_id *id)
{
    static const uint8_t one[4] = {1, 0, 0, 0};
    memcpy(out, session, SESSION_ID_SIZE);
    memcpy(out + SESSION_ID_SIZE, one, 4);
    memcpy(out + SESSION_ID_SIZE + 4, id->bytes, 32);
}

#endif
